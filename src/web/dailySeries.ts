import { sumMicrodollars } from './amounts.js';
import { listDays } from './days.js';

export interface DailySeries {
  /** UTC days, both inclusive. */
  from: string;
  until: string;
  /** One for each day of the range, also those without usage. */
  days: { day: string; microdollars: number }[];
  totalMicrodollars: bigint;
  /** Days with a total other than zero. */
  activeDays: number;
}

/** The answer of `usage.daily`, with the days it leaves out: chart, table and CSV all use this. */
export function toDailySeries(
  range: { from: string; until: string },
  rows: readonly { usage_date: string; total_cost_microdollars: number }[],
): DailySeries {
  const totals = new Map(rows.map((row) => [row.usage_date, row.total_cost_microdollars]));
  const days = listDays(range.from, range.until).map((day) => ({
    day,
    microdollars: totals.get(day) ?? 0,
  }));
  return {
    ...range,
    days,
    totalMicrodollars: sumMicrodollars(days.map(({ microdollars }) => microdollars)),
    activeDays: totals.size,
  };
}
