import {
  type CalendarDate,
  endOfMonth as endOfItsMonth,
  getDayOfWeek,
  parseDate,
  startOfMonth as startOfItsMonth,
  startOfWeek as startOfItsWeek,
} from '@internationalized/date';

/** Calendar days as `YYYY-MM-DD`, of no zone. Weeks begin on Mondays, whatever the browser's language. */
const LOCALE = 'en-US';
const MONDAY = 'mon';
const WEEKDAYS = ['Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat', 'Sun'];
const MONTHS = 'Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec'.split(' ');

export function isDay(text: string): boolean {
  try {
    return parseDate(text).toString() === text;
  } catch {
    return false;
  }
}

export function shiftDays(day: string, days: number): string {
  return parseDate(day).add({ days }).toString();
}

/** Calendar months back; 31 May less three is 28 or 29 February. */
export function monthsBefore(day: string, months: number): string {
  return parseDate(day).subtract({ months }).toString();
}

/** Days from one to another, both inclusive. */
export function countDays(from: string, until: string): number {
  return parseDate(until).compare(parseDate(from)) + 1;
}

/** Every day of the range, both inclusive. */
export function listDays(from: string, until: string): string[] {
  return listFrom(from, until, (day) => day.add({ days: 1 }));
}

/** Mondays of the weeks that the range touches. */
export function listWeeks(from: string, until: string): string[] {
  return listFrom(startOfWeek(from), until, (day) => day.add({ days: 7 }));
}

/** First days of the months that the range touches. */
export function listMonths(from: string, until: string): string[] {
  return listFrom(startOfMonth(from), until, (day) => day.add({ months: 1 }));
}

export function startOfWeek(day: string): string {
  return startOfItsWeek(parseDate(day), LOCALE, MONDAY).toString();
}

export function startOfMonth(day: string): string {
  return startOfItsMonth(parseDate(day)).toString();
}

export function endOfMonth(day: string): string {
  return endOfItsMonth(parseDate(day)).toString();
}

function listFrom(
  first: string,
  until: string,
  next: (day: CalendarDate) => CalendarDate,
): string[] {
  const days: string[] = [];
  for (let day = parseDate(first); day.toString() <= until; day = next(day)) {
    days.push(day.toString());
  }
  return days;
}

/** 22 Nov 2026 */
export function formatDay(day: string): string {
  return `${formatDayShort(day)} ${day.slice(0, 4)}`;
}

/** 21 Nov 2026 to 22 Nov 2026; 22 Nov 2026 */
export function formatRange({ from, until }: { from: string; until: string }): string {
  return from === until ? formatDay(from) : `${formatDay(from)} to ${formatDay(until)}`;
}

/** Sun 22 Nov 2026 */
export function formatDayLong(day: string): string {
  return `${WEEKDAYS[weekdayOf(day)]} ${formatDay(day)}`;
}

/** 22 Nov */
export function formatDayShort(day: string): string {
  return `${parseDate(day).day} ${monthOf(day)}`;
}

/** Nov 2026 */
export function formatMonth(day: string): string {
  return `${monthOf(day)} ${day.slice(0, 4)}`;
}

function monthOf(day: string): string {
  return MONTHS[parseDate(day).month - 1] ?? '';
}

/** 0 = Monday. */
export function weekdayOf(day: string): number {
  return getDayOfWeek(parseDate(day), LOCALE, MONDAY);
}

/** 2026-11-22 10:02:11, in UTC; say so beside it. */
export function formatInstant(instant: string): string {
  return instant.slice(0, 19).replace('T', ' ');
}

/** 45 s, 3 min, 2 h, 5 d */
export function formatSpan(seconds: number): string {
  if (seconds < 90) return `${Math.max(0, Math.round(seconds))} s`;
  if (seconds < 90 * 60) return `${Math.round(seconds / 60)} min`;
  if (seconds < 36 * 3_600) return `${Math.round(seconds / 3_600)} h`;
  return `${Math.round(seconds / 86_400)} d`;
}
