import { setImmediate as turn } from 'node:timers/promises';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { isDatabaseAway } from '../../src/db/sqlstate.js';
import { StillHeld, Twins } from '../../src/record/twins.js';

const held = () => Promise.reject(Object.assign(new Error('lock timeout'), { code: '55P03' }));

/** An id that is held until it is let go. */
function holdable() {
  const state = { isHeld: true, tries: 0, atOnce: 0, mostAtOnce: 0 };
  const attempt = async (): Promise<string> => {
    state.tries++;
    state.atOnce++;
    state.mostAtOnce = Math.max(state.mostAtOnce, state.atOnce);
    await turn();
    state.atOnce--;
    return state.isHeld ? await held() : 'written';
  };
  return { state, attempt };
}

const untilTries = async (state: { tries: number }, tries: number) => {
  while (state.tries < tries) await turn();
};

describe('redeliveries of one id that is held', () => {
  it('leave the tries to one of them, however many they are', async () => {
    const twins = new Twins({ waitMs: 600_000, onHeld: () => {} });
    const { state, attempt } = holdable();
    const waiting = Array.from({ length: 100 }, () => twins.wait('a', attempt));
    await untilTries(state, 3);
    expect(state.tries).toBe(3);
    expect(state.mostAtOnce).toBe(1);
    state.isHeld = false;
    expect(new Set(await Promise.all(waiting))).toEqual(new Set(['written']));
    expect(twins.isExpected('a')).toBe(false);
  });

  it('go on when the one that tried has waited long enough', async () => {
    const twins = new Twins({ waitMs: 50, onHeld: () => {} });
    const { state, attempt } = holdable();
    const first = twins.wait('a', attempt);
    const outcomes = Promise.allSettled([first, twins.wait('a', attempt)]);
    expect(await outcomes).toMatchObject([
      { status: 'rejected', reason: { code: 'unavailable' } },
      { status: 'rejected', reason: { code: 'unavailable' } },
    ]);
    state.isHeld = false;
    expect(await twins.wait('a', attempt)).toBe('written');
  });

  it('do not wait for one of another id', async () => {
    const twins = new Twins({ waitMs: 600_000, onHeld: () => {} });
    const { state, attempt } = holdable();
    const waiting = twins.wait('a', attempt);
    expect(await twins.wait('b', async () => 'written')).toBe('written');
    state.isHeld = false;
    await waiting;
  });

  it('that fails otherwise fail alone', async () => {
    const twins = new Twins({ waitMs: 600_000, onHeld: () => {} });
    const broken = twins.wait('a', () => Promise.reject(new Error('broken')));
    const other = twins.wait('a', async () => 'written');
    await expect(broken).rejects.toThrow('broken');
    expect(await other).toBe('written');
  });
});

describe('many ids that are held', () => {
  it('take turns, two at a time: connections are left for whoever is not held', async () => {
    const twins = new Twins({ waitMs: 600_000, onHeld: () => {} });
    const { state, attempt } = holdable();
    const waiting = Array.from({ length: 20 }, (_, at) => twins.wait(`id ${at}`, attempt));
    await untilTries(state, 20);
    expect(state.mostAtOnce).toBe(2);
    state.isHeld = false;
    await Promise.all(waiting);
  });
});

describe('an id whose turn comes when it has waited long enough', () => {
  it('is not tried any more, and refused as one that is held', async () => {
    vi.useFakeTimers({ toFake: ['performance'] });
    onTestFinished(() => void vi.useRealTimers());
    const twins = new Twins({ waitMs: 5_000, onHeld: () => {} });
    let end = () => {};
    const ended = new Promise<void>((resolve) => {
      end = resolve;
    });
    const slow = () => ended.then(held);
    const { state, attempt } = holdable();
    const outcomes = Promise.allSettled([
      twins.wait('a', slow),
      twins.wait('b', slow),
      twins.wait('c', attempt),
    ]);
    vi.advanceTimersByTime(6_000);
    end();
    for (const outcome of await outcomes) {
      const reason: unknown = outcome.status === 'rejected' ? outcome.reason : null;
      expect(reason).toMatchObject({ code: 'unavailable', details: { sqlstate: '55P03' } });
      expect(isDatabaseAway(reason)).toBe(false);
    }
    expect(state.tries).toBe(0);
  });
});

describe('a statement that met a lock of the table', () => {
  const lockTimeout = Object.assign(new Error('lock timeout'), { code: '55P03' });

  it('is sent again until the table is free', async () => {
    const twins = new Twins({ waitMs: 600_000, onHeld: () => {} });
    let asked = 0;
    const attempt = () => (asked < 3 ? held() : Promise.resolve('written'));
    const isLocked = async () => {
      asked++;
      return true;
    };
    expect(await twins.waitForTable(lockTimeout, isLocked, attempt)).toBe('written');
    expect(asked).toBe(3);
  });

  it('is not sent again where it was another lock', async () => {
    const twins = new Twins({ waitMs: 600_000, onHeld: () => {} });
    const { state, attempt } = holdable();
    await expect(twins.waitForTable(lockTimeout, async () => false, attempt)).rejects.toBe(
      lockTimeout,
    );
    expect(state.tries).toBe(0);
  });
});

describe('ids of a statement that met a lock', () => {
  it('stay out of other statements until it is known which of them is held', async () => {
    const twins = new Twins({ waitMs: 600_000, onHeld: () => {} });
    twins.suspect(['a', 'b']);
    expect(['a', 'b', 'c'].map((id) => twins.isExpected(id))).toEqual([true, true, false]);
    await twins.wait('a', async () => 'written');
    expect(['a', 'b'].map((id) => twins.isExpected(id))).toEqual([false, true]);
  });
});

describe('who may be free, in line with ids that are held', () => {
  it('is refused once it stood there for as long as a twin is waited for, and five seconds', () => {
    vi.useFakeTimers({ toFake: ['performance'] });
    onTestFinished(() => {
      vi.useRealTimers();
    });
    const line = (waitMs: number) => new Twins({ waitMs, onHeld: () => {} }).patience('a');
    const [short, long] = [line(50), line(10_000)];
    vi.advanceTimersByTime(4_999);
    short();
    vi.advanceTimersByTime(2);
    expect(short).toThrow(StillHeld);
    expect(short).toThrow(/in line before it; send the event again later/);
    long();
    vi.advanceTimersByTime(5_000);
    expect(long).toThrow(StillHeld);
  });
});
