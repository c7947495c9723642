import { describe, expect, it } from 'vitest';
import { startTask } from '../../src/background.js';

const AN_HOUR_MS = 3_600_000;

function start(options: { restsFirst?: boolean; fails?: boolean }) {
  const told: unknown[] = [];
  let rounds = 0;
  const task = startTask({
    name: 'test',
    intervalMs: AN_HOUR_MS,
    ...(options.restsFirst ? { restsFirst: true } : {}),
    onError: (error) => told.push(error),
    run: async () => {
      rounds++;
      if (options.fails) throw new Error('planted');
    },
  });
  return { task, told, rounds: () => rounds };
}

describe('a task', () => {
  it('begins at once, and again when it is woken', async () => {
    const { task, rounds } = start({});
    await expect.poll(rounds).toBe(1);
    task.wake();
    await expect.poll(rounds).toBe(2);
    await task.stop();
    expect(rounds()).toBe(2);
  });

  it('that rests first does nothing until its interval is over, or it is woken', async () => {
    const { task, rounds } = start({ restsFirst: true });
    await new Promise(setImmediate);
    expect(rounds()).toBe(0);
    task.wake();
    await expect.poll(rounds).toBe(1);
    await task.stop();
  });

  it('that is stopped in its first rest never ran', async () => {
    const { task, rounds } = start({ restsFirst: true });
    await task.stop();
    expect(rounds()).toBe(0);
  });

  it('goes on after a failure, which is told', async () => {
    const { task, told, rounds } = start({ fails: true });
    await expect.poll(rounds).toBe(1);
    task.wake();
    await expect.poll(() => told.length).toBe(2);
    await task.stop();
  });
});
