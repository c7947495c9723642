import { describe, expect, it } from 'vitest';
import {
  type ExpiryState,
  type GrantsState,
  LATE_MS,
  settleExpiries,
} from '../../src/accounts/grants/settlement.js';
import { type CreditEntry, Waterfall } from '../../src/accounts/grants/waterfall.js';

const HOUR = 3_600_000_000n;

let nextAt = 0n;
const credit = (id: string, amount: bigint, more: Partial<CreditEntry> = {}): CreditEntry => ({
  id,
  kind: 'credit',
  amount,
  grantId: null,
  expiresAt: null,
  priority: 0,
  createdAt: nextAt++,
  used: null,
  ...more,
});
const expiry = (grantId: string, used: bigint, amount = 0n): CreditEntry =>
  credit(`${grantId} expired`, amount, { kind: 'expiry', grantId, used });
const expiring = (id: string, amount: bigint, inHours: bigint, more: Partial<CreditEntry> = {}) =>
  credit(id, amount, { expiresAt: inHours * HOUR, ...more });

/** What is left of each grant once so much was used. */
function leftOf(used: bigint, ...entries: CreditEntry[]): Record<string, number> {
  const waterfall = new Waterfall(entries);
  waterfall.advance(used);
  const { lots, loose, debt } = waterfall;
  const left = lots.map((lot) => [lot.entry.id, Number(lot.left)] as const);
  return { ...Object.fromEntries(left), loose: Number(loose), debt: Number(debt) };
}

describe('grants are used', () => {
  it('soonest to expire first, then by priority, then the oldest', () => {
    const grants = [
      credit('never', 10n),
      expiring('late', 10n, 9n),
      expiring('second', 10n, 5n, { priority: 1 }),
      expiring('first', 10n, 5n, { priority: -1 }),
      expiring('third', 10n, 5n, { priority: 1 }),
    ];
    const all = { never: 10, late: 10, second: 10, first: 10, third: 10, loose: 0, debt: 0 };
    expect(leftOf(0n, ...grants)).toEqual(all);
    expect(leftOf(12n, ...grants)).toEqual({ ...all, first: 0, second: 8 });
    expect(leftOf(31n, ...grants)).toEqual({ ...all, first: 0, second: 0, third: 0, late: 9 });
    expect(leftOf(53n, ...grants)).toMatchObject({ late: 0, never: 0, debt: 3 });
  });

  it('by what is used once they are there, and pay a debt of before', () => {
    const before = credit('before', 10n, { used: 0n });
    const grant = expiring('grant', 5n, 1n, { used: 8n });
    expect(leftOf(8n, before, grant)).toMatchObject({ before: 2, grant: 5 });
    expect(leftOf(9n, before, grant)).toMatchObject({ before: 2, grant: 4 });
    const late = expiring('grant', 5n, 1n, { used: 13n });
    expect(leftOf(13n, before, late)).toMatchObject({ before: 0, grant: 2, debt: 0 });
    expect(leftOf(20n, before, late)).toMatchObject({ grant: 0, debt: 5 });
  });

  it('the other way round by refunds, which revive no expired grant', () => {
    const entries = [
      credit('never', 10n, { used: 0n }),
      expiring('soon', 10n, 1n, { used: 0n }),
      expiring('later', 10n, 2n, { used: 0n }),
    ];
    expect(leftOf(15n, ...entries)).toMatchObject({ soon: 0, later: 5, never: 10 });
    expect(leftOf(7n, ...entries)).toMatchObject({ soon: 3, later: 10, never: 10 });
    const gone = [...entries, expiry('soon', 15n)];
    expect(leftOf(12n, ...gone)).toMatchObject({ soon: 0, later: 8, loose: 0 });
    expect(leftOf(7n, ...gone)).toMatchObject({ soon: 0, later: 10, never: 10, loose: 3 });
    const after = [...gone, credit('more', 1n, { used: 7n })];
    expect(leftOf(28n, ...after)).toMatchObject({ later: 0, never: 0, more: 0, loose: 3 });
    expect(leftOf(32n, ...after)).toMatchObject({ loose: 0, debt: 1 });
  });

  it('and taken back from the other end', () => {
    const entries = [expiring('soon', 10n, 1n), credit('never', 10n), credit('back', -12n)];
    expect(leftOf(0n, ...entries)).toEqual({ soon: 8, never: 0, loose: 0, debt: 0 });
    expect(leftOf(0n, credit('back', -3n), credit('never', 10n))).toMatchObject({ never: 7 });
  });
});

const at = (hours: bigint, expiries: Partial<ExpiryState>[], state: Partial<GrantsState>) => ({
  now: hours * HOUR,
  acquired: 0n,
  used: 0n,
  entries: [],
  mark: { below: '0', except: '{}' },
  ...state,
  expiries: expiries.map((each) => ({
    grantId: 'grant',
    expiresAt: HOUR,
    left: null,
    late: 0n,
    lateBefore: 0n,
    isClosed: false,
    usedSince: 0n,
    usedLate: 0n,
    held: 0n,
    ...each,
  })),
});

