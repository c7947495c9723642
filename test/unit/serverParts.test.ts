import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { TtlCache } from '../../src/accounts/ttlCache.js';
import { LedgerError } from '../../src/errors.js';
import { readToken } from '../../src/server/auth.js';
import { cached } from '../../src/server/cached.js';
import { toErrorBody, toHttpFailure } from '../../src/server/errors.js';
import { isDeeperThan } from '../../src/server/jsonParser.js';
import { isPageRoute } from '../../src/server/page.js';
import { checkDayRange, parseInput } from '../../src/server/validation.js';

describe('TtlCache', () => {
  it('forgets by age, and the oldest when it is full', () => {
    let nowMs = 0;
    const cache = new TtlCache<number>(2, () => nowMs);
    cache.set('a', 1, 100);
    cache.set('b', 2, 1_000);
    cache.set('a', 3, 100);
    cache.set('c', 4, 100);
    expect([cache.get('a'), cache.get('b'), cache.get('c')]).toEqual([3, undefined, 4]);
    nowMs = 100;
    expect(cache.get('a')).toBeUndefined();
    expect(cache.size).toBe(1);
    cache.deleteWhere((value) => value === 4);
    expect(cache.size).toBe(0);
  });
});

describe('isPageRoute', () => {
  it('lets slashes at the end pass, and takes no longer for a megabyte of them', () => {
    for (const path of ['/start', '/start/', '/operations//']) {
      expect([path, isPageRoute(path)]).toEqual([path, true]);
    }
    const slashes = '/'.repeat(1_000_000);
    for (const path of ['', '/star', '//start', '/start/x', `${slashes}x`, `/start${slashes}x`]) {
      expect([path.slice(0, 10), isPageRoute(path)]).toEqual([path.slice(0, 10), false]);
    }
    expect(isPageRoute(`/start${slashes}`)).toBe(true);
  });
});

describe('cached', () => {
  it('runs once for callers at the same time, and keeps no failure', async () => {
    let runs = 0;
    const read = cached(async () => {
      runs += 1;
      if (runs === 1) throw new Error('first');
      return runs;
    }, 60_000);
    const both = await Promise.allSettled([read(), read()]);
    expect(both.map((result) => result.status)).toEqual(['rejected', 'rejected']);
    expect(await Promise.all([read(), read()])).toEqual([2, 2]);
    expect(await read()).toBe(2);
  });
});

describe('isDeeperThan', () => {
  it('counts levels of arrays and objects, without recursion', () => {
    expect(isDeeperThan('text', 0)).toBe(false);
    expect(isDeeperThan({ a: [1] }, 2)).toBe(false);
    expect(isDeeperThan({ a: [{}] }, 2)).toBe(true);
    let deep: unknown = 1;
    for (let level = 0; level < 100_000; level++) deep = [deep];
    expect(isDeeperThan(deep, 99_999)).toBe(true);
    expect(isDeeperThan(deep, 100_000)).toBe(false);
  });
});

describe('readToken', () => {
  it('reads a bearer token, and x-api-key only where it is asked for', () => {
    expect(readToken({ authorization: 'Bearer abc' })).toBe('abc');
    expect(readToken({ authorization: 'bearer  abc ' })).toBe('abc');
    expect(readToken({ authorization: 'Basic abc' })).toBeNull();
    expect(readToken({ authorization: 'Bearer a b' })).toBeNull();
    expect(readToken({ authorization: 'Bearer ' })).toBeNull();
    expect(readToken({ 'x-api-key': 'abc' })).toBeNull();
    expect(readToken({ 'x-api-key': 'abc' }, true)).toBe('abc');
  });
});

describe('errors', () => {
  it('never tells what an unexpected error says', () => {
    expect(JSON.stringify(toErrorBody(new Error('password=hunter2')))).not.toContain('hunter2');
    const failure = toHttpFailure(new Error('password=hunter2'), 1);
    expect([failure.status, failure.body.error.code]).toEqual([500, 'internal']);
    expect(JSON.stringify(failure.body)).not.toContain('hunter2');
  });

  it('marks what may be sent again', () => {
    const failure = toHttpFailure(new LedgerError('unavailable', 'away'), 1);
    expect(failure.status).toBe(503);
    expect(failure.body.error.details).toEqual({ retryable: true });
  });
});

describe('checkDayRange', () => {
  it('takes up to 1,100 days, both inclusive', () => {
    checkDayRange('2026-01-01', '2026-01-01');
    expect(() => checkDayRange('2026-01-02', '2026-01-01')).toThrow(/swap/);
    checkDayRange('2023-01-01', '2026-01-04');
    expect(() => checkDayRange('2023-01-01', '2026-01-05')).toThrow(/1101 days/);
  });
});

describe('input of the wrong shape', () => {
  const schema = z.strictObject({ id: z.string(), usd: z.union([z.string(), z.number()]) });

  it.each([
    [{ usd: 1 }, 'id: is required'],
    [{ id: 'a' }, 'usd: is required'],
    [{ id: 1, usd: 1 }, 'id: must be a string'],
    [{ id: ['a', 'b'], usd: 1 }, 'id: must be a string, given once'],
    [{ id: 'a', usd: {} }, 'usd: has a type that is not allowed here'],
    [{ idd: 'a', usd: 1 }, 'idd is not a field; known: id, usd'],
    [[], 'must be an object'],
  ])('%j is refused with what would be right', (value, message) => {
    expect(() => parseInput(schema, value)).toThrow(message);
  });
});
