import { setImmediate as turn } from 'node:timers/promises';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { LedgerError } from '../../src/errors.js';
import type { ValidEvent } from '../../src/record/event.js';
import { validateEvent } from '../../src/record/event.js';
import { GroupCommit, type GroupCommitOptions } from '../../src/record/groupCommit.js';
import type { Outcome, Written } from '../../src/record/recorder.js';
import { StillHeld } from '../../src/record/twins.js';
import { inForm } from '../support/form.js';

const ID = '00000000-0000-4000-8000-00000000000a';
const event = (cost: number, id: string | null = null) =>
  validateEvent({ kilo_user_id: 'u', cost, id }, { nulBytesRemoved: 0 });

/** Cost of an event that the write of `manualQueue` leaves aside. */
const ASIDE = 1_000_000;

/** An answer that tells whose it is: the cost, as its time. */
const answer = (each: ValidEvent): Outcome => ({
  result: { id: each.id, created_at: String(each.cost), status: 'recorded' },
});

/** A queue whose writes the test answers by hand, in any order. */
function manualQueue({
  asideOf = answer,
  ...options
}: Partial<GroupCommitOptions> & { asideOf?: (each: ValidEvent) => Outcome } = {}) {
  const writes: {
    costs: number[];
    ids: string[];
    finish(): Promise<void>;
    fail(e: Error): void;
  }[] = [];
  const queue = new GroupCommit({
    lanes: 2,
    maxBatch: 10,
    maxQueue: 100,
    ...options,
    write: (events) =>
      new Promise((resolve, reject) => {
        writes.push({
          costs: events.map(({ cost }) => cost),
          ids: events.map(({ id }) => id),
          finish: async () => {
            resolve(
              events.map((each) =>
                each.cost === ASIDE ? Promise.resolve(asideOf(each)) : answer(each),
              ),
            );
            await turn();
          },
          fail: reject,
        });
      }),
  });
  return { queue, writes };
}

