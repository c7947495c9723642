import { randomBytes } from 'node:crypto';
import pg from 'pg';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Statement } from '../../src/db/statement.js';
import { createMetrics } from '../../src/metrics.js';
import { runBackfill } from '../../src/rollup/backfill.js';
import { startBackgroundVerify } from '../../src/rollup/backgroundVerify.js';
import {
  openRollupDatabase,
  pause,
  type RollupDatabase,
  whileAway,
} from '../../src/rollup/database.js';
import { repairRollup } from '../../src/rollup/repair.js';
import { verifyOn, verifyRollup } from '../../src/rollup/verify.js';
import { DAILY_ROLLUP } from '../../src/schema/rollups.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { inForm } from '../support/form.js';
import { writeRawHistory } from '../support/rawUsage.js';

let database: TestDatabase;

beforeEach(async () => {
  database = await createTestDatabase();
});

afterEach(() => database.drop());

const rows = async <Row = Record<string, unknown>>(text: string, values: unknown[] = []) =>
  (await database.pool.query(text, values)).rows as Row[];
const daily = () => ({ url: database.url, rollup: DAILY_ROLLUP });
/** The days of a short history alone: not the three months that reads use. */
const recent = () => {
  const from = new Date(Date.now() - 22 * 86_400_000).toISOString().slice(0, 10);
  return { ...daily(), from };
};

/** Ends the connection behind a query, and waits until its client has heard of it. */
async function terminate(pid: number): Promise<void> {
  await rows('select pg_terminate_backend($1, 10000)', [pid]);
  await pause(100);
}

const PID: Statement = { name: 'pid', text: 'select pg_backend_pid() as pid', values: [] };

describe('a connection that is lost between two statements of a transaction', () => {
  it('is an outage: the work is done again, on another', async () => {
    const bulk = openRollupDatabase(database.url, 1);
    const notices: string[] = [];
    let tries = 0;
    const answer = await whileAway(
      () =>
        bulk.transaction(async (query) => {
          const [backend] = await query<{ pid: number }>(PID);
          if (++tries === 1) await terminate(backend?.pid ?? 0);
          return await query<{ pid: number }>(PID);
        }),
      (reason) => notices.push(reason),
    );
    expect(tries).toBe(2);
    expect(answer).toHaveLength(1);
    expect(notices).toHaveLength(1);
    await bulk.close();
  });

  it('during a backfill and a repair costs them nothing', async () => {
    await writeRawHistory(database.pool, { rows: 3_000, days: 10, users: 40 });
    await runBackfill(recent());
    for (const correct of [runBackfill, repairRollup]) {
      let kills = 0;
      // It is between two statements for an instant: a busy machine may not look in time.
      while (kills === 0) {
        await rows('update microdollar_usage_daily set total_cost_microdollars = 0');
        let isRunning = true;
        const killing = (async () => {
          while (isRunning && kills < inForm(3, 8)) {
            const killed = await rows(
              `select pg_terminate_backend(pid) from pg_stat_activity
               where datname = current_database() and application_name = 'microdollar rollup'
                 and state = 'idle in transaction' limit 1`,
            );
            kills += killed.length;
            await pause(2);
          }
        })();
        await correct(recent()).finally(() => {
          isRunning = false;
        });
        await killing;
      }
      expect((await verifyRollup(recent())).drifts).toEqual([]);
    }
  });
});

describe('a failure that every period would meet', () => {
  /** A role that may do everything but what is taken from it. */
  async function urlWithout(revoked: string): Promise<string> {
    const role = `limited_${randomBytes(6).toString('hex')}`;
    await rows(`create role ${role} login password 'x'`);
    await rows(`grant all on all tables in schema public to ${role}`);
    await rows(`grant usage on schema public to ${role}`);
    await rows(`revoke ${revoked} from ${role}`);
    const url = new URL(database.url);
    url.username = role;
    url.password = 'x';
    return url.href;
  }

  it.each([
    ['backfill', runBackfill, 'insert on microdollar_usage_daily'],
    ['verify', verifyRollup, 'select on microdollar_usage_daily'],
    ['repair', repairRollup, 'select on microdollar_usage_daily'],
  ] as const)('ends %s with its reason, whatever its other workers do', async (_, run, revoked) => {
    await writeRawHistory(database.pool, { rows: 2_000, days: 20, users: 20 });
    const notices: string[] = [];
    const running = run({
      ...daily(),
      url: await urlWithout(revoked),
      workers: 4,
      onNotice: (message) => notices.push(message),
    });
    await expect(running).rejects.toMatchObject({ code: '42501' });
    expect(notices).toEqual([]);
  });

  it('ends the wait of the other workers for a database that is away', async () => {
    const bulk = openRollupDatabase(database.url, 2);
    await writeRawHistory(database.pool, { rows: 500, days: 20, users: 5 });
    let compared = 0;
    const failing: RollupDatabase = {
      ...bulk,
      query: async <Row>(statement: Statement) => {
        if (statement.text.includes('microdollar.verify')) {
          // The first worker fails for good, the other one is told that the database is away.
          if (compared++ === 0) {
            await pause(200);
            throw Object.assign(new Error('permission denied'), { code: '42501' });
          }
          throw Object.assign(new Error('terminating connection'), { code: '57P01' });
        }
        return await bulk.query<Row>(statement);
      },
    };
    const running = verifyOn(failing, { rollup: DAILY_ROLLUP }, 2);
    await expect(running).rejects.toMatchObject({ code: '42501' });
    await bulk.close();
  });
});

