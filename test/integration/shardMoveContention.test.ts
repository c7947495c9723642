import { spawn } from 'node:child_process';
import { randomInt, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { isElsewhere, type LedgerError } from '../../src/errors.js';
import { insertUsageAndMetadataWithBalanceUpdate } from '../../src/record/onExecutor.js';
import type { MovePoint } from '../../src/shards/move/types.js';
import { programPath } from '../support/programs.js';
import { createMoveFixture, type MoveFixture } from './shardMoveHarness.js';

const WRITERS = 16;
const MOVES = 4;
const WORKER = 'test/support/moveWorker.ts';

let fixture: MoveFixture;

beforeAll(async () => {
  fixture = await createMoveFixture();
});

afterAll(() => fixture.close());

type Name = 'a' | 'b';

async function findShard(user: string): Promise<Name> {
  const [row] = await fixture.a.rows<{ shard: Name }>(
    'select shard from microdollar_shard_directory where payer_id = $1',
    [user],
  );
  return row?.shard ?? 'a';
}

/** Clients of one user that know the directory, and keep a book of what was acknowledged. */
class Clients {
  readonly user: string;
  readonly book = new Map<string, number>();
  sent = 0;
  acknowledged = 0;
  refusals = 0;
  replays = 0;
  #at: Name = 'a';
  #isStopping = false;

  constructor(user: string) {
    this.user = user;
  }

  async write(id: string, cost: number): Promise<string> {
    for (;;) {
      const at = this.#at;
      try {
        const { status } = await insertUsageAndMetadataWithBalanceUpdate(
          fixture[at].database.pool,
          { id, kilo_user_id: this.user, cost, model: 'm' },
          { finish_reason: 'stop', editor_name: `editor ${cost % 3}` },
        );
        return status;
      } catch (error) {
        if (!isElsewhere(error) && (error as LedgerError).code !== 'unknown_user') throw error;
        this.refusals++;
        await sleep(2);
        this.#at = await findShard(this.user);
      }
    }
  }

  async run(): Promise<void> {
    await Promise.all(
      Array.from({ length: WRITERS }, async () => {
        while (!this.#isStopping) {
          const [id, cost] = [randomUUID(), randomInt(1, 1_000)];
          this.sent += cost;
          expect(await this.write(id, cost)).toBe('recorded');
          this.acknowledged += cost;
          this.book.set(id, cost);
          if (randomInt(10) > 0) continue;
          expect(await this.write(id, cost)).toBe('duplicate');
          this.replays++;
        }
      }),
    );
  }

  /** Balances and days as whoever knows the directory reads them: right if it is at home there still after. */
  async sample(): Promise<number> {
    let samples = 0;
    while (!this.#isStopping) {
      const least = this.acknowledged;
      const at = await findShard(this.user);
      const [row] = await fixture[at].rows<{ balance: string; days: string }>(
        `select (select microdollars_used from kilocode_user_balances where kilo_user_id = $1)
           as balance,
           (select coalesce(sum(total_cost_microdollars), 0) from microdollar_usage_daily_exact
             where kilo_user_id = $1) as days`,
        [this.user],
      );
      const home = await fixture[at].rows(
        'select from kilocode_users where id = $1 and not is_elsewhere',
        [this.user],
      );
      const most = this.sent;
      if (home.length > 0) {
        expect(row?.balance).toBe(row?.days);
        expect(Number(row?.balance)).toBeGreaterThanOrEqual(least);
        expect(Number(row?.balance)).toBeLessThanOrEqual(most);
        samples++;
      }
      await sleep(5);
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
    const work = [clients.run(), neighbour.run()];
    const sampling = clients.sample();
    const fencedMs: number[] = [];
    for (let move = 0; move < MOVES; move++) {
      await sleep(200);
      const to = move % 2 === 0 ? 'b' : 'a';
      const report = await fixture.moves.move({ kilo_user_id: clients.user }, to, {
        pageRows: 100,
      });
      expect(report).toMatchObject({ finished: true });
      fencedMs.push(report.fencedMs);
    }
    clients.stop();
    neighbour.stop();
    await Promise.all(work);
    expect(await sampling).toBeGreaterThan(0);
    expect(clients.refusals).toBeGreaterThan(0);
    expect(neighbour.refusals).toBe(0);
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
    if (process.env.MICRODOLLAR_SHOW) {
      console.info({ fencedMs, acked: clients.book.size, refusals: clients.refusals });
    }
  });
});

describe('a mover that is killed', () => {
  it('at any moment leaves what another one finishes', async () => {
    const clients = new Clients(await fixture.a.addUser());
    const work = clients.run();
    const points: readonly MovePoint[] = [
      'page',
      'fenced',
      'caught_up',
      'read',
      'written',
      'switched',
      'cleaned_page',
    ];
    for (const [index, point] of points.entries()) {
      const to = index % 2 === 0 ? 'b' : 'a';
      const urls = [fixture.a.database.url, fixture.b.database.url];
      const worker = spawn(process.execPath, [programPath(WORKER), clients.user, to, ...urls], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      const exited = once(worker, 'exit');
      for await (const line of createInterface({ input: worker.stdout })) {
        if (line === point) worker.kill('SIGKILL');
      }
      await exited;
      expect(worker.signalCode).toBe('SIGKILL');
      await fixture.expectExact();
      await fixture.moves.resume({ pageRows: 100 });
      // Killed before the move was noted anywhere else than in its process: begun anew.
      if ((await findShard(clients.user)) !== to) {
        await fixture.moves.move({ kilo_user_id: clients.user }, to);
      }
    }
    clients.stop();
    await work;
    expect(await stored(clients.user)).toEqual({
      a: { n: 0, cost: 0 },
      b: { n: clients.book.size, cost: clients.acknowledged },
    });
    await fixture.expectExact();
  });
});
