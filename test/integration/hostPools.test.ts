import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { insertUsageAndMetadataWithBalanceUpdate } from '../../src/record/onExecutor.js';
import { checkInvariants } from '../support/checkInvariants.js';
import { openPool } from '../support/openPool.js';
import { openSessions, type Session } from '../support/sessions.js';
import { createLedgerFixture, foldAll, type LedgerFixture } from './ledgerHarness.js';

/** A host's own pool, without a ledger or a service beside it, whatever its settings are. */
const AT = '2025-05-06T07:08:09Z';

let fixture: LedgerFixture;

beforeAll(async () => {
  // How long a tail may be is asked here: transactions of other tests would hold its mark.
  fixture = await createLedgerFixture({ ownServer: true });
});
afterAll(() => fixture.close());

async function onPool<T>(options: string, work: (pool: pg.Pool) => Promise<T>): Promise<T> {
  const pool = openPool({ connectionString: fixture.database.url, max: 8, options });
  try {
    return await work(pool);
  } finally {
    await pool.end();
  }
}

const depthOf = async (user: string) =>
  (
    await fixture.rows<{ depth: number }>(
      `select count(*)::integer as depth
       from microdollar_usage as m
       join kilocode_users as u on u.id = m.kilo_user_id
       where u.id = $1
         and (m.position >= u.settled_below or m.position = any (u.settled_except))`,
      [user],
    )
  )[0]?.depth;

describe('alone', () => {
  it('plans its statements once a connection, whatever it writes, and not at each call', async () => {
    const pool = openPool({ connectionString: fixture.database.url, max: 1 });
    try {
      const user = await fixture.addUser();
      for (let day = 1; day <= 20; day++) {
        const created_at = `2025-02-${String(day).padStart(2, '0')}T00:00:00Z`;
        await insertUsageAndMetadataWithBalanceUpdate(pool, {
          kilo_user_id: user,
          cost: 3,
          created_at,
        });
      }
      const { rows } = await pool.query<{ name: string; generic: string; custom: string }>(
        `select name, generic_plans as generic, custom_plans as custom
         from pg_prepared_statements
         where generic_plans + custom_plans > 10`,
      );
      expect(rows.map(({ name }) => name)).toContain('microdollar_settle_user');
      expect(rows.filter(({ custom }) => Number(custom) > 5)).toEqual([]);
    } finally {
      await pool.end();
    }
  });

  it('settles what it could not write in place: no tail grows', async () => {
    const user = await fixture.addUser();
    const write = (pool: pg.Pool) =>
      insertUsageAndMetadataWithBalanceUpdate(pool, {
        kilo_user_id: user,
        cost: 1,
        created_at: AT,
      });
    await onPool('', async (pool) => {
      await using sessions = await openSessions(fixture.database.url, 1);
      const holder = sessions.all[0] as Session;
      await holder.run('begin');
      await holder.run('select from kilocode_users where id = $1 for update', [user]);
      const callers = (count: number, each: number) =>
        Promise.all(
          Array.from({ length: count }, async () => {
            for (let round = 0; round < each; round++) await write(pool);
          }),
        );
      await callers(8, 25);
      expect(await depthOf(user)).toBe(200);
      await holder.run('commit');
      // Its own next calls take away what was left, though nothing else runs.
      while ((await depthOf(user)) !== 0) expect((await write(pool)).status).toBe('recorded');
      // A tail under load is bounded by a fold every 200 ms, whatever is written meanwhile.
      do await callers(8, 25);
      while (((await depthOf(user)) ?? 0) >= 100);
    });
    expect(await checkInvariants(fixture.database.pool)).toEqual([]);
  });
});

