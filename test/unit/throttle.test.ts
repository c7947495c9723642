import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import type { Query } from '../../src/db/query.js';
import type { Statement } from '../../src/db/statement.js';
import { restAfter, Throttle } from '../../src/rollup/throttle.js';

// By a clock that is moved on here: what takes long on a busy machine is not in it.
beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

/** Moves the clock on until the work is done. */
async function untilDone<T>(work: Promise<T>): Promise<T> {
  let isDone = false;
  void Promise.allSettled([work]).then(() => {
    isDone = true;
  });
  while (!isDone) await vi.advanceTimersByTimeAsync(1);
  return work;
}

const QUIET = { activeSessions: 0, lockWaits: 0, replicaLagBytes: 0 };

/** A database with the given load, whose probes end when `state.answer` does. */
function createDatabase(activeSessions: number) {
  const state = { activeSessions, answer: async () => {} };
  const query = (async ({ text }: Statement) => {
    if (text.includes('probe')) {
      await state.answer();
      return [];
    }
    return [{ active: String(state.activeSessions), lock_waits: '0', replica_lag: '0' }];
  }) as Query;
  return { state, query };
}

it('rests as long as the work at least while others are at work, longer for locks and lag', () => {
  expect(restAfter(100, QUIET, 1.5)).toBe(0);
  expect(restAfter(100, { ...QUIET, activeSessions: 1 }, 1.5)).toBe(150);
  expect(restAfter(100, { ...QUIET, activeSessions: 1 }, 3)).toBe(300);
  expect(restAfter(1_900, { ...QUIET, activeSessions: 1 }, 3)).toBe(5_000);
  expect(restAfter(100, { ...QUIET, lockWaits: 1 }, 1.5)).toBe(500);
  expect(restAfter(100, { ...QUIET, replicaLagBytes: 1e9 }, 1.5)).toBe(5_000);
});

it('runs chunks side by side on an idle database, one at a time while others are at work', async () => {
  const { state, query } = createDatabase(0);
  let running = 0;
  let most = 0;
  const throttle = new Throttle(query, { rest: async () => {} });
  const chunks = () =>
    untilDone(
      Promise.all(
        Array.from({ length: 4 }, () =>
          throttle.turn(() =>
            throttle.run(async () => {
              most = Math.max(most, ++running);
              await sleep(1);
              running--;
            }),
          ),
        ),
      ),
    );
  // Looked at before the first chunk: then they need no turns.
  await chunks();
  expect(most).toBe(4);
  state.activeSessions = 3;
  await chunks();
  most = 0;
  await chunks();
  expect(most).toBe(1);
});

it('looks at the load, and probes, twenty times a second at most, however short chunks are', async () => {
  const { state, query } = createDatabase(1);
  const asked = { probe: 0, load: 0 };
  const counting = ((statement: Statement) => {
    asked[statement.text.includes('probe') ? 'probe' : 'load']++;
    return query(statement);
  }) as Query;
  state.answer = () => sleep(1);
  const throttle = new Throttle(counting, { rest: sleep });
  const startedAt = performance.now();
  for (let chunk = 0; chunk < 100; chunk++) await untilDone(throttle.run(() => sleep(10)));
  const most = Math.ceil((performance.now() - startedAt) / 50) + 1;
  expect(asked.load).toBeLessThanOrEqual(most);
  expect(asked.load).toBeGreaterThan(most / 4);
  // Beside chunks and between them.
  expect(asked.probe).toBeLessThanOrEqual(2 * most);
  expect(asked.probe).toBeGreaterThan(most / 2);
});

it('rests longer, and lets chunks be shorter, while commits beside them are slow', async () => {
  const { state, query } = createDatabase(1);
  let isChunk = false;
  let isSlowBeside = true;
  state.answer = () => sleep(isChunk && isSlowBeside ? 40 : 0);
  const throttle = new Throttle(query, { rest: () => sleep(400) });
  const round = () =>
    untilDone(
      throttle.run(async () => {
        isChunk = true;
        await sleep(700);
        isChunk = false;
      }),
    );
  const firstMs = throttle.chunkMs;
  await round();
  const raised = throttle.restRatio;
  expect(raised).toBeGreaterThan(1.5);
  expect(throttle.chunkMs).toBeLessThan(firstMs);
  await round();
  expect(throttle.restRatio).toBeGreaterThan(raised);
  const highest = throttle.restRatio;
  const shortestMs = throttle.chunkMs;
  isSlowBeside = false;
  await round();
  expect(throttle.restRatio).toBeLessThan(highest);
  expect(throttle.chunkMs).toBeGreaterThan(shortestMs);
});

it('passes on what a chunk throws, and the turn; a probe that fails is nobody’s business', async () => {
  const { state, query } = createDatabase(1);
  state.answer = () => Promise.reject(new Error('probe'));
  const throttle = new Throttle(query, { rest: async () => {} });
  const results = await untilDone(
    Promise.allSettled([
      throttle.turn(() => throttle.run(() => Promise.reject(new Error('chunk')))),
      throttle.turn(() => throttle.run(() => sleep(120).then(() => 'next'))),
    ]),
  );
  expect(results).toEqual([
    { status: 'rejected', reason: new Error('chunk') },
    { status: 'fulfilled', value: 'next' },
  ]);
});
