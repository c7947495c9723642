import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { Removals } from '../../../src/gateway/durable/removals.js';

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

it('removes together what comes within a moment, and again what could not be removed', async () => {
  const tries: string[][] = [];
  let isAway = true;
  const removals = new Removals(async (ids) => {
    tries.push([...ids]);
    if (isAway) throw new Error('Connection terminated');
  });
  for (const id of ['a', 'b']) removals.add(id);
  await vi.advanceTimersByTimeAsync(100);
  // Nobody adds another: what is left is not forgotten for that.
  await vi.advanceTimersByTimeAsync(1_000);
  expect(tries).toEqual([
    ['a', 'b'],
    ['a', 'b'],
  ]);
  isAway = false;
  await vi.advanceTimersByTimeAsync(10_000);
  expect(tries).toHaveLength(3);
});

it('leaves what is needed again by then', async () => {
  const removed: string[] = [];
  const needed = new Set<string>();
  const removals = new Removals(
    async (ids) => {
      removed.push(...ids);
    },
    (id) => needed.has(id),
  );
  for (const id of ['a', 'b']) removals.add(id);
  needed.add('a');
  await vi.advanceTimersByTimeAsync(1_000);
  needed.delete('a');
  await vi.advanceTimersByTimeAsync(10_000);
  expect(removed).toEqual(['b']);
});

it('tries once more at its end, and never again', async () => {
  let tries = 0;
  const removals = new Removals(async () => {
    tries++;
    throw new Error('Connection terminated');
  });
  removals.add('a');
  await removals.end();
  await vi.advanceTimersByTimeAsync(60_000);
  expect(tries).toBe(1);
});
