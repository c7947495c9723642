import {
  addDays,
  differenceInCalendarDays,
  eachDayOfInterval,
  format,
  isValid,
  parse,
  subMonths,
} from 'date-fns';

/**
 * UTC days as `YYYY-MM-DD`. date-fns reckons in local time, so a day is handed to it as its local
 * calendar date and taken back the same way: the zone of the browser cancels out.
 */
const ISO_DAY = 'yyyy-MM-dd';

function toDate(day: string): Date {
  return parse(day, ISO_DAY, new Date(0));
}

function fromDate(date: Date): string {
  return format(date, ISO_DAY);
}

/** The UTC day of an instant. */
export function utcDayOf(instant: string): string {
  return new Date(instant).toISOString().slice(0, 10);
}

export function isDay(text: string): boolean {
  return /^\d{4}-\d{2}-\d{2}$/.test(text) && isValid(toDate(text));
}

export function shiftDays(day: string, days: number): string {
  return fromDate(addDays(toDate(day), days));
}

/** Three calendar months back, as the average's window begins: 31 May -> 28 or 29 February. */
export function threeMonthsBefore(day: string): string {
  return fromDate(subMonths(toDate(day), 3));
}

/** Every day of the range, both inclusive. */
export function listDays(from: string, until: string): string[] {
  return eachDayOfInterval({ start: toDate(from), end: toDate(until) }).map(fromDate);
}

/** Both inclusive. */
export function countDays(from: string, until: string): number {
  return differenceInCalendarDays(toDate(until), toDate(from)) + 1;
}

/** 22 Nov 2026 */
export function formatDay(day: string): string {
  return format(toDate(day), 'd MMM yyyy');
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

/** 22 Nov 10:02, in UTC; say so beside it. */
export function formatMoment(instant: string): string {
  return `${formatDayShort(instant.slice(0, 10))} ${instant.slice(11, 16)}`;
}

/** Instants as seconds, for a time axis; the start of the UTC day. */
export function toEpochSeconds(day: string): number {
  return Date.parse(`${day}T00:00:00Z`) / 1_000;
}

/** 45 s, 3 min, 2 h, 5 d */
export function formatSpan(seconds: number): string {
  if (seconds < 90) return `${Math.max(0, Math.round(seconds))} s`;
  if (seconds < 90 * 60) return `${Math.round(seconds / 60)} min`;
  if (seconds < 36 * 3_600) return `${Math.round(seconds / 3_600)} h`;
  return `${Math.round(seconds / 86_400)} d`;
}
