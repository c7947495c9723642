import { LedgerError } from './errors.js';

/** PostgreSQL has no year 0. */
const DAY = /^(?!0000)\d{4}-\d{2}-\d{2}$/;
const DAY_MS = 86_400_000;

/** A UTC calendar day, YYYY-MM-DD, as epoch milliseconds; null when it is none. */
function parseDay(day: unknown): number | null {
  if (typeof day !== 'string' || !DAY.test(day)) return null;
  const epochMs = Date.parse(`${day}T00:00:00Z`);
  if (Number.isNaN(epochMs)) return null;
  return new Date(epochMs).toISOString().slice(0, 10) === day ? epochMs : null;
}

/** Whether it is a UTC calendar day, YYYY-MM-DD. */
export function isDay(value: unknown): value is string {
  return parseDay(value) !== null;
}

/** A UTC calendar day. @throws LedgerError `invalid_request` naming the field */
export function readDay(field: string, value: string): string {
  if (isDay(value)) return value;
  throw new LedgerError('invalid_request', `${field} must be a UTC day like 2026-11-22`, {
    details: { field },
  });
}

/** Whole days from one UTC day to another. */
export function daysBetween(from: string, until: string): number {
  return ((parseDay(until) ?? 0) - (parseDay(from) ?? 0)) / DAY_MS;
}

/** The day that clocks of the zone show now. @throws RangeError of a zone that is not known */
export function todayIn(zone: string): string {
  return new Intl.DateTimeFormat('sv-SE', { timeZone: zone }).format(new Date());
}

/** `day` moved by whole days. */
export function addDays(day: string, days: number): string {
  return new Date((parseDay(day) ?? 0) + days * DAY_MS).toISOString().slice(0, 10);
}
