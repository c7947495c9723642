import { formatDay } from './days.js';

const HOUR_MS = 3_600_000;
const MINUTE_MS = 60_000;

/** Of the browser; UTC where it does not tell. */
export function localZone(): string {
  const { timeZone } = new Intl.DateTimeFormat().resolvedOptions();
  return isZone(timeZone) ? timeZone : 'UTC';
}

/** An IANA name that this browser knows. */
export function isZone(name: string | undefined): name is string {
  if (name === undefined || !/^[A-Za-z]/.test(name)) return false;
  try {
    formatterOf(name);
    return true;
  } catch {
    return false;
  }
}

/** The zone that times of one are shown in: UTC where the server knows it and this browser does not. */
export function shownZone(zone: string): string {
  return isZone(zone) ? zone : 'UTC';
}

/** `2026-11-22T10:02:11` in the zone. */
export function localTime(instantMs: number, zone: string): string {
  const parts = new Map(
    formatterOf(zone)
      .formatToParts(instantMs)
      .map(({ type, value }) => [type, value]),
  );
  const part = (name: Intl.DateTimeFormatPartTypes) => parts.get(name) ?? '';
  const year = part('year').padStart(4, '0');
  return `${year}-${part('month')}-${part('day')}T${part('hour')}:${part('minute')}:${part('second')}`;
}

export function dayIn(instantMs: number, zone: string): string {
  return localTime(instantMs, zone).slice(0, 10);
}

/** Minutes that the zone is ahead of UTC at the instant. */
export function offsetMinutes(instantMs: number, zone: string): number {
  const whole = Math.floor(instantMs / 1_000) * 1_000;
  return Math.round((Date.parse(`${localTime(whole, zone)}Z`) - whole) / MINUTE_MS);
}

/** The instant at which a day of the zone begins: the first one where a midnight comes twice. */
export function startOfDayMs(day: string, zone: string): number {
  const midnight = Date.parse(`${day}T00:00:00Z`);
  const guess = midnight - offsetMinutes(midnight, zone) * MINUTE_MS;
  const exact = midnight - offsetMinutes(guess, zone) * MINUTE_MS;
  // A midnight that clocks skip: the instant at which they do.
  if (dayIn(exact, zone) < day) return exact + HOUR_MS;
  const before = midnight - offsetMinutes(exact - 1_000, zone) * MINUTE_MS;
  return dayIn(before, zone) === day ? Math.min(before, exact) : exact;
}

/** The instant, ms, at which clocks of the zone show `2026-11-22T10:02`; NaN where that is no time. */
export function instantAtMs(local: string, zone: string): number {
  const asUtc = Date.parse(`${local}Z`);
  if (Number.isNaN(asUtc)) return asUtc;
  const guess = asUtc - offsetMinutes(asUtc, zone) * MINUTE_MS;
  return asUtc - offsetMinutes(guess, zone) * MINUTE_MS;
}

/** "1 Dec 2026, 00:00", as clocks of the zone show it; say the zone beside it. */
export function formatLocal(instantMs: number, zone: string): string {
  const local = localTime(instantMs, zone);
  return `${formatDay(local.slice(0, 10))}, ${local.slice(11, 16)}`;
}

/** `2026-11-22T10:00:00+01:00`: the hour of the zone that holds the instant, as reports name it. */
export function hourOf(instantMs: number, zone: string): string {
  const hour = localTime(instantMs, zone).slice(0, 13);
  return `${hour}:00:00${formatOffset(offsetMinutes(instantMs, zone))}`;
}

/** Every hour of days of the zone, both inclusive; clock changes leave one out, or have one twice. */
export function listHours(from: string, until: string, zone: string): string[] {
  const hours: string[] = [];
  const endMs = Date.parse(`${until}T00:00:00Z`) + 40 * HOUR_MS;
  let atMs = startOfDayMs(from, zone);
  while (atMs < endMs) {
    const hour = hourOf(atMs, zone);
    if (hour.slice(0, 10) > until) break;
    if (hour !== hours.at(-1)) hours.push(hour);
    atMs += HOUR_MS;
  }
  return hours;
}

/** "UTC", or "Europe/Berlin (UTC+01:00)". */
export function describeZone(zone: string, instantMs: number): string {
  if (zone === 'UTC') return zone;
  return `${zone} (UTC${formatOffset(offsetMinutes(instantMs, zone))})`;
}

function formatOffset(minutes: number): string {
  const size = Math.abs(minutes);
  const two = (value: number) => String(value).padStart(2, '0');
  return `${minutes < 0 ? '-' : '+'}${two(Math.floor(size / 60))}:${two(size % 60)}`;
}

const formatters = new Map<string, Intl.DateTimeFormat>();

function formatterOf(zone: string): Intl.DateTimeFormat {
  let formatter = formatters.get(zone);
  if (formatter === undefined) {
    formatter = new Intl.DateTimeFormat('en-US', {
      timeZone: zone,
      hourCycle: 'h23',
      year: 'numeric',
      month: '2-digit',
      day: '2-digit',
      hour: '2-digit',
      minute: '2-digit',
      second: '2-digit',
    });
    formatters.set(zone, formatter);
  }
  return formatter;
}
