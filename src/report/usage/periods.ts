import { isPlain } from './calendar.sql.js';
import type { Form } from './groups.sql.js';
import type { ValidReportQuery } from './query.js';
import { isByNoon, NOON_HOURS, type ReportSource } from './sources.sql.js';

/** An answer, as far as it says how its lists name periods. */
export interface Listed {
  source: ReportSource;
  form: Form;
  /** Any row has the calendar. */
  rows: readonly ReportedCalendar[];
}

/** Periods of a range in order: from which second on each is, and which names it; null in plain ones. */
export interface ReportedCalendar {
  ats: string | null;
  starts: string | null;
}

/** The second that names the period of an entry, from the one that it is told by. */
export type PeriodOf = (second: number) => number;

const HOUR_SECONDS = 3_600;
export const DAY_SECONDS = 86_400;
const LENGTHS = { hour: HOUR_SECONDS, day: DAY_SECONDS, week: 7 * DAY_SECONDS };
/** Of 1970; days and hours begin there too. */
const FIRST_MONDAY = 4 * DAY_SECONDS;

/**
 * Sums are told by their periods. Entries of rows are not: to look their period up for each takes the server
 * longer than to read it. The client does, as `timesOf` (calendar.sql.ts) does it in SQL.
 */
export function periodsOf(
  query: ValidReportQuery,
  { source, form, rows: [first] }: Listed,
  isPrevious: boolean,
): PeriodOf {
  if (form === 'sums') return (second) => second;
  const later = isByNoon(query, source) ? NOON_HOURS * HOUR_SECONDS : 0;
  if (!isPlain(query)) {
    return inCalendar(numbersOf(first?.ats ?? null), numbersOf(first?.starts ?? null), later);
  }
  const length = LENGTHS[query.grain as keyof typeof LENGTHS];
  const beside = isPrevious ? query.days * DAY_SECONDS : 0;
  return (second) => second + beside - ((second + beside - FIRST_MONDAY) % length);
}

/** Entries are mostly in order: the next is in the same period, or the one after it. */
function inCalendar(ats: readonly number[], starts: readonly number[], later: number): PeriodOf {
  let at = 0;
  const isIn = (index: number, instant: number) =>
    instant >= (ats[index] ?? Number.POSITIVE_INFINITY) &&
    instant < (ats[index + 1] ?? Number.POSITIVE_INFINITY);
  return (second) => {
    const instant = second + later;
    if (!isIn(at, instant)) at = isIn(at + 1, instant) ? at + 1 : lastBefore(ats, instant);
    return starts[at] ?? Number.NaN;
  };
}

/** Index of the last that is not after the instant, of rising ones. */
function lastBefore(ats: readonly number[], instant: number): number {
  let [low, high] = [0, ats.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((ats[middle] ?? 0) <= instant) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

/** An array of whole numbers as PostgreSQL prints it. */
export const numbersOf = (text: string | null): number[] =>
  text === null ? [] : JSON.parse(`[${text.slice(1, -1)}]`);
