import { countDays, endOfMonth, shiftDays, startOfMonth } from '../days.js';
import type { DayRange } from './ranges.js';

/** Whole days whose mean is the burn rate. */
export const BURN_DAYS = 7;

export interface Forecast {
  /** First and last day of the month. */
  month: DayRange;
  /** Of the month so far, today included; microdollars. */
  spentMicrodollars: bigint;
  /** Mean of the last seven whole days, rounded half away from zero. */
  burnMicrodollarsPerDay: bigint;
  /** At the end of the month. */
  expectedMicrodollars: bigint;
  daysLeft: number;
}

/** Days that a forecast needs: the month so far and the last seven whole days. */
export function forecastRange(today: string): DayRange {
  const [from = today] = [shiftDays(today, -BURN_DAYS), startOfMonth(today)].sort();
  return { from, until: today };
}

/**
 * Spent before today, today at least at the mean of the last seven whole days, and that mean for each
 * day left. Of `costs`, a day that is absent had no usage.
 */
export function forecastMonth(costs: ReadonlyMap<string, bigint>, today: string): Forecast {
  const month = { from: startOfMonth(today), until: endOfMonth(today) };
  let before = 0n;
  let week = 0n;
  for (const [day, cost] of costs) {
    if (day >= month.from && day < today) before += cost;
    if (day >= shiftDays(today, -BURN_DAYS) && day < today) week += cost;
  }
  const spentToday = costs.get(today) ?? 0n;
  const daysLeft = countDays(today, month.until) - 1;
  const isLow = spentToday * BigInt(BURN_DAYS) < week;
  const expected = isLow
    ? before + divide(week * BigInt(daysLeft + 1), BURN_DAYS)
    : before + spentToday + divide(week * BigInt(daysLeft), BURN_DAYS);
  return {
    month,
    spentMicrodollars: before + spentToday,
    burnMicrodollarsPerDay: divide(week, BURN_DAYS),
    expectedMicrodollars: expected,
    daysLeft,
  };
}

/** Whole days that a balance lasts at the burn rate; null where nothing burns. */
export function daysOfBalance(balanceMicrodollars: bigint, perDay: bigint): number | null {
  if (perDay <= 0n || balanceMicrodollars < 0n) return null;
  return Number(balanceMicrodollars / perDay);
}

/** Half away from zero. */
function divide(amount: bigint, by: number): bigint {
  const divisor = BigInt(by);
  const size = amount < 0n ? -amount : amount;
  const rounded = (size * 2n + divisor) / (divisor * 2n);
  return amount < 0n ? -rounded : rounded;
}
