const INSTANT =
  /^(\d{4})-(\d{2})-(\d{2})[Tt ](\d{2}):(\d{2})(?::(\d{2})(?:[.,](\d{1,12}))?)?(?:([Zz])|([+-])(\d{2})(?::?(\d{2}))?)$/;

export interface Instant {
  /** ISO 8601 in UTC, always with six fractional digits. */
  text: string;
  epochMs: number;
}

/**
 * An ISO 8601 instant with an offset (RFC 3339), or a Date, to UTC with microseconds. JavaScript's
 * Date alone keeps milliseconds; further digits are cut, not rounded, so that a time never moves
 * into the next day. Null when it is not one, or not on the calendar.
 */
export function parseInstant(value: unknown): Instant | null {
  if (value instanceof Date) {
    const epochMs = value.getTime();
    return Number.isNaN(epochMs) ? null : toInstant(epochMs, '000');
  }
  if (typeof value !== 'string') return null;
  const match = INSTANT.exec(value);
  if (!match) return null;
  const part = (index: number) => Number(match[index] ?? 0);
  const [year, month, day] = [part(1), part(2), part(3)];
  const [hour, minute, second] = [part(4), part(5), part(6)];
  const [offsetHour, offsetMinute] = [part(10), part(11)];
  if (hour > 23 || minute > 59 || second > 59 || offsetHour > 15 || offsetMinute > 59) return null;
  if (year < 1) return null;
  const micros = (match[7] ?? '').slice(0, 6).padEnd(6, '0');
  const local = new Date(0);
  local.setUTCFullYear(year, month - 1, day);
  local.setUTCHours(hour, minute, second, Number(micros.slice(0, 3)));
  if (local.getUTCMonth() !== month - 1 || local.getUTCDate() !== day) return null;
  const offsetMs = (match[9] === '-' ? -1 : 1) * (offsetHour * 60 + offsetMinute) * 60_000;
  const epochMs = local.getTime() - offsetMs;
  return toInstant(epochMs, micros.slice(3));
}

/** From milliseconds and the three digits below them; null outside the years 1 to 9999. */
function toInstant(epochMs: number, lowDigits: string): Instant | null {
  const date = new Date(epochMs);
  const year = date.getUTCFullYear();
  if (year < 1 || year > 9999) return null;
  return { text: `${date.toISOString().slice(0, -1)}${lowDigits}Z`, epochMs };
}

/** Of `instantMicros`: instants as numbers, infinite ones too. */
export const microsOf = (text: string): bigint | number =>
  text.endsWith('Infinity') ? Number(text) : BigInt(text);
