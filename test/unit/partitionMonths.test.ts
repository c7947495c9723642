import { describe, expect, it } from 'vitest';
import {
  addMonths,
  boundsOf,
  lowestIdOf,
  monthOfPartition,
  monthsBetween,
  monthsOfPreparing,
  partitionOf,
  preparingName,
} from '../../src/db/migrate/partitions/months.js';
import { countMonthsAhead, planMonths } from '../../src/db/migrate/partitions/planMonths.js';
import type { PartitionState } from '../../src/db/migrate/partitions/state.js';

describe('months', () => {
  it('begin with the first id of their first millisecond', () => {
    expect(lowestIdOf('2026-12')).toBe('01a22ee6-b000-0000-0000-000000000000');
    expect(Number(`0x${lowestIdOf('2026-12').replaceAll('-', '').slice(0, 12)}`)).toBe(
      Date.parse('2026-12-01T00:00:00Z'),
    );
    expect(boundsOf('2026-12', '2027-01')).toEqual([
      `'${lowestIdOf('2026-12')}'`,
      `'${lowestIdOf('2027-02')}'`,
    ]);
  });

  it('go on over the end of a year', () => {
    expect([addMonths('2026-12', 1), addMonths('2027-01', -2)]).toEqual(['2027-01', '2026-11']);
    expect(monthsBetween('2026-11', '2027-02')).toEqual([
      '2026-11',
      '2026-12',
      '2027-01',
      '2027-02',
    ]);
  });

  it('are read from the names of what is theirs, and from no other', () => {
    expect(monthOfPartition(partitionOf('2027-01'))).toBe('2027-01');
    expect(monthsOfPreparing(preparingName('2026-12', '2027-05'))).toEqual(['2026-12', '2027-05']);
    for (const name of [
      'microdollar_usage_default',
      'microdollar_usage_daily',
      'microdollar_usage',
    ]) {
      expect(monthOfPartition(name)).toBeNull();
    }
    expect(monthsOfPreparing('microdollar_usage_cost_check')).toBeNull();
  });
});

const state = (
  now: string,
  months: string[],
  rest: Partial<PartitionState> = {},
): PartitionState => ({
  kind: 'by id',
  isAnalyzed: true,
  partitions: months.map((month) => ({
    name: partitionOf(month),
    month,
    isDefault: false,
    rows: 0,
    bytes: 0,
  })),
  preparing: null,
  detached: [],
  nowMs: Date.parse(now),
  ...rest,
});
const madeBy = (now: string, months: string[], rest: Partial<PartitionState> = {}) =>
  planMonths(state(now, months, rest))
    .filter(({ kind }) => kind === 'create_table')
    .map(({ subject }) => subject.replaceAll('microdollar_usage_', ''));

describe('the months that are prepared', () => {
  it('are those that have not begun, six ahead', () => {
    expect(madeBy('2026-10-15T12:00:00Z', [])).toEqual([
      '2026_11, 2026_12, 2027_01, 2027_02, 2027_03, 2027_04',
    ]);
  });

  it('leave out one that begins within two days', () => {
    expect(madeBy('2026-11-28T23:59:59Z', [])[0]).toMatch(/^2026_12, /);
    expect(madeBy('2026-11-29T00:00:01Z', [])[0]).toMatch(/^2027_01, /);
    expect(madeBy('2026-12-31T23:59:59Z', [])[0]).toMatch(/^2027_02, /);
  });

  it('are more when fewer than three are left, and follow on them without a gap', () => {
    const until = (last: string) => monthsBetween('2026-09', last);
    expect(countMonthsAhead(state('2026-11-01T00:00:00Z', until('2027-02')))).toBe(3);
    expect(madeBy('2026-11-01T00:00:00Z', until('2027-02'))).toEqual([]);
    expect(madeBy('2026-12-01T00:00:00Z', until('2027-02'))).toEqual([
      '2027_03, 2027_04, 2027_05, 2027_06',
    ]);
  });

  it('skip those that went by while nobody prepared any', () => {
    expect(madeBy('2027-08-10T00:00:00Z', ['2026-12'])[0]).toMatch(/^2027_09, /);
  });
});

describe('a run that was ended', () => {
  const preparing = (isValidated: boolean) => ({
    name: preparingName('2026-12', '2026-12'),
    first: '2026-12',
    last: '2026-12',
    isValidated,
  });
  const kinds = (now: string, isValidated: boolean) =>
    planMonths(state(now, [], { preparing: preparing(isValidated) })).map(({ kind }) => kind);
  const rest = ['create_table', 'validate_constraint', 'attach_partition'];

  it('is gone on with, without another check', () => {
    expect(kinds('2026-11-20T00:00:00Z', false)).toEqual(rest);
  });

  it('lets the default partition have ids of months that would begin before they are proven', () => {
    expect(kinds('2026-11-30T12:00:00Z', false)[0]).toBe('alter_table');
    expect(kinds('2026-12-02T00:00:00Z', false)[0]).toBe('alter_table');
  });

  it('is gone on with at once where all is proven', () => {
    expect(kinds('2026-12-02T00:00:00Z', true)).toEqual(rest);
  });

  it('makes its tables anew', () => {
    const [made] = planMonths(
      state('2026-10-15T00:00:00Z', [], { detached: ['microdollar_usage_2026_11'] }),
    );
    expect(made?.statements[0]).toBe('drop table "microdollar_usage_2026_11"');
  });
});