describe('group commit', () => {
  it('sends one call at once when idle', async () => {
    const { queue, writes } = manualQueue();
    const result = queue.record(event(1));
    await turn();
    expect(writes.map(({ costs }) => costs)).toEqual([[1]]);
    await writes[0]?.finish();
    expect((await result).created_at).toBe('1');
  });

  it('sends calls made together as one statement, in order', async () => {
    const { queue, writes } = manualQueue();
    const results = [3, 1, 2].map((cost) => queue.record(event(cost)));
    await turn();
    expect(writes.map(({ costs }) => costs)).toEqual([[3, 1, 2]]);
    await writes[0]?.finish();
    const answers = (await Promise.all(results)).map((each) => each.created_at);
    expect(answers).toEqual(['3', '1', '2']);
  });

  it('gathers while a statement is in flight, and sends when it is back', async () => {
    const { queue, writes } = manualQueue();
    void queue.record(event(1));
    await turn();
    for (const cost of [2, 3, 4]) void queue.record(event(cost));
    await turn();
    expect(writes).toHaveLength(1);
    expect(queue.queued).toBe(3);
    await writes[0]?.finish();
    expect(writes[1]?.costs).toEqual([2, 3, 4]);
    expect(queue.queued).toBe(0);
  });

  it('opens another lane for many events, but no more lanes than allowed', async () => {
    const { queue, writes } = manualQueue({ lanes: 2, maxBatch: 80, maxQueue: 500 });
    void queue.record(event(0));
    await turn();
    for (let cost = 1; cost <= 63; cost++) void queue.record(event(cost));
    await turn();
    expect(writes).toHaveLength(1);
    for (let cost = 64; cost <= 200; cost++) void queue.record(event(cost));
    await turn();
    expect(writes.map(({ costs }) => costs.length)).toEqual([1, 80]);
    await writes[1]?.finish();
    expect(writes[2]?.costs.length).toBe(80);
  });

  it('sends one event a statement on every lane where batches are of one', async () => {
    const { queue, writes } = manualQueue({ lanes: 4, maxBatch: 1 });
    for (let cost = 0; cost < 6; cost++) void queue.record(event(cost));
    await turn();
    expect(writes.map(({ costs }) => costs)).toEqual([[0], [1], [2], [3]]);
  });

  it('shares many events that come at once between two lanes', async () => {
    const { queue, writes } = manualQueue({ lanes: 4, maxBatch: 500, maxQueue: 500 });
    for (let cost = 0; cost < 200; cost++) void queue.record(event(cost));
    await turn();
    expect(writes.map(({ costs }) => costs.length)).toEqual([100, 100]);
  });

  it('opens another lane when the first is out for long: it may wait for a twin', async () => {
    const { queue, writes } = manualQueue();
    void queue.record(event(1));
    await turn();
    void queue.record(event(2));
    while (writes.length < 2) await turn();
    expect(writes[1]?.costs).toEqual([2]);
  });

  it('puts two events of one id into two statements', async () => {
    const { queue, writes } = manualQueue();
    for (const each of [event(1, ID), event(2), event(3, ID), event(4)]) void queue.record(each);
    await turn();
    expect(writes[0]?.costs).toEqual([1, 2, 4]);
    await writes[0]?.finish();
    expect(writes[1]?.costs).toEqual([3]);
  });

  it.each([
    ['batches', 10, [[1, 2], [4], [3]]],
    ['statements of one', 1, [[1], [2], [4], [3]]],
  ] as const)(
    'sends no second event of an id beside the first, in %s',
    async (_, maxBatch, sent) => {
      const { queue, writes } = manualQueue({ maxBatch, lanes: 5 });
      for (const each of [event(1, ID), event(2), event(3, ID)]) void queue.record(each);
      await turn();
      // Sent when the first has been out for long: what else waits is sent by then as well.
      void queue.record(event(4));
      while (writes.length < sent.length - 1) await turn();
      expect(queue.queued).toBe(1);
      await writes[0]?.finish();
      while (writes.length < sent.length) await turn();
      expect(writes.map(({ costs }) => costs)).toEqual(sent);
      for (const { finish } of writes.slice(1)) await finish();
      await queue.drain();
    },
  );

  it('refuses what exceeds its bound, with a retryable error, and accepts again later', async () => {
    const { queue, writes } = manualQueue({ maxQueue: 2, lanes: 1 });
    void queue.record(event(0));
    await turn();
    void queue.record(event(1));
    void queue.record(event(2));
    await expect(queue.record(event(3))).rejects.toMatchObject({
      code: 'unavailable',
      retryable: true,
      details: { waiting: 2 },
    });
    await writes[0]?.finish();
    const later = queue.record(event(4));
    await writes[1]?.finish();
    await writes[2]?.finish();
    expect((await later).created_at).toBe('4');
  });

  it('rejects every caller of a write that fails, and goes on', async () => {
    const { queue, writes } = manualQueue();
    const failed = [1, 2].map((cost) => queue.record(event(cost)));
    await turn();
    writes[0]?.fail(new Error('lost'));
    for (const each of failed) await expect(each).rejects.toThrow('lost');
    const next = queue.record(event(3));
    await turn();
    await writes[1]?.finish();
    expect((await next).created_at).toBe('3');
  });

  it('refuses what waits behind a statement that found no database, unsent, and goes on', async () => {
    const away = new LedgerError('unavailable', 'gone', { details: { sqlstate: null } });
    const busy = new LedgerError('unavailable', 'locked', { details: { sqlstate: '55P03' } });
    for (const [error, sent] of [
      [away, [[1], [3]]],
      [busy, [[1], [2], [3]]],
    ] as const) {
      const writes: number[][] = [];
      const queue = new GroupCommit({
        ...{ lanes: 1, maxBatch: 1, maxQueue: 10 },
        write: async (events) => {
          writes.push(events.map(({ cost }) => cost));
          return events.map(() => ({ error }));
        },
      });
      const calls = [1, 2].map((cost) => queue.record(event(cost)));
      for (const call of calls) await expect(call).rejects.toBe(error);
      await expect(queue.record(event(3))).rejects.toBe(error);
      await queue.drain();
      expect(writes).toEqual(sent);
    }
  });

  it('answers the neighbours of an event that waits aside, and sends on, before its outcome', async () => {
    let decide = (_: Outcome): void => {};
    const waiting = new Promise<Outcome>((resolve) => {
      decide = resolve;
    });
    const sent: number[][] = [];
    const queue = new GroupCommit({
      ...{ lanes: 1, maxBatch: 10, maxQueue: 10 },
      write: async (events) => {
        sent.push(events.map(({ cost }) => cost));
        return events.map((each): Written => (each.cost === 2 ? waiting : answer(each)));
      },
    });
    let isAnswered = false;
    const [first, aside, third] = [1, 2, 3].map((cost) => queue.record(event(cost)));
    void aside?.then(() => {
      isAnswered = true;
    });
    expect((await first)?.created_at).toBe('1');
    expect((await third)?.created_at).toBe('3');
    expect((await queue.record(event(4))).created_at).toBe('4');
    await queue.drain();
    expect(sent).toEqual([[1, 2, 3], [4]]);
    expect(isAnswered).toBe(false);
    decide(answer(event(2)));
    expect((await aside)?.created_at).toBe('2');
  });

  it('sends the next of an id when the first, aside, is answered; refuses it where that was in vain', async () => {
    for (const isVain of [false, true]) {
      let decide = (_: Outcome): void => {};
      const waiting = new Promise<Outcome>((resolve) => {
        decide = resolve;
      });
      const sent: number[][] = [];
      const queue = new GroupCommit({
        ...{ lanes: 1, maxBatch: 10, maxQueue: 10 },
        writeAside: ({ cost }) => (cost === 1 ? waiting : null),
        write: async (events) => {
          sent.push(events.map(({ cost }) => cost));
          return events.map(answer);
        },
      });
      const [first, second, third, other] = [
        ...[1, 2, 3].map((cost) => queue.record(event(cost, ID))),
        queue.record(event(4)),
      ];
      expect((await other)?.created_at).toBe('4');
      expect([sent, queue.queued]).toEqual([[[4]], 2]);
      const held = new StillHeld('held', ID, null);
      decide(isVain ? { error: held } : answer(event(1, ID)));
      const told = await Promise.allSettled([first, second, third]);
      if (isVain)
        expect(told.map((each) => 'reason' in each && each.reason)).toEqual([held, held, held]);
      else expect(told.map(({ status }) => status)).toEqual(Array(3).fill('fulfilled'));
      await queue.drain();
      expect([sent, queue.queued]).toEqual([isVain ? [[4]] : [[4], [2], [3]], 0]);
    }
  });

  it('goes on where a write fails before it begins', async () => {
    let isBroken = true;
    const queue = new GroupCommit({
      ...{ lanes: 1, maxBatch: 10, maxQueue: 10 },
      write: (events) => {
        if (isBroken) throw new Error('at once');
        return Promise.resolve(events.map(answer));
      },
    });
    await expect(queue.record(event(1, ID))).rejects.toThrow('at once');
    isBroken = false;
    expect((await queue.record(event(2, ID))).created_at).toBe('2');
  });

  it('sends what waits, though an event that waits aside has found no database', async () => {
    const away = new LedgerError('unavailable', 'gone', { details: { sqlstate: null } });
    const { queue, writes } = manualQueue({ lanes: 1, asideOf: () => ({ error: away }) });
    const refused = expect(queue.record(event(ASIDE))).rejects.toBe(away);
    await turn();
    const behind = [queue.record(event(2))];
    await turn();
    await writes[0]?.finish();
    behind.push(queue.record(event(3)));
    await refused;
    await writes[1]?.finish();
    await writes[2]?.finish();
    expect((await Promise.all(behind)).map((each) => each.created_at)).toEqual(['2', '3']);
  });

  it('drains: resolves only when everything is answered', async () => {
    const { queue, writes } = manualQueue({ lanes: 1, maxBatch: 2 });
    await queue.drain();
    for (let cost = 0; cost < 5; cost++) void queue.record(event(cost));
    let isDrained = false;
    const drained = queue.drain().then(() => {
      isDrained = true;
    });
    await turn();
    for (let write = 0; write < 3; write++) {
      expect(isDrained).toBe(false);
      await writes[write]?.finish();
    }
    await drained;
    expect(writes.map(({ costs }) => costs)).toEqual([[0, 1], [2, 3], [4]]);
  });

  it('answers every call with its own outcome, whatever the order of arrivals and answers', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.array(fc.integer({ min: 0, max: 5 }), { maxLength: 8 }), { maxLength: 12 }),
        fc.integer({ min: 1, max: 4 }),
        fc.integer({ min: 1, max: 6 }),
        fc.infiniteStream(fc.nat()),
        async (bursts, lanes, maxBatch, choices) => {
          const { queue, writes } = manualQueue({ lanes, maxBatch, maxQueue: 1000 });
          const open: typeof writes = [];
          let seen = 0;
          const results: Promise<[sent: string, got: string]>[] = [];
          const answerOne = async () => {
            open.push(...writes.slice(seen));
            seen = writes.length;
            expect(open.length).toBeLessThanOrEqual(lanes);
            for (const { ids } of open) expect(ids.length).toBeLessThanOrEqual(maxBatch);
            const inFlight = open.flatMap(({ ids }) => ids);
            expect(new Set(inFlight).size).toBe(inFlight.length);
            const [write] = open.splice((choices.next().value ?? 0) % (open.length || 1), 1);
            await write?.finish();
          };
          for (const burst of bursts) {
            for (const number of burst) {
              const sent = event(number, `00000000-0000-4000-8000-00000000000${number}`);
              results.push(queue.record(sent).then(({ id }) => [sent.id, id]));
            }
            await turn();
            await answerOne();
          }
          const drained = queue.drain();
          let isDrained = false;
          void drained.then(() => {
            isDrained = true;
          });
          while (!isDrained) {
            await turn();
            await answerOne();
          }
          for (const [sent, got] of await Promise.all(results)) expect(got).toBe(sent);
        },
      ),
      { numRuns: inForm(30, 60) },
    );
  });
});