describe('32 workers', () => {
  it('leave the shared lock table to others', async () => {
    await rows(`insert into kilocode_users (id) select 'u' || i from generate_series(1, 200) as i`);
    await rows(
      `insert into microdollar_usage (id, kilo_user_id, cost, created_at)
       select gen_random_uuid(), 'u' || u, 5, now() - d * interval '1 day'
       from generate_series(1, 200) as u, generate_series(0, 59) as d`,
    );
    await rows('analyze microdollar_usage');
    let most = 0;
    // They are held for an instant: a busy machine may not look in time.
    while (most === 0) {
      await rows(`delete from rollup_coverage where rollup = 'microdollar_usage_daily'`);
      await rows(
        `delete from microdollar_usage_daily
         where kilo_user_id in (select 'u' || i from generate_series(1, 200) as i)`,
      );
      let isRunning = true;
      const sampling = (async () => {
        while (isRunning) {
          const [held] = await rows<{ held: number }>(
            `select count(*)::integer as held from pg_locks where locktype = 'advisory'
             and database = (select oid from pg_database where datname = current_database())`,
          );
          most = Math.max(most, held?.held ?? 0);
          await pause(2);
        }
      })();
      const report = await runBackfill({ ...daily(), workers: 32 });
      isRunning = false;
      await sampling;
      expect(report).toMatchObject({ created: 12_000, left: 0, failures: [] });
    }
    // A statement inserts keys of one day: 16 buckets.
    expect(most).toBeLessThanOrEqual(32 * 16);
    expect((await verifyRollup(daily())).drifts).toEqual([]);
  });
});

describe('a verification', () => {
  it.each([
    ['was built', true],
    ['nobody knew', false],
  ])(
    'is as of its beginning: what was written meanwhile is not proven; a day that %s',
    async (_, isBuilt) => {
      await writeRawHistory(database.pool, { rows: 200, days: 5, users: 5 });
      await runBackfill(recent());
      if (!isBuilt) await rows('delete from rollup_coverage');
      const bulk = openRollupDatabase(database.url, 1);
      let comparedAt = '';
      const noting: RollupDatabase = {
        ...bulk,
        query: async <Row>(statement: Statement) => {
          if (statement.text.includes('microdollar.verify')) {
            const [now] = await rows<{ at: string }>('select clock_timestamp()::text as at');
            comparedAt = now?.at ?? '';
          }
          return await bulk.query<Row>(statement);
        },
      };
      const day = new Date(Date.now() - 2 * 86_400_000).toISOString().slice(0, 10);
      await verifyOn(noting, { rollup: DAILY_ROLLUP, from: day, until: day }, 1);
      const [coverage] = await rows(
        `select verified_at < $2::timestamptz as is_before from rollup_coverage
       where period = $1 and rollup = 'microdollar_usage_daily'`,
        [day, comparedAt],
      );
      expect(coverage).toEqual({ is_before: true });
      await bulk.close();
    },
  );
});

