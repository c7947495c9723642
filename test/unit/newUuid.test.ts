import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

describe('a new UUID', () => {
  /** Loaded anew: a test before, in this process, may have set the clock ahead. */
  let ids: typeof import('../../src/ids.js');

  beforeEach(async () => {
    vi.resetModules();
    ids = await import('../../src/ids.js');
  });

  afterEach(() => {
    vi.useRealTimers();
  });

  const msOf = (id: string) => Number.parseInt(id.replace('-', '').slice(0, 12), 16);

  it('is of version 7, of now, and of no other', () => {
    const before = Date.now();
    const made = Array.from({ length: 10_000 }, ids.newUuid);
    const after = Date.now();
    expect(new Set(made).size).toBe(made.length);
    for (const id of made) {
      expect(ids.isUuid(id)).toBe(true);
      expect(id).toMatch(/^.{14}7.{4}[89ab]/);
      expect(msOf(id)).toBeGreaterThanOrEqual(before);
      expect(msOf(id)).toBeLessThanOrEqual(after);
    }
  });

  it('comes after those before it', () => {
    const made = Array.from({ length: 10_000 }, ids.newUuid);
    expect([...made].sort()).toEqual(made);
  });

  it('also while the clock is a little behind, and is of now once the clock was far ahead', () => {
    vi.useFakeTimers({ toFake: ['Date'] });
    const at = (time: string) => {
      vi.setSystemTime(time);
      return ids.newUuid();
    };
    const first = at('2026-06-01T00:00:05Z');
    const behind = at('2026-06-01T00:00:00Z');
    expect(behind > first).toBe(true);
    expect(msOf(behind)).toBe(Date.parse('2026-06-01T00:00:05Z'));
    at('2027-06-01T00:00:00Z');
    expect(msOf(at('2026-06-01T00:00:06Z'))).toBe(Date.parse('2026-06-01T00:00:06Z'));
  });
});
