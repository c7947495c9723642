import { countDays, isDay, monthsBefore, shiftDays, startOfMonth } from '../days.js';

export type Preset = 'day' | '7d' | '1m' | '3m' | '12m' | 'custom';
export type Grain = 'hour' | 'day' | 'week' | 'month';

export const PRESETS: readonly { id: Preset; text: string }[] = [
  { id: 'day', text: 'Today' },
  { id: '7d', text: '7 days' },
  { id: '1m', text: '1 month' },
  { id: '3m', text: '3 months' },
  { id: '12m', text: '12 months' },
  { id: 'custom', text: 'Custom' },
];

export const GRAINS: readonly { id: Grain; text: string }[] = [
  { id: 'hour', text: 'Hour' },
  { id: 'day', text: 'Day' },
  { id: 'week', text: 'Week' },
  { id: 'month', text: 'Month' },
];

/** Days of a time zone, both inclusive. */
export interface DayRange {
  from: string;
  until: string;
}

/** No usage is older. */
const FIRST_DAY = '2015-01-01';
/** As `usage.report` allows. */
const MAX_DAYS: Record<Grain, number> = { hour: 93, day: 1_100, week: 3_700, month: 3_700 };
/** Periods times groups of one report, as `usage.report` allows. */
const MAX_ROWS = 25_000;
const PERIODS_A_DAY: Record<Grain, number> = { hour: 24, day: 1, week: 1 / 7, month: 1 / 28 };
export const TOPS = [10, 50] as const;

/** A month has the month so far in it, whatever day it is. */
export function presetRange(preset: Exclude<Preset, 'custom'>, today: string): DayRange {
  const from = {
    day: today,
    '7d': shiftDays(today, -6),
    '1m': shiftDays(monthsBefore(today, 1), 1),
    '3m': shiftDays(monthsBefore(today, 3), 1),
    '12m': shiftDays(monthsBefore(startOfMonth(today), 11), 0),
  }[preset];
  return { from, until: today };
}

/** What is wrong with a range, in words; null when it can be asked for. */
export function rangeProblem({ from, until }: DayRange): string | null {
  if (!isDay(from) || !isDay(until)) return 'Choose both days.';
  if (from > until) return 'The first day lies after the last; swap them.';
  if (from < FIRST_DAY) return 'There is no usage before 2015.';
  if (countDays(from, until) > MAX_DAYS.month) return 'Choose ten years at most.';
  return null;
}

/** The grains in which a range can be asked for. */
export function grainsOf(range: DayRange): Grain[] {
  const days = countDays(range.from, range.until);
  return GRAINS.map(({ id }) => id).filter((grain) => days <= MAX_DAYS[grain]);
}

/** The finest that is easily read. */
export function defaultGrain(range: DayRange): Grain {
  const days = countDays(range.from, range.until);
  if (days <= 2) return 'hour';
  if (days <= 100) return 'day';
  return days <= 400 ? 'week' : 'month';
}

/** As many groups as may be told apart over so many periods. */
export function largestTop(range: DayRange, grain: Grain): number {
  const periods = Math.ceil(countDays(range.from, range.until) * PERIODS_A_DAY[grain]) + 1;
  return Math.max(1, Math.min(50, Math.floor(MAX_ROWS / periods) - 1));
}
