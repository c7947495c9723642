import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { percentileMs } from '../../src/server/operations/liveSampler.js';
import { RowRate } from '../../src/server/operations/rowRate.js';
import {
  describeChange,
  formatAmount,
  formatAxisAmount,
  formatCount,
  formatExact,
  sumMicrodollars,
} from '../../src/web/amounts.js';
import { labelStep, niceTicks, textWidth } from '../../src/web/charts/ticks.js';
import {
  countDays,
  formatRange,
  isDay,
  listDays,
  listMonths,
  listWeeks,
  monthsBefore,
  shiftDays,
  weekdayOf,
} from '../../src/web/days.js';
import { toStretches, toWeeks } from '../../src/web/operations/coverageCalendar.js';

describe('amounts', () => {
  it('have cents from ten cents up, three significant digits below, and zero only for zero', () => {
    const shown = [
      [1_234_565_000, '$1,234.57'],
      [-1_234_565_000, '-$1,234.57'],
      [104_999, '$0.10'],
      [99_999, '$0.10'],
      [12_345, '$0.0123'],
      [4_999, '$0.005'],
      [1_250, '$0.00125'],
      [12, '$0.000012'],
      [-1, '-$0.000001'],
      [0, '$0.00'],
      ['0', '$0.00'],
      ['9007199254740993000', '$9,007,199,254,740.99'],
    ] as const;
    for (const [amount, text] of shown) expect(formatAmount(amount)).toBe(text);
    expect(formatAmount(0n)).toBe('$0.00');
    expect(formatExact(-1)).toBe('-$0.000001');
    expect(formatCount('9007199254740993')).toBe('9,007,199,254,740,993');
    expect(formatExact(9_007_199_254_740_993n)).toBe('$9,007,199,254.740993');
  });

  it('never look like zero when they are none, whatever their size', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: -(10n ** 15n), max: 10n ** 15n }), (amount) => {
        const isZero = /^-?\$0(\.0*)?$/.test(formatAmount(amount));
        expect(isZero).toBe(amount === 0n);
      }),
    );
  });

  it('are told apart on an axis, whatever its step', () => {
    for (const high of [3, 900, 12_000, 450_000, 7_000_000, 123_000_000, 9e15, 3e18]) {
      const { values, step } = niceTicks(0, high, 4);
      const labels = values.map((value) => formatAxisAmount(value, step));
      expect(new Set(labels).size).toBe(values.length);
      expect(Math.max(...labels.map(({ length }) => length))).toBeLessThan(12);
    }
    expect(formatAxisAmount(0, 1_000_000)).toBe('$0');
    expect(formatAxisAmount(250_000, 250_000)).toBe('$0.25');
    expect(formatAxisAmount(20, 10)).toBe('$0.00002');
  });

  it('sum exactly past 2^53', () => {
    const amount = Number.MAX_SAFE_INTEGER;
    expect(sumMicrodollars([amount, amount, 1])).toBe(2n * BigInt(amount) + 1n);
  });

  it('are compared with what came before, where that says something', () => {
    expect(describeChange(150n, 100n)).toBe('50% more than');
    expect(describeChange(1n, 3n)).toBe('67% less than');
    expect(describeChange(1_001n, 1_000n)).toBe('0.1% more than');
    expect(describeChange(55_000_000n, 55_010_000n)).toBe('hardly less than');
    expect(describeChange(100n, 100n)).toBe('the same as');
    expect([describeChange(5n, 0n), describeChange(5n, -1n)]).toEqual([null, null]);
  });
});

describe('ticks', () => {
  it('span what they are for, with zero among them where it lies within', () => {
    const { values, low, high } = niceTicks(-30, 100, 4);
    expect(low).toBeLessThanOrEqual(-30);
    expect(high).toBeGreaterThanOrEqual(100);
    expect(values).toContain(0);
    expect(niceTicks(0, 0, 4).values).toEqual([0, 1]);
    expect(niceTicks(0, 3, 4).step).toBe(1);
  });

  it('are labelled as often as there is room', () => {
    expect(labelStep([1, 2, 7, 14], 10, 60)).toBe(7);
    expect(labelStep([1, 2, 7, 14], 1, 60)).toBe(14);
    // DejaVu Sans, 12 px: 44.7.
    expect(textWidth('200 ms')).toBeGreaterThan(44.7);
  });
});