describe.each(['repeatable read', 'serializable'])('that defaults to %s', (level) => {
  const options = `-c default_transaction_isolation=${level.replace(' ', '\\ ')}`;

  it('records every event, of one user by many callers, with new days and new lookup values', async () => {
    const users = [await fixture.addUser(), await fixture.addUser()];
    const organization = await fixture.addOrganization();
    await onPool(options, async (pool) => {
      await Promise.all(
        Array.from({ length: 8 }, async (_, caller) => {
          for (let round = 0; round < 12; round++) {
            const answer = await insertUsageAndMetadataWithBalanceUpdate(
              pool,
              {
                kilo_user_id: users[caller % 2] as string,
                organization_id: caller % 4 === 3 ? organization : null,
                cost: 3,
                created_at: new Date(Date.UTC(2025, 4, 1 + round)).toISOString(),
              },
              { editor_name: `${level} ${users[0]} ${round}`, latency: 1 },
            );
            expect(answer.status).toBe('recorded');
            expect(Number(answer.new_microdollars_used) % 3).toBe(0);
          }
        }),
      );
    });
    expect(await checkInvariants(fixture.database.pool)).toEqual([]);
    await foldAll(await fixture.open());
    const ledger = await fixture.open();
    expect(await ledger.getOrganizationBalance(organization)).toBe(2 * 12 * 3);
    await fixture.expectExact();
  });

  it('answers a replay, and tells a conflict', async () => {
    const user = await fixture.addUser();
    await onPool(options, async (pool) => {
      const event = { id: randomUUID(), kilo_user_id: user, cost: 5, created_at: AT };
      const answers = await Promise.all(
        Array.from({ length: 6 }, () => insertUsageAndMetadataWithBalanceUpdate(pool, event)),
      );
      expect(answers.map(({ status }) => status).toSorted()).toEqual([
        ...Array.from({ length: 5 }, () => 'duplicate'),
        'recorded',
      ]);
      await expect(
        insertUsageAndMetadataWithBalanceUpdate(pool, { ...event, cost: 6 }),
      ).rejects.toMatchObject({ code: 'idempotency_conflict' });
    });
    await fixture.expectExact();
  });

  it('tells that a session of it was ended, and the host lives on', async () => {
    const user = await fixture.addUser();
    const id = randomUUID();
    await using sessions = await openSessions(fixture.database.url, 1);
    const holder = sessions.all[0] as Session;
    const unheard: unknown[] = [];
    await onPool(options, async (pool) => {
      // What nobody listens to would end the process.
      pool.on('connect', (client) => {
        const emit = client.emit.bind(client);
        client.emit = (name: string | symbol, ...told: unknown[]) => {
          if (name !== 'error' || client.listenerCount('error') > 0) return emit(name, ...told);
          return unheard.push(told[0]) > 0;
        };
      });
      const write = () =>
        insertUsageAndMetadataWithBalanceUpdate(pool, { id, kilo_user_id: user, cost: 1 });
      await holder.run('begin');
      await holder.run(
        'insert into microdollar_usage (id, kilo_user_id, cost) values ($1, $2, 1)',
        [id, user],
      );
      const failed = expect(write()).rejects.toMatchObject({ code: 'unavailable' });
      const end = `select pg_terminate_backend(pid) from pg_locks
        where not granted and $1 = any (pg_blocking_pids(pid))`;
      while ((await fixture.rows(end, [holder.pid])).length === 0) await sleep(5);
      await failed;
      await holder.run('rollback');
      expect((await write()).status).toBe('recorded');
    });
    expect(unheard).toEqual([]);
    await fixture.expectExact();
  });

  it('in a transaction of that level appends, and answers what the transaction sees', async () => {
    const user = await fixture.addUser();
    await using sessions = await openSessions(fixture.database.url, 1);
    const session = sessions.all[0] as Session;
    const write = (executor: pg.Client | pg.Pool, cost: number) =>
      insertUsageAndMetadataWithBalanceUpdate(executor, {
        kilo_user_id: user,
        cost,
        created_at: AT,
      });
    await session.run(`begin isolation level ${level}`);
    expect((await write(session.client, 1)).new_microdollars_used).toBe(1);
    expect((await write(fixture.database.pool, 10)).new_microdollars_used).toBe(10);
    expect((await write(session.client, 100)).new_microdollars_used).toBe(101);
    await session.run('commit');
    expect((await write(fixture.database.pool, 0)).new_microdollars_used).toBe(111);
    await fixture.expectExact();
  });
});
