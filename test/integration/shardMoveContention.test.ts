import { spawn } from 'node:child_process';

import { randomInt, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { LedgerError } from '../../src/errors.js';
import type { MovePoint } from '../../src/shards/move/types.js';
import { inForm } from '../support/form.js';
import { programPath } from '../support/programs.js';
import { createMoveFixture, type MoveFixture } from './shardMoveHarness.js';

const WRITERS = 16;
const MOVES = inForm(2, 4);
const WINDOW = { from: '2020-01-01', until: '2099-01-01' };
const WORKER = 'test/support/moveWorker.ts';

let fixture: MoveFixture;

beforeAll(async () => {
  fixture = await createMoveFixture();
});

afterAll(() => fixture.close());

type Name = 'a' | 'b';

/** Clients of one user that know the directory, and keep a book of what was acknowledged. */
class Clients {
  readonly user: string;
  readonly book = new Map<string, number>();
  sent = 0;
  acknowledged = 0;
  /** Events that waited in vain, and were sent again. */
  waited = 0;
  #isStopping = false;

  constructor(user: string) {
    this.user = user;
  }

  /** Sent again where the answer says so: a mover that died may have left its fence up. */
  async write(id: string, cost: number): Promise<string> {
    for (;;) {
      try {
        const { status } = await fixture.sharded.recordUsage({
          id,
          kilo_user_id: this.user,
          cost,
          model: 'm',
          metadata: { finish_reason: 'stop', editor_name: `editor ${cost % 3}` },
        });
        return status;
      } catch (error) {
        if (!(error instanceof LedgerError) || !error.retryable) throw error;
        this.waited++;
      }
    }
  }

  /** Until it is stopped, or anybody is refused. */
  async run(writers: number): Promise<void> {
    await Promise.all(
      Array.from({ length: writers }, async () => {
        while (!this.#isStopping) {
          const [id, cost] = [randomUUID(), randomInt(1, 1_000)];
          this.sent += cost;
          const tries = this.waited;
          const status = await this.write(id, cost);
          // What waited may have been written all the same.
          if (this.waited === tries) expect(status).toBe('recorded');
          this.acknowledged += cost;
          this.book.set(id, cost);
          await sleep(randomInt(inForm(30, 10)));
          if (randomInt(10) > 0) continue;
          expect(await this.write(id, cost)).toBe('duplicate');
        }
      }),
    );
  }

  /** Balances, as long as they write: all that was acknowledged before, nothing that was not sent. */
  async sample(): Promise<number> {
    let samples = 0;
    while (!this.#isStopping) {
      const least = this.acknowledged;
      const read = await Promise.all([
        fixture.sharded.getUserBalance(this.user),
        fixture.sharded.getDailyUsage({ kilo_user_id: this.user, ...WINDOW }),
      ]).catch((error) => {
        // A call waits for two seconds: on a busy machine a fence may be up for longer.
        if (!(error instanceof LedgerError) || !error.retryable) throw error;
        return null;
      });
      if (read === null) continue;
      const [balance, days] = read;
      const most = this.sent;
      const sum = days.reduce((total, day) => total + Number(day.total_cost_microdollars), 0);
      for (const reported of [Number(balance), sum]) {
        expect(reported).toBeGreaterThanOrEqual(least);
        expect(reported).toBeLessThanOrEqual(most);
      }
      samples++;
      await sleep(inForm(40, 20));
    }
    return samples;
  }

  stop(): void {
    this.#isStopping = true;
  }
}

/** What is stored of the user, by shard. */
async function stored(user: string) {
  const of = async (name: Name) => {
    const [row] = await fixture[name].rows<{ n: number; cost: string }>(
      `select count(*)::integer as n, coalesce(sum(cost), 0) as cost from microdollar_usage
       where kilo_user_id = $1`,
      [user],
    );
    return { n: row?.n ?? 0, cost: Number(row?.cost) };
  };
  return { a: await of('a'), b: await of('b') };
}

describe('a user that moves while sixteen write', () => {
  it('loses nothing and counts nothing twice, and its neighbours do not notice', async () => {
    const clients = new Clients(await fixture.a.addUser());
    const neighbour = new Clients(await fixture.a.addUser());
    const work = [clients.run(WRITERS), neighbour.run(2)];
    const sampling = clients.sample();
    let longestFenceMs = 0;
    for (let move = 0; move < MOVES; move++) {
      await sleep(200);
      const to = move % 2 === 0 ? 'b' : 'a';
      const report = await fixture.moves.move({ kilo_user_id: clients.user }, to);
      expect(report).toMatchObject({ finished: true });
      longestFenceMs = Math.max(longestFenceMs, report.fencedMs);
    }
    clients.stop();
    neighbour.stop();
    await Promise.all(work);
    expect(await sampling).toBeGreaterThan(0);
    expect(neighbour.waited).toBe(0);
    // A call waits for two seconds: on a busy machine a fence may be up for longer.
    if (longestFenceMs < 1_000) expect(clients.waited).toBe(0);
    expect(await stored(clients.user)).toEqual({
      a: { n: clients.book.size, cost: clients.acknowledged },
      b: { n: 0, cost: 0 },
    });
    for (const [id, cost] of [...clients.book].slice(0, 50)) {
      expect(await clients.write(id, cost)).toBe('duplicate');
    }
    const [id] = clients.book.keys();
    await expect(clients.write(id as string, -1)).rejects.toMatchObject({
      code: 'idempotency_conflict',
    });
    await fixture.expectExact();
    await fixture.a.expectExact();
    await fixture.b.expectExact();
  });
});

describe('a mover that is killed', () => {
  it('at any moment leaves what another one finishes', async () => {
    const clients = new Clients(await fixture.a.addUser());
    const work = clients.run(4);
    const points: readonly MovePoint[] = ['fenced', 'written'];
    for (const [index, point] of points.entries()) {
      const to = index % 2 === 0 ? 'b' : 'a';
      const urls = [fixture.a.database.url, fixture.b.database.url];
      const worker = spawn(
        process.execPath,
        [programPath(WORKER), clients.user, to, ...urls, point],
        {
          stdio: ['ignore', 'pipe', 'inherit'],
        },
      );
      const exited = once(worker, 'exit');
      for await (const line of createInterface({ input: worker.stdout })) {
        if (line === point) worker.kill('SIGKILL');
      }
      await exited;
      expect(worker.signalCode).toBe('SIGKILL');
      await fixture.expectExact();
      await fixture.moves.resume({ pageRows: 100 });
    }
    clients.stop();
    await work;
    expect(await stored(clients.user)).toEqual({
      a: { n: clients.book.size, cost: clients.acknowledged },
      b: { n: 0, cost: 0 },
    });
    await fixture.expectExact();
  });
});
