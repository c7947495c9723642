import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { placesOf } from '../../src/db/embedded/cluster.js';
import { Members, StartLock } from '../../src/db/embedded/membership.js';
import { currentIdentity, isRunning } from '../../src/db/embedded/processes.js';
import { EmbeddedServer } from '../../src/db/embedded/server.js';

let dir: string;
let lock: string;

beforeEach(() => {
  dir = mkdtempSync(path.join(tmpdir(), 'microdollar-lock-'));
  lock = path.join(dir, 'lock');
});
afterEach(() => {
  vi.useRealTimers();
  rmSync(dir, { recursive: true, force: true });
});

const [boot = ''] = currentIdentity().namespace.split(' ');

describe('a lock of another container', () => {
  /** It is as old as that by the system's clock. */
  function heldElsewhere(ageMs: number, namespace = `${boot} elsewhere`): () => void {
    new StartLock(lock);
    const file = path.join(lock, '1');
    writeFileSync(file, JSON.stringify({ ...currentIdentity(), namespace }));
    const touch = (at: number) => utimesSync(file, new Date(at), new Date(at));
    touch(Date.now() - ageMs);
    return () => touch(Date.now());
  }

  const isHeld = () => new StartLock(lock).tryAcquire() === null;

  beforeEach(() => {
    vi.useFakeTimers({ toFake: ['Date', 'performance'] });
  });

  it.each([
    ['the machine slept, or the clock was set forward', 3_600_000],
    ['the clock was set back', -3_600_000],
  ])('counts where %s, until it is seen to stand still', (_when, ageMs) => {
    const touch = heldElsewhere(ageMs);
    for (let seconds = 0; seconds < 10; seconds += 5) {
      expect(isHeld()).toBe(true);
      vi.advanceTimersByTime(5_000);
    }
    // It lives, and comes to refresh it just then.
    touch();
    expect(isHeld()).toBe(true);
    vi.setSystemTime(Date.now() + 3_600_000);
    for (let seconds = 0; seconds < 10; seconds += 5) {
      expect(isHeld()).toBe(true);
      vi.advanceTimersByTime(5_000);
    }
    expect(isHeld()).toBe(false);
  });

  it('is not taken for dead by who did not look meanwhile', () => {
    heldElsewhere(3_600_000);
    expect(isHeld()).toBe(true);
    vi.advanceTimersByTime(60_000);
    expect(isHeld()).toBe(true);
  });

  it('is void for who looks every fifteen seconds', () => {
    heldElsewhere(3_600_000);
    expect(isHeld()).toBe(true);
    vi.advanceTimersByTime(15_000);
    expect(isHeld()).toBe(false);
  });

  it('is not told as held once it is old: who looks once would say so for ever', () => {
    heldElsewhere(29_000);
    expect(new StartLock(lock).holder()).not.toBeNull();
    vi.advanceTimersByTime(1_000);
    expect(new StartLock(lock).holder()).toBeNull();
    expect(isHeld()).toBe(true);
  });

  it('of an earlier boot is void once it is old', () => {
    heldElsewhere(29_000, 'another boot');
    expect(isHeld()).toBe(true);
    vi.advanceTimersByTime(1_000);
    expect(isHeld()).toBe(false);
  });
});

describe('on a full disk', () => {
  const full = () => {
    throw Object.assign(new Error('planted'), { code: 'ENOSPC' });
  };

  it('the server is stopped all the same', async () => {
    const places = placesOf(dir);
    const args = [
      '-e',
      'setInterval(() => {}, 1e6)',
      '--',
      `microdollar.cluster=${places.cluster}`,
    ];
    const child = spawn(process.execPath, [...args, 'x'], { stdio: 'ignore' });
    const ended = once(child, 'exit');
    await once(child, 'spawn');
    const members = new Members(places.members);
    const server = new EmbeddedServer(
      places,
      members,
      { acquire: async () => full(), tryAcquire: full } as unknown as StartLock,
      members.join(),
      { dataDir: dir },
      { pid: child.pid ?? 0, port: 1, joined: false, url: '' },
    );
    await server.stop().finally(() => child.kill());
    await ended;
    expect(isRunning(child.pid ?? 0)).toBe(false);
    expect(await server.exited).toMatchObject({ expected: true });
  });
});