describe('a backfill', () => {
  const foreign = (days: number) =>
    rows(
      `insert into microdollar_usage (id, kilo_user_id, cost, created_at)
       select gen_random_uuid(), 'user-' || u, 3, now() - d * interval '1 day'
       from generate_series(1, 10) as u, generate_series(0, $1::integer - 1) as d`,
      [days],
    );

  it('finds what other programs wrote into days that were verified while empty', async () => {
    await rows(
      `insert into kilocode_users (id) select 'user-' || i from generate_series(1, 10) as i`,
    );
    expect((await verifyRollup(daily())).driftKeys).toBe(0);
    await foreign(100);
    const report = await runBackfill(daily());
    expect(report).toMatchObject({ created: 1_000, left: 0 });
    expect((await verifyRollup(daily())).driftKeys).toBe(0);
  });

  it('finds it in days that it built itself, and in the part of a day done before it was ended', async () => {
    await writeRawHistory(database.pool, { rows: 2_000, days: 10, users: 20 });
    const limits = { rowsPerStatement: 0 };
    await runBackfill({ ...daily(), limits });
    // As a backfill leaves a day that is killed half way: users until user-5 are done.
    await rows(
      `update rollup_coverage set state = 'building', done_until_user = 'user-5'
       where period = (now() at time zone 'UTC')::date - 3`,
    );
    await foreign(8);
    const report = await runBackfill({ ...daily(), limits });
    expect(report).toMatchObject({ periods: 1, left: 0 });
    expect(report.checked).toBeGreaterThan(90);
    expect((await verifyRollup(daily())).driftKeys).toBe(0);
    const states = await rows('select distinct state from rollup_coverage');
    expect(states).toEqual([{ state: 'verified' }]);
  });

  it('leaves what is verified and right as it is: the gate of reads stays open', async () => {
    await writeRawHistory(database.pool, { rows: 500, days: 10, users: 5 });
    await runBackfill(recent());
    await verifyRollup(recent());
    const coverage = () =>
      rows(`select period, state, verified_at, drift_keys from rollup_coverage order by 1`);
    const before = await coverage();
    await runBackfill(recent());
    expect(await coverage()).toEqual(before);
  });
});

describe('the background verification', () => {
  it('tells what fails', async () => {
    const url = new URL(database.url);
    url.username = 'nobody';
    const told: unknown[] = [];
    const task = startBackgroundVerify({
      url: url.href,
      viaPooler: false,
      metrics: createMetrics(),
      onError: (error, name) => told.push([name, (error as { code?: string }).code]),
    });
    while (told.length === 0) await pause(10);
    await task.stop();
    expect(told[0]).toEqual(['verify', expect.stringMatching(/^28/)]);
  });

  it('sends a pooler in transaction mode no settings but within a transaction', async () => {
    const seen = async (bulk: RollupDatabase) => {
      const text = `select current_setting('statement_timeout') as timeout,
        current_setting('work_mem') as memory`;
      const statement = { name: 's', text, values: [] };
      const within = await bulk.query(statement);
      const bare = await bulk.pool.query(text);
      return { within: within[0], bare: bare.rows[0] };
    };
    const settings = { timeout: '1900ms', memory: '64MB' };
    const direct = openRollupDatabase(database.url, 1);
    expect(await seen(direct)).toEqual({ within: settings, bare: settings });
    await direct.close();
    const pooled = openRollupDatabase(database.url, 1, { viaPooler: true });
    const { within, bare } = await seen(pooled);
    expect(within).toEqual(settings);
    expect(bare).not.toEqual(settings);
    await pooled.close();
    await writeRawHistory(database.pool, { rows: 500, days: 10, users: 5 });
    await runBackfill({ ...recent(), viaPooler: true });
    expect((await verifyRollup({ ...recent(), viaPooler: true })).drifts).toEqual([]);
  });

  it('goes on to other periods when one fails, and tells which', async () => {
    await rows('update ledger_settings set installed_empty = false');
    await writeRawHistory(database.pool, { rows: 100, days: 3, users: 2 });
    await runBackfill(recent());
    // Counter rows of yesterday cannot be read.
    const [day] = await rows<{ day: string }>(
      `select ((now() at time zone 'UTC')::date - 1)::text as day`,
    );
    await rows(
      `create function fail_on_day(d date) returns bigint language plpgsql immutable as $$
       begin if d = '${day?.day}' then raise division_by_zero; end if; return 0; end $$`,
    );
    await rows('alter table microdollar_usage_daily rename to daily_table');
    await rows(
      `create view microdollar_usage_daily as
       select id, kilo_user_id, organization_id, usage_date,
         total_cost_microdollars + fail_on_day(usage_date) as total_cost_microdollars,
         archived_cost_microdollars, updated_at from daily_table`,
    );
    const told: object[] = [];
    const task = startBackgroundVerify({
      url: database.url,
      viaPooler: false,
      metrics: createMetrics(),
      onError: (_, __, details) => told.push(details ?? {}),
    });
    const verified = async () =>
      (
        await rows<{ n: number }>(
          `select count(*)::integer as n from rollup_coverage
         where rollup = 'microdollar_usage_daily' and verified_at is not null`,
        )
      )[0]?.n ?? 0;
    while ((await verified()) < 3) await pause(20);
    await task.stop();
    expect(told).toEqual([{ rollup: 'microdollar_usage_daily', period: day?.day }]);
  });
});

describe('the role of the tests', () => {
  it('may end backends, or the tests above prove nothing', async () => {
    const client = new pg.Client({ connectionString: database.url });
    client.on('error', () => {});
    await client.connect();
    const { rows: pids } = await client.query('select pg_backend_pid() as pid');
    await terminate(pids[0].pid);
    await expect(client.query('select 1')).rejects.toThrow();
  });
});
