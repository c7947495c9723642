import { describe, expect, it } from 'vitest';
import { isUuid, newUuid } from '../../src/ids.js';

describe('a new UUID', () => {
  it('is of version 7, of now, and of no other', () => {
    const before = Date.now();
    const ids = Array.from({ length: 10_000 }, newUuid);
    const after = Date.now();
    expect(new Set(ids).size).toBe(ids.length);
    for (const id of ids) {
      expect(isUuid(id)).toBe(true);
      expect(id).toMatch(/^.{14}7.{4}[89ab]/);
      const ms = Number.parseInt(id.replace('-', '').slice(0, 12), 16);
      expect(ms).toBeGreaterThanOrEqual(before);
      expect(ms).toBeLessThanOrEqual(after);
    }
  });

  it('comes after those before it', () => {
    const ids = Array.from({ length: 10_000 }, newUuid);
    expect([...ids].sort()).toEqual(ids);
  });
});
