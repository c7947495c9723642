import { addDays } from '../days.js';
import { parseInstant } from '../instant.js';
import type { UsageEvent } from '../record/types.js';

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
