import { LedgerError } from '../errors.js';
import { parseInstant } from '../instant.js';
import type { UsageEvent } from '../record/types.js';

const DAY_MS = 86_400_000;

/** A UTC calendar day as epoch milliseconds; null when it is not one. */
function parseDay(day: string): number | null {
  const epochMs = /^\d{4}-\d{2}-\d{2}$/.test(day) ? Date.parse(`${day}T00:00:00Z`) : Number.NaN;
  if (Number.isNaN(epochMs)) return null;
  return new Date(epochMs).toISOString().slice(0, 10) === day ? epochMs : null;
}

/** @throws LedgerError `invalid_request` when `day` is not a UTC day on the calendar */
export function requireDay(day: string, option: string): string {
  if (parseDay(day) === null) {
    throw new LedgerError('invalid_request', `${option} must be a day like 2026-11-22`, {
      details: { field: option },
    });
  }
  return day;
}

/** Whole days from one UTC day to another. */
export function daysBetween(from: string, until: string): number {
  return ((parseDay(until) ?? 0) - (parseDay(from) ?? 0)) / DAY_MS;
}

/** `day` moved by whole days. */
export function addDays(day: string, days: number): string {
  return new Date((parseDay(day) ?? 0) + days * DAY_MS).toISOString().slice(0, 10);
}

/** UTC day of an event's `created_at`; null when it has none that is an instant. */
export function dayOfEvent(event: UsageEvent): string | null {
  return parseInstant(event.created_at)?.text.slice(0, 10) ?? null;
}

/** The event some whole days later, its time of day kept to the microsecond. */
export function shiftEvent(event: UsageEvent, days: number): UsageEvent {
  const instant = days === 0 ? null : parseInstant(event.created_at);
  if (instant === null) return event;
  const day = addDays(instant.text.slice(0, 10), days);
  return { ...event, created_at: day + instant.text.slice(10) };
}
