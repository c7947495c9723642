import type { CreditKind } from '../../schema/credits.js';

/** A row of a payer's ledger of credits. Amounts in microdollars, instants in microseconds. */
export interface CreditEntry {
  id: string;
  kind: CreditKind;
  amount: bigint;
  grantId: string | null;
  expiresAt: bigint | null;
  priority: number;
  createdAt: bigint;
  /** What the payer had used by then, less late usage; null: as with the row before. */
  used: bigint | null;
}

/** What became of a grant. amount = left + used + taken, until it expires. */
export interface Lot {
  entry: CreditEntry;
  left: bigint;
  used: bigint;
  /** By credit that was taken back, or a debt of the time when it was granted. */
  taken: bigint;
  hasExpired: boolean;
}

const NEVER = 1n << 63n;

const min = (a: bigint, b: bigint): bigint => (a < b ? a : b);

/** Soonest to expire, then lowest priority, then oldest. */
function compare({ entry: a }: Lot, { entry: b }: Lot): number {
  const by = (x: bigint, y: bigint) => (x < y ? -1 : x > y ? 1 : 0);
  return (
    by(a.expiresAt ?? NEVER, b.expiresAt ?? NEVER) ||
    a.priority - b.priority ||
    by(a.createdAt, b.createdAt)
  );
}

/**
 * How much of each grant is used: a function of the payer's ledger and of what it used in all, nothing else.
 * Between two rows of the ledger the difference of what was used by then is spent: of the grants in
 * force at that time, the soonest to expire first. What goes back (refunds) goes the other way round.
 */
export class Waterfall {
  /** In the order in which they are used. */
  readonly lots: Lot[] = [];
  /** Came back when no grant in force had spent it: never expires, is used last. */
  loose = 0n;
  /** Used, or taken back, beyond what there was: the next grant pays it. */
  debt = 0n;
  #used = 0n;

  /** @param entries in order */
  constructor(entries: readonly CreditEntry[]) {
    for (const entry of entries) {
      if (entry.used !== null) this.advance(entry.used);
      if (entry.kind === 'credit') this.#credit(entry);
      else if (entry.kind === 'expiry') this.expire(entry.grantId ?? '');
    }
  }

  /** The payer has used so much by now. */
  advance(used: bigint): void {
    const change = used - this.#used;
    this.#used = used;
    if (change > 0n) this.#spend(change);
    else if (change < 0n) this.#giveBack(-change);
  }

  /** Takes the grant out of force; what was left of it. */
  expire(grantId: string): bigint {
    const lot = this.lots.find(({ entry }) => entry.id === grantId);
    if (!lot || lot.hasExpired) return 0n;
    lot.hasExpired = true;
    return lot.left;
  }

  #credit(entry: CreditEntry): void {
    if (entry.amount < 0n) {
      this.#takeBack(-entry.amount);
      return;
    }
    const taken = min(this.debt, entry.amount);
    this.debt -= taken;
    const lot = { entry, left: entry.amount - taken, used: 0n, taken, hasExpired: false };
    // From the end, where most belong: sorting each time takes a payer of a thousand a tenth of a second.
    const before = this.lots.findLastIndex((other) => compare(other, lot) <= 0);
    this.lots.splice(before + 1, 0, lot);
  }

  get #inForce(): Lot[] {
    return this.lots.filter(({ hasExpired }) => !hasExpired);
  }

  #spend(amount: bigint): void {
    let open = amount;
    for (const lot of this.#inForce) {
      if (open === 0n) return;
      const part = min(open, lot.left);
      lot.left -= part;
      lot.used += part;
      open -= part;
    }
    this.#spendLoose(open);
  }

  #spendLoose(amount: bigint): void {
    const part = min(amount, this.loose);
    this.loose -= part;
    this.debt += amount - part;
  }

  #giveBack(amount: bigint): void {
    const paid = min(amount, this.debt);
    this.debt -= paid;
    let open = amount - paid;
    for (const lot of this.#inForce.reverse()) {
      const part = min(open, lot.used);
      lot.left += part;
      lot.used -= part;
      open -= part;
    }
    this.loose += open;
  }

  /** From the other end: what never expires first. */
  #takeBack(amount: bigint): void {
    const part = min(amount, this.loose);
    this.loose -= part;
    let open = amount - part;
    for (const lot of this.#inForce.reverse()) {
      const share = min(open, lot.left);
      lot.left -= share;
      lot.taken += share;
      open -= share;
    }
    this.debt += open;
  }
}
