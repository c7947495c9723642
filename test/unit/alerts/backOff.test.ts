import { describe, expect, it } from 'vitest';
import { MAX_ATTEMPTS, pauseAfterMs, retryAfterMs } from '../../../src/alerts/backOff.js';

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;

describe('the pause after a failed try', () => {
  it('grows fourfold to twelve hours, and ends after the tenth', () => {
    const pauses = Array.from({ length: MAX_ATTEMPTS }, (_, n) => pauseAfterMs(n + 1, 0.5));
    expect(pauses).toEqual([
      5_000,
      20_000,
      80_000,
      320_000,
      1_280_000,
      5_120_000,
      20_480_000,
      12 * HOUR,
      12 * HOUR,
      null,
    ]);
  });

  it('is up to a fifth shorter or longer', () => {
    expect(pauseAfterMs(1, 0)).toBe(4_000);
    expect(pauseAfterMs(1, 1)).toBe(6_000);
    expect(pauseAfterMs(9, 1)).toBe(14.4 * HOUR);
    for (let n = 0; n < 100; n++) {
      expect(pauseAfterMs(2)).toBeGreaterThanOrEqual(16_000);
      expect(pauseAfterMs(2)).toBeLessThanOrEqual(24_000);
    }
  });
});

describe('what a receiver asks for', () => {
  const now = Date.parse('2026-05-01T00:00:00Z');

  it('is read as seconds or as a date, up to twelve hours', () => {
    expect(retryAfterMs('120', now)).toBe(120_000);
    expect(retryAfterMs('Fri, 01 May 2026 00:05:00 GMT', now)).toBe(5 * MINUTE);
    expect(retryAfterMs('99999999999999999999', now)).toBe(12 * HOUR);
  });

  it.each([undefined, '', 'soon', '0', '-5', 'Thu, 30 Apr 2026 00:00:00 GMT'])(
    'is nothing: %s',
    (value) => {
      expect(retryAfterMs(value, now)).toBeNull();
    },
  );
});
