/** Tries of a delivery before it is a dead letter. */
export const MAX_ATTEMPTS = 10;

const FIRST_MS = 5_000;
const FACTOR = 4;
const LONGEST_MS = 12 * 3_600_000;
/** Of the pause, up or down: what failed together does not come back together. */
const JITTER = 0.2;

/**
 * Pause after try number `attempt` (from 1) failed, ms: 5 s, 20 s, 80 s, 5 min, 21 min, 85 min, 5.7 h, 12 h,
 * 12 h, each by up to a fifth more or less: some 32 h in all. Null: that was the last.
 * @param random 0 to 1
 */
export function pauseAfterMs(attempt: number, random = Math.random()): number | null {
  if (attempt >= MAX_ATTEMPTS) return null;
  const pauseMs = Math.min(LONGEST_MS, FIRST_MS * FACTOR ** (attempt - 1));
  return Math.round(pauseMs * (1 - JITTER + 2 * JITTER * random));
}

/**
 * How long a receiver asks to be left alone (RFC 9110, 10.2.3), ms: seconds, or a date; at most 12 h, and
 * null where it says nothing that can be read.
 */
export function retryAfterMs(value: string | undefined, nowMs = Date.now()): number | null {
  if (value === undefined) return null;
  const askedMs = /^\d+$/.test(value.trim()) ? Number(value) * 1_000 : Date.parse(value) - nowMs;
  return askedMs > 0 ? Math.min(askedMs, LONGEST_MS) : null;
}
