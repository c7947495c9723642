import { randomUUID } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { BudgetFolder } from '../../src/budgets/folder.js';
import { Holds } from '../../src/budgets/holds.js';
import { BudgetKeeper } from '../../src/budgets/keeper.js';
import type { ReservedAlikeRow } from '../../src/budgets/reserveAlike.sql.js';
import type { Query } from '../../src/db/query.js';

const PAYER = { kilo_user_id: 'payer', organization_id: null };
const AMOUNT = 5_000;

function openKeeper() {
  let folds = 0;
  const folder = { foldSome: async () => folds++ } as unknown as BudgetFolder;
  const query: Query = async () => [];
  const keeper = new BudgetKeeper({ query, folder, onError: () => {} });
  const foldsAfter = async (ms: number) => {
    vi.advanceTimersByTime(ms);
    await keeper.foldDue();
    return folds;
  };
  const close = (holds: number, ofPlenty: boolean) => {
    for (let n = 0; n < holds; n++) keeper.closed(PAYER, ofPlenty);
  };
  return { keeper, close, foldsAfter };
}

describe('a payer whose holds were closed', () => {
  beforeEach(() => {
    vi.useFakeTimers();
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  it('is folded within three seconds, or after 32 of them', async () => {
    const { close, foldsAfter } = openKeeper();
    close(31, false);
    expect(await foldsAfter(2_900)).toBe(0);
    expect(await foldsAfter(200)).toBe(1);
    close(32, false);
    expect(await foldsAfter(0)).toBe(2);
  });

  it('is folded within ten seconds, or after 64 of them, where plenty is left', async () => {
    const { close, foldsAfter } = openKeeper();
    close(63, true);
    expect(await foldsAfter(9_900)).toBe(0);
    expect(await foldsAfter(200)).toBe(1);
    close(64, true);
    expect(await foldsAfter(0)).toBe(2);
  });

  it('is folded as soon as the one hold asks that may be missed', async () => {
    const { close, foldsAfter } = openKeeper();
    close(31, true);
    close(1, false);
    expect(await foldsAfter(0)).toBe(1);
    close(1, true);
    close(1, false);
    close(1, true);
    expect(await foldsAfter(2_900)).toBe(1);
    expect(await foldsAfter(200)).toBe(2);
  });

  it('is folded within a second where its usage is to be told of, however much is left', async () => {
    const { keeper, close, foldsAfter } = openKeeper();
    close(1, true);
    keeper.used(PAYER);
    expect(await foldsAfter(1_100)).toBe(1);
  });
});

describe('a hold that is closed', () => {
  it.each([
    ['a thousand times as much', AMOUNT * 1_000, true],
    ['less than that', AMOUNT * 1_000 - 1, false],
  ])('is of plenty where %s was left', async (_, available, ofPlenty) => {
    const row: ReservedAlikeRow = { available: String(available), created_micros: '0' };
    const query = (async () => [row]) as unknown as Query;
    const folder = null as unknown as BudgetFolder;
    const closed: boolean[] = [];
    const onClosed = (_payer: unknown, isPlenty: boolean) => closed.push(isPlenty);
    const holds = new Holds({ query, folder, slot: 0, onClosed });
    const id = randomUUID();
    await holds.hold({ id, ...PAYER, amount: AMOUNT }, null, { nulBytesRemoved: 0 });
    holds.noteUsage({ id, ...PAYER });
    holds.noteUsage({ id, ...PAYER });
    expect(closed).toEqual([ofPlenty]);
  });
});
