import {
  formatDay,
  formatDayLong,
  formatDayShort,
  formatMonth,
  listDays,
  listMonths,
  listWeeks,
  shiftDays,
  startOfMonth,
  startOfWeek,
} from '../days.js';
import { dayIn, hourOf, listHours, startOfDayMs } from '../zones.js';
import type { DayRange, Grain } from './ranges.js';

const HOUR_MS = 3_600_000;

/** Starts of every period that the range touches, as `usage.report` names them. */
export function listPeriods({ from, until }: DayRange, grain: Grain, zone: string): string[] {
  if (grain === 'hour') return listHours(from, until, zone);
  if (grain === 'day') return listDays(from, until);
  return grain === 'week' ? listWeeks(from, until) : listMonths(from, until);
}

/** The period that the instant is in. */
export function periodOf(instantMs: number, grain: Grain, zone: string): string {
  if (grain === 'hour') return hourOf(instantMs, zone);
  const day = dayIn(instantMs, zone);
  if (grain === 'day') return day;
  return grain === 'week' ? startOfWeek(day) : startOfMonth(day);
}

/** First instant of a period within the range, and the first after it; ms. */
export function boundsOf(
  start: string,
  grain: Grain,
  zone: string,
  range: DayRange,
): { fromMs: number; untilMs: number } {
  if (grain === 'hour') {
    const fromMs = Date.parse(start);
    return { fromMs, untilMs: fromMs + HOUR_MS };
  }
  const next = {
    day: () => shiftDays(start, 1),
    week: () => shiftDays(start, 7),
    month: () => startOfMonth(shiftDays(start, 31)),
  }[grain]();
  const first = start < range.from ? range.from : start;
  const after = next > range.until ? shiftDays(range.until, 1) : next;
  return { fromMs: startOfDayMs(first, zone), untilMs: startOfDayMs(after, zone) };
}

/** Sun 22 Nov 2026, 10:00 +01:00 · week of 16 Nov 2026 · Nov 2026 */
export function describePeriod(start: string, grain: Grain): string {
  if (grain === 'hour') {
    return `${formatDayLong(start.slice(0, 10))}, ${start.slice(11, 16)} ${start.slice(19)}`;
  }
  if (grain === 'day') return formatDayLong(start);
  return grain === 'week' ? `week of ${formatDay(start)}` : formatMonth(start);
}

/** On an axis: the year where it is not told by the label before. */
export function labelPeriod(
  start: string,
  grain: Grain,
  before: string | null,
  isOneYear: boolean,
): string {
  const day = start.slice(0, 10);
  const isYearTold = isOneYear || before?.slice(0, 4) === start.slice(0, 4);
  if (grain === 'hour') {
    const time = start.slice(11, 16);
    if (before?.slice(0, 10) === day) return time;
    const date = isYearTold ? formatDayShort(day) : formatDay(day);
    return time === '00:00' ? date : `${date} ${time}`;
  }
  if (grain === 'month') return isOneYear ? formatMonth(day).slice(0, 3) : formatMonth(day);
  return isYearTold ? formatDayShort(day) : formatDay(day);
}

/** Numbers of periods between two labels, of which the smallest that has room is taken. */
export const LABEL_STEPS: Record<Grain, readonly number[]> = {
  hour: [1, 2, 3, 6, 12, 24, 48, 72, 96, 168, 336, 672],
  day: [1, 2, 7, 14, 28, 56, 112, 224, 448],
  week: [1, 2, 4, 13, 26, 52, 104],
  month: [1, 2, 3, 6, 12, 24],
};
