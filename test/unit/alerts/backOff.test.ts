import { describe, expect, it } from 'vitest';
import { MAX_ATTEMPTS, pauseAfterMs } from '../../../src/alerts/backOff.js';

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