describe('days', () => {
  it('count as the calendar does, over leap years and month ends', () => {
    expect(monthsBefore('2027-05-31', 3)).toBe('2027-02-28');
    expect(monthsBefore('2028-05-31', 3)).toBe('2028-02-29');
    expect(shiftDays('2026-03-01', -1)).toBe('2026-02-28');
    expect(countDays('2026-02-28', '2026-03-01')).toBe(2);
    expect(listDays('2026-10-24', '2026-10-26')).toEqual([
      '2026-10-24',
      '2026-10-25',
      '2026-10-26',
    ]);
    expect(listWeeks('2026-11-25', '2026-12-07')).toEqual([
      '2026-11-23',
      '2026-11-30',
      '2026-12-07',
    ]);
    expect(listMonths('2026-11-25', '2027-01-01')).toEqual([
      '2026-11-01',
      '2026-12-01',
      '2027-01-01',
    ]);
    expect(weekdayOf('2026-11-22')).toBe(6);
    expect([isDay('2026-02-30'), isDay('2026-2-3'), isDay('')]).toEqual([false, false, false]);
  });

  it('that are one are told once', () => {
    expect(formatRange({ from: '2026-11-22', until: '2026-11-22' })).toBe('22 Nov 2026');
    expect(formatRange({ from: '2026-11-21', until: '2026-11-22' })).toBe(
      '21 Nov 2026 to 22 Nov 2026',
    );
  });

  it('shift there and back again', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 40_000 }),
        fc.integer({ min: -3_000, max: 3_000 }),
        (epochDay, days) => {
          const day = new Date(epochDay * 86_400_000).toISOString().slice(0, 10);
          expect(shiftDays(shiftDays(day, days), -days)).toBe(day);
          const expected = new Date((epochDay + days) * 86_400_000).toISOString().slice(0, 10);
          if (epochDay + days >= 0) expect(shiftDays(day, days)).toBe(expected);
        },
      ),
    );
  });
});

describe('the coverage calendar', () => {
  const day = (text: string, driftKeys = 0) => ({
    day: text,
    state: 'verified' as const,
    rawRows: 1,
    driftKeys,
  });

  it('puts Mondays on top and names months', () => {
    const weeks = toWeeks(['2026-10-31', '2026-11-01', '2026-11-02'].map((text) => day(text)));
    expect(weeks).toHaveLength(2);
    expect(weeks[0]?.month).toBe('Nov 2026');
    expect(weeks[0]?.days.map((each) => each?.day ?? null)).toEqual([
      null,
      null,
      null,
      null,
      null,
      '2026-10-31',
      '2026-11-01',
    ]);
    expect(weeks[1]?.days[0]?.day).toBe('2026-11-02');
  });

  it('tells stretches in words, drift before everything', () => {
    expect(toStretches([day('2026-11-01'), day('2026-11-02', 1), day('2026-11-03')])).toEqual([
      { state: 'verified', from: '2026-11-01', until: '2026-11-01', days: 1 },
      { state: 'drift', from: '2026-11-02', until: '2026-11-02', days: 1 },
      { state: 'verified', from: '2026-11-03', until: '2026-11-03', days: 1 },
    ]);
  });
});

describe('live figures', () => {
  it('read percentiles from cumulative buckets', () => {
    const buckets = [
      { upTo: 0.001, count: 50 },
      { upTo: 0.002, count: 90 },
      { upTo: Number.POSITIVE_INFINITY, count: 100 },
    ];
    expect(percentileMs(buckets, 0.5)).toBe(1);
    expect(percentileMs(buckets, 0.7)).toBe(1.5);
    expect(percentileMs(buckets, 0.99)).toBe(2);
    expect(percentileMs([{ upTo: 1, count: 0 }], 0.5)).toBeNull();
  });

  it('tell the rate of a backfill from readings, and begin anew with it', () => {
    const rate = new RowRate();
    expect(rate.observe(0, 0)).toBeNull();
    expect(rate.observe(500, 1_000)).toBe(500);
    expect(rate.observe(2_000, 2_000)).toBe(1_000);
    expect(rate.observe(10, 3_000)).toBeNull();
    // Readings of half a minute ago say nothing of now.
    expect(rate.observe(10, 60_000)).toBeNull();
  });
});