describe('an expiry', () => {
  const grant = expiring('grant', 10n, 1n, { used: 0n });
  const never = credit('never', 10n, { used: 0n });
  const stepOf = (state: GrantsState, available: bigint | null = null) =>
    settleExpiries(state, available).steps[0];

  it('comes with its time, and takes what usage of the time before has left', () => {
    const state = { entries: [grant, never], used: 7n };
    expect(settleExpiries(at(0n, [{}], state), null).steps).toEqual([]);
    expect(stepOf(at(1n, [{ usedSince: 3n }], state))).toMatchObject({
      expires: { used: 4n, left: 6n },
      lateBefore: 0n,
      amount: 6n,
      isClosed: false,
    });
  });

  it('leaves what is held from before, and takes it when that has ended', () => {
    const state = { entries: [grant, never], used: 2n };
    const first = stepOf(at(1n, [{ held: 5n }], state));
    expect(first).toMatchObject({ expires: { left: 8n }, amount: 3n });
    const expired = { entries: [grant, never, expiry('grant', 2n, -3n)] };
    const held = { left: 8n, held: 5n };
    expect(stepOf(at(2n, [held], { ...expired, used: 2n }))?.amount).toBe(0n);
    // The hold was settled for 4: that is what the grant paid.
    const settled = { left: 8n, held: 0n, usedLate: 4n };
    expect(stepOf(at(2n, [settled], { ...expired, used: 6n }))).toMatchObject({
      late: 4n,
      amount: 1n,
    });
  });

  it('is corrected by late usage, never beyond what had expired, and not after a day', () => {
    const entries = [grant, never, expiry('grant', 2n, -8n)];
    const late = at(2n, [{ left: 8n, usedLate: 5n }], { entries, used: 7n });
    expect(stepOf(late)).toMatchObject({ late: 5n, amount: -5n, isClosed: false });
    expect(settleExpiries(late, null).waterfall.lots.map(({ left }) => left)).toEqual([8n, 10n]);
    const more = at(2n, [{ left: 8n, usedLate: 11n }], { entries, used: 13n });
    expect(stepOf(more)).toMatchObject({ late: 8n, amount: -8n });
    expect(settleExpiries(more, null).waterfall.lots[1]?.left).toBe(7n);
    const day = BigInt(LATE_MS / 3_600_000);
    expect(stepOf(at(1n + day, [{ left: 8n }], { entries, used: 2n }))).toMatchObject({
      amount: 0n,
      isClosed: true,
    });
    const closed = { left: 8n, usedLate: 5n, isClosed: true };
    expect(stepOf(at(1n + day, [closed], { entries, used: 7n }))).toBeUndefined();
  });

  it('stays open as long as a hold from before is, and no longer than a debt of others', () => {
    const entries = [grant, expiry('grant', 2n, 0n)];
    const held = { left: 8n, held: 8n };
    expect(stepOf(at(50n, [held], { entries, used: 2n }))?.isClosed).toBe(false);
    // 8 were kept for the hold, which was given back after others had spent 3 that nobody covers.
    const state = at(50n, [{ left: 8n }], { entries, used: 5n });
    expect(stepOf(state, 5n)).toMatchObject({ amount: 5n, late: 3n, isClosed: true });
    expect(settleExpiries(state, 5n).waterfall.debt).toBe(0n);
    expect(stepOf(at(3n, [{ left: 8n }], { entries, used: 5n }), 5n)).toMatchObject({
      amount: 5n,
      late: 0n,
      isClosed: false,
    });
  });

  it('takes no more than the balance has beside what is held', () => {
    const state = at(1n, [{}], { entries: [grant], used: 2n });
    expect(stepOf(state, 6n)).toMatchObject({ expires: { left: 8n }, amount: 6n });
    expect(stepOf(state, 0n)).toMatchObject({ expires: { left: 8n }, amount: 0n });
  });

  it('of two at once: each pays late usage and holds of its own time once', () => {
    const second = expiring('second', 10n, 2n, { used: 0n });
    const entries = [grant, second];
    const due = [
      { usedSince: 4n, held: 3n },
      { grantId: 'second', expiresAt: 2n * HOUR, held: 5n },
    ];
    const { steps } = settleExpiries(at(3n, due, { entries, used: 8n }), null);
    // 4 of the first's time, 4 between: the second is the first in force then.
    expect(steps).toMatchObject([
      { grantId: 'grant', expires: { used: 4n, left: 6n }, amount: 3n },
      { grantId: 'second', expires: { used: 8n, left: 6n }, amount: 4n },
    ]);
    const expired = [...entries, expiry('grant', 4n, -6n), expiry('second', 8n, -6n)];
    // 9 of the first's time come late, and the second's time has them too.
    const open = [
      { left: 6n, usedLate: 9n },
      { grantId: 'second', expiresAt: 2n * HOUR, left: 6n, usedLate: 9n },
    ];
    const late = settleExpiries(at(3n, open, { entries: expired, used: 17n }), null);
    expect(late.steps).toMatchObject([
      { late: 6n, amount: -6n },
      { late: 3n, amount: -3n },
    ]);
    expect(late.waterfall.debt).toBe(0n);
  });
});
