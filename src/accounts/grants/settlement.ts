import { type CreditEntry, Waterfall } from './waterfall.js';

/** An expiry as it is stored, with what a snapshot says of it. Amounts in microdollars. */
export interface ExpiryState {
  grantId: string;
  /** Microseconds, as all instants here. */
  expiresAt: bigint;
  /** Null: the grant has not expired yet. */
  left: bigint | null;
  late: bigint;
  /** Late usage that earlier ones had paid when this one expired, and what was counted of it since. */
  lateBefore: bigint;
  isClosed: boolean;
  /** Recorded usage of the time after the expiry: of one that is due. */
  usedSince: bigint;
  /** Usage from before the expiry that was recorded after it, and not counted yet: of one that is open. */
  usedLate: bigint;
  /** Open holds from before the expiry: of one that is due or open. */
  held: bigint;
}

/** A payer's ledger of credits in one snapshot. */
export interface GrantsState {
  now: bigint;
  acquired: bigint;
  /** Everything, exactly (I5). */
  used: bigint;
  /** In order. */
  entries: readonly CreditEntry[];
  expiries: readonly ExpiryState[];
  /** The end of the snapshot, and what was in progress in it, as positions. */
  mark: { below: string; except: string };
}

/** What is to be written of one expiry. */
export interface ExpiryStep {
  grantId: string;
  /** It expires now: the payer had used so much by then; else a correction, or nothing. */
  expires: { used: bigint; left: bigint } | null;
  /** Leaves the balance; negative: comes back. */
  amount: bigint;
  /** Should leave it too, and cannot now. */
  missing: bigint;
  late: bigint;
  lateBefore: bigint;
  /** Neither holds nor late usage can change it any more. */
  isOver: boolean;
  isClosed: boolean;
  /** When to look again. */
  lookInMs: number;
}

export interface Settlement {
  steps: ExpiryStep[];
  /** Late usage of all expired grants together, as it is stored after the steps. */
  late: bigint;
  /** Grants in force and expired, as they are after the steps. */
  waterfall: Waterfall;
}

/** For so long an expired grant pays late usage from before its expiry. */
export const LATE_MS = 24 * 3_600_000;
/** Money that cannot be withdrawn now, and money that is held. */
const MISSING_MS = 1_000;
const KEPT_MS = 10_000;
const MIN_LOOK_MS = 60_000;

const clamp = (value: bigint, most: bigint): bigint =>
  value < 0n ? 0n : value > most ? most : value;

/**
 * What the expiries of a payer come to, in one snapshot:
 *
 *   left      what was left of the grant by usage of the time before its expiry
 *   late      of that, paid for such usage that was recorded later
 *   kept      of the rest, what is held by holds from before the expiry
 *   expired = left - late - kept, of which what has left the balance is known: the step is the difference
 *
 * A function of the state; where nothing happened, it says so (`amount` 0).
 * @param available what can be withdrawn from the balance without passing what is held; null: anything
 */
export function settleExpiries(state: GrantsState, available: bigint | null): Settlement {
  const expired = new Map<string, bigint>();
  for (const { grantId, amount } of state.entries) {
    if (grantId !== null) expired.set(grantId, (expired.get(grantId) ?? 0n) - amount);
  }
  const waterfall = new Waterfall(state.entries);
  const steps: ExpiryStep[] = [];
  let room = available;
  let late = 0n;
  let kept = 0n;
  for (const each of inOrder(state.expiries, waterfall)) {
    if (each.isClosed || (each.left === null && each.expiresAt > state.now)) {
      late += each.late;
      continue;
    }
    let expires: ExpiryStep['expires'] = null;
    let ownLate = 0n;
    let lateBefore = late;
    if (each.left === null) {
      const used = state.used - late - each.usedSince;
      waterfall.advance(used);
      expires = { used, left: waterfall.expire(each.grantId) };
    } else {
      // What an earlier one paid since this one expired is not this one's to pay.
      lateBefore = each.lateBefore + each.usedLate;
      ownLate = clamp(lateBefore - late, each.left);
    }
    late += ownLate;
    const rest = (expires?.left ?? each.left ?? 0n) - ownLate;
    const ownKept = clamp(each.held - kept, rest);
    kept += ownKept;
    const wanted = rest - ownKept - (expired.get(each.grantId) ?? 0n);
    const amount = room !== null && wanted > 0n ? clamp(room, wanted) : wanted;
    if (room !== null) room -= amount;
    const ageMs = Number((state.now - each.expiresAt) / 1000n);
    const missing = wanted - amount;
    const restMs = Math.max(0, Math.min(Math.max(MIN_LOOK_MS, ageMs / 4), LATE_MS - ageMs));
    const isOver = ownKept === 0n && ageMs >= LATE_MS;
    steps.push({
      grantId: each.grantId,
      expires,
      amount,
      missing,
      late: ownLate,
      lateBefore,
      isOver,
      isClosed: isOver && missing === 0n,
      lookInMs: missing > 0n ? MISSING_MS : ownKept > 0n ? KEPT_MS : restMs,
    });
  }
  waterfall.advance(state.used - late);
  late += coverDebt(steps, waterfall);
  waterfall.advance(state.used - late);
  return { steps, late, waterfall };
}

/**
 * What is not withdrawn in time, since usage without a hold spent it beyond everything else, has paid for
 * that usage.
 * @returns microdollars
 */
function coverDebt(steps: readonly ExpiryStep[], { debt }: Waterfall): bigint {
  let covered = 0n;
  for (const step of steps) {
    if (!step.isOver || step.missing === 0n || step.missing > debt - covered) continue;
    step.late += step.missing;
    covered += step.missing;
    step.missing = 0n;
    step.isClosed = true;
  }
  return covered;
}

/** As the grants are used: who expires first pays late usage first. */
function inOrder(expiries: readonly ExpiryState[], { lots }: Waterfall): ExpiryState[] {
  const place = new Map(lots.map(({ entry }, index) => [entry.id, index]));
  const of = ({ grantId }: ExpiryState) => place.get(grantId) ?? lots.length;
  return [...expiries].sort((a, b) => of(a) - of(b));
}
