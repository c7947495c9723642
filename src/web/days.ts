import {
  addDays,
  addMonths,
  differenceInCalendarDays,
  eachDayOfInterval,
  format,
  isValid,
  parse,
  startOfISOWeek,
  subMonths,
} from 'date-fns';

/**
 * Calendar days as `YYYY-MM-DD`. date-fns reckons in local time, so a day is handed to it as its
 * local calendar date and taken back the same way: the zone of the browser cancels out.
 */
const ISO_DAY = 'yyyy-MM-dd';

function toDate(day: string): Date {
  return parse(day, ISO_DAY, new Date(0));
}

function fromDate(date: Date): string {
  return format(date, ISO_DAY);
}

export function isDay(text: string): boolean {
  return /^\d{4}-\d{2}-\d{2}$/.test(text) && isValid(toDate(text));
}

export function shiftDays(day: string, days: number): string {
  return fromDate(addDays(toDate(day), days));
}

/** Calendar months back; 31 May less three is 28 or 29 February. */
export function monthsBefore(day: string, months: number): string {
  return fromDate(subMonths(toDate(day), months));
}

/** Days from one to another, both inclusive. */
export function countDays(from: string, until: string): number {
  return differenceInCalendarDays(toDate(until), toDate(from)) + 1;
}

/** Every day of the range, both inclusive. */
export function listDays(from: string, until: string): string[] {
  return eachDayOfInterval({ start: toDate(from), end: toDate(until) }).map(fromDate);
}

/** Mondays of the weeks that the range touches. */
export function listWeeks(from: string, until: string): string[] {
  return listFrom(startOfWeek(from), until, (day) => addDays(day, 7));
}

/** First days of the months that the range touches. */
export function listMonths(from: string, until: string): string[] {
  return listFrom(startOfMonth(from), until, (day) => addMonths(day, 1));
}

export function startOfWeek(day: string): string {
  return fromDate(startOfISOWeek(toDate(day)));
}

export function startOfMonth(day: string): string {
  return `${day.slice(0, 8)}01`;
}

export function endOfMonth(day: string): string {
  return fromDate(addDays(addMonths(toDate(startOfMonth(day)), 1), -1));
}

function listFrom(first: string, until: string, next: (day: Date) => Date): string[] {
  const days: string[] = [];
  for (let day = first; day <= until; day = fromDate(next(toDate(day)))) days.push(day);
  return days;
}

/** 22 Nov 2026 */
export function formatDay(day: string): string {
  return format(toDate(day), 'd MMM yyyy');
}

/** 21 Nov 2026 to 22 Nov 2026; 22 Nov 2026 */
export function formatRange({ from, until }: { from: string; until: string }): string {
  return from === until ? formatDay(from) : `${formatDay(from)} to ${formatDay(until)}`;
}

/** Sun 22 Nov 2026 */
export function formatDayLong(day: string): string {
  return format(toDate(day), 'EEE d MMM yyyy');
}

/** 22 Nov */
export function formatDayShort(day: string): string {
  return format(toDate(day), 'd MMM');
}

/** Nov 2026 */
export function formatMonth(day: string): string {
  return format(toDate(day), 'MMM yyyy');
}

/** 0 = Monday. */
export function weekdayOf(day: string): number {
  return (toDate(day).getDay() + 6) % 7;
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
