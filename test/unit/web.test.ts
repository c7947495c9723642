import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { percentileMs } from '../../src/server/operations/liveSampler.js';
import { RowRate } from '../../src/server/operations/rowRate.js';
import { formatCents, formatCount, formatExact, sumMicrodollars } from '../../src/web/amounts.js';
import { textCell, toCsv } from '../../src/web/csv.js';
import { toDailySeries } from '../../src/web/dailySeries.js';
import { isDay, listDays, shiftDays, threeMonthsBefore, weekdayOf } from '../../src/web/days.js';
import { chooseTier } from '../../src/web/kiloPass.js';
import { toStretches, toWeeks } from '../../src/web/operations/coverageCalendar.js';
import { presetRange, rangeProblem } from '../../src/web/profile/range.js';

describe('chooseTier', () => {
  it('takes the smallest that covers the average, 49 without usage, 199 above all', () => {
    const tiers = [0, 0.01, -3, 19, 19.01, 49, 49.01, 199, 199.01, 5_000].map(
      (average) => chooseTier(average).tierUsd,
    );
    expect(tiers).toEqual([49, 19, 19, 19, 49, 49, 199, 199, 199, 199]);
    expect(chooseTier(199.01).isAbove).toBe(true);
    expect(chooseTier(199)).toEqual({ tierUsd: 199, isAbove: false, hasUsage: true });
    expect(chooseTier(0).hasUsage).toBe(false);
  });
});

describe('amounts', () => {
  it('are printed from integers, half away from zero, never as a zero that is none', () => {
    expect(formatCents(1_234_565_000)).toBe('$1,234.57');
    expect(formatCents(-1_234_565_000)).toBe('-$1,234.57');
    expect(formatCents(4_999)).toBe('< $0.01');
    expect(formatCents(-1)).toBe('> -$0.01');
    expect(formatCents(0)).toBe('$0.00');
    expect(formatExact(-1)).toBe('-$0.000001');
    expect(formatCount('9007199254740993')).toBe('9,007,199,254,740,993');
    expect(formatExact(9_007_199_254_740_993n)).toBe('$9,007,199,254.740993');
  });

  it('sum exactly past 2^53', () => {
    const amount = Number.MAX_SAFE_INTEGER;
    expect(sumMicrodollars([amount, amount, 1])).toBe(2n * BigInt(amount) + 1n);
  });
});

describe('days', () => {
  it('count as the calendar does, over leap years and month ends', () => {
    expect(threeMonthsBefore('2027-05-31')).toBe('2027-02-28');
    expect(threeMonthsBefore('2028-05-31')).toBe('2028-02-29');
    expect(shiftDays('2026-03-01', -1)).toBe('2026-02-28');
    expect(listDays('2026-10-24', '2026-10-26')).toEqual([
      '2026-10-24',
      '2026-10-25',
      '2026-10-26',
    ]);
    expect(weekdayOf('2026-11-22')).toBe(6);
    expect([isDay('2026-02-30'), isDay('2026-2-3'), isDay('')]).toEqual([false, false, false]);
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

describe('ranges', () => {
  it('are inclusive, and judged before they are asked', () => {
    expect(presetRange('7d', '2026-11-22')).toEqual({ from: '2026-11-16', until: '2026-11-22' });
    expect(presetRange('3m', '2026-05-31').from).toBe('2026-02-28');
    expect(rangeProblem({ from: '2026-01-02', until: '2026-01-01' })).toMatch(/swap/);
    expect(rangeProblem({ from: '', until: '2026-01-01' })).toMatch(/both/);
    expect(rangeProblem({ from: '2020-01-01', until: '2026-01-01' })).toMatch(/three years/);
    expect(rangeProblem({ from: '2026-01-01', until: '2026-01-01' })).toBeNull();
  });
});

describe('the CSV', () => {
  const series = toDailySeries({ from: '2026-11-20', until: '2026-11-22' }, [
    { usage_date: '2026-11-20', total_cost_microdollars: 1_500_001 },
    { usage_date: '2026-11-22', total_cost_microdollars: -1 },
  ]);

  it("has every day of the chart and ends in the chart's total", () => {
    expect(toCsv(series, 'Personal')).toBe(
      [
        'date_utc,scope,cost_microdollars,cost_usd',
        '2026-11-20,Personal,1500001,1.500001',
        '2026-11-21,Personal,0,0.000000',
        '2026-11-22,Personal,-1,-0.000001',
        'total,Personal,1500000,1.500000',
        '',
      ].join('\r\n'),
    );
    expect(series.totalMicrodollars).toBe(1_500_000n);
  });

  it('cannot carry a formula into a spreadsheet', () => {
    for (const text of ['=cmd|x', '+1', '-1', '@sum', '\t=1', '\r=1']) {
      expect(textCell(text).replace(/^"/, '').startsWith("'")).toBe(true);
    }
    expect(textCell('a "b", c')).toBe('"a ""b"", c"');
    expect(textCell('Acme')).toBe('Acme');
    expect(toCsv(series, '=HYPERLINK("x","y")')).toContain(`,"'=HYPERLINK(""x"",""y"")",`);
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
