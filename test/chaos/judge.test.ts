import { describe, expect, it } from 'vitest';
import { EXA_ALLOWANCE_MICRODOLLARS } from '../faults/support/clientBook.js';
import type { Line } from './support/book.js';
import { gatherNotes, judgeRows, judgeTotals } from './support/judge.js';
import type { Stored } from './support/stored.js';

const AT = '2026-01-02T03:04:05.000000Z';

const sent = (id: string, at: number, cost: number, kind: 'usage' | 'exa' = 'usage'): Line => ({
  what: 'sent',
  at,
  kind,
  id,
  user: 'u',
  organization: null,
  cost,
});
const answered = (id: string, at: number, createdAt = AT): Line => ({
  what: 'answered',
  at,
  way: 'one',
  id,
  status: 'recorded',
  createdAt,
});
const total = (from: number, at: number, amount: number, own: string[] = []): Line => ({
  what: 'total',
  from,
  at,
  way: 'balance',
  key: 'payer u',
  total: String(amount),
  own,
});
const row = (cost: number, kind: 'usage' | 'exa' = 'usage'): Stored => ({
  place: 'table',
  kind,
  user: 'u',
  organization: null,
  cost: BigInt(cost),
  createdAt: AT,
});

const rowsWrong = (lines: Line[], stored: Record<string, Stored>) =>
  judgeRows(gatherNotes(lines), new Map(Object.entries(stored)));
const totalsWrong = (lines: Line[], stored: Record<string, Stored>) =>
  judgeTotals(gatherNotes(lines), new Map(Object.entries(stored)));

describe('rows against what the clients noted', () => {
  const whole = [sent('a', 1, 5), answered('a', 2)];

  it('holds when they agree, and when what was never answered is there or not', () => {
    expect(rowsWrong(whole, { a: row(5) })).toEqual([]);
    expect(rowsWrong([...whole, sent('b', 3, 1)], { a: row(5) })).toEqual([]);
    expect(rowsWrong([...whole, sent('b', 3, 1)], { a: row(5), b: row(1) })).toEqual([]);
  });

  it.each<[string, Line[], Record<string, Stored>, RegExp]>([
    ['missing', whole, {}, /acknowledged .* and missing/],
    ['otherwise', whole, { a: row(6) }, /otherwise/],
    [
      'at another time',
      [sent('a', 1, 5), answered('a', 2, '2026-01-02T03:04:06Z')],
      { a: row(5) },
      /time/,
    ],
    ['recorded twice', [...whole, answered('a', 3)], { a: row(5) }, /more than once/],
    ['not sent', whole, { a: row(5), b: row(1) }, /nobody sent/],
    ['refused', [...whole, { what: 'refused', way: 'bad', id: 'a' }], { a: row(5) }, /refused/],
  ])('finds what is %s', (_, lines, stored, expected) => {
    const problems = rowsWrong(lines, stored);
    expect(problems).toHaveLength(1);
    expect(problems[0]).toMatch(expected);
  });
});

describe('totals against what was acknowledged and sent', () => {
  // `a` is acknowledged before 10; `b` is in flight from 5 to 20; `c`, a refund, from 12 on.
  const lines = [sent('a', 1, 100), answered('a', 2), sent('b', 5, 10), answered('b', 20)];
  const withRefund = [...lines, sent('c', 12, -7), answered('c', 30)];
  const stored = { a: row(100), b: row(10), c: row(-7) };

  it.each([
    [10, 11, [], [100, 110]],
    [10, 15, [], [93, 110]],
    [10, 15, ['b'], [103, 110]],
    [21, 22, [], [103, 110]],
    [31, 32, [], [103, 103]],
  ])('asked at %i, answered at %i with own %j: %j', (from, at, own, [low = 0, high = 0]) => {
    for (const amount of [low, high]) {
      expect(totalsWrong([...withRefund, total(from, at, amount, own)], stored)).toEqual([]);
    }
    for (const amount of [low - 1, high + 1]) {
      expect(totalsWrong([...withRefund, total(from, at, amount, own)], stored)).toHaveLength(1);
    }
  });

  it('does not count what was rolled back, and of Exa only what passes the allowance', () => {
    const { a, b } = { a: row(EXA_ALLOWANCE_MICRODOLLARS + 3, 'exa'), b: row(1) };
    const exa = [sent('a', 1, Number(a.cost), 'exa'), answered('a', 2), sent('gone', 1, 50)];
    expect(totalsWrong([...exa, sent('b', 1, 1), total(5, 6, 3)], { a, b })).toEqual([]);
    expect(totalsWrong([...exa, sent('b', 1, 1), total(5, 6, 4)], { a, b })).toEqual([]);
    expect(totalsWrong([...exa, sent('b', 1, 1), total(5, 6, 54)], { a, b })).toHaveLength(1);
  });
});
