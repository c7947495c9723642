import { readFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { readWantedSchema } from '../../src/db/migrate/journal.js';
import { ROWS_PER_BATCH } from '../../src/db/migrate/pending/drainPending.js';
import { planAdoption } from '../../src/db/migrate/planAdoption.js';
import {
  assertMigrated,
  type MigrateOptions,
  migrate,
  planMigration,
  type Step,
} from '../../src/db/migrate.js';
import {
  createDatabaseBeforeLog,
  recordBeforeLog,
  recordExaBeforeLog,
} from '../support/beforeLog.js';
import type { TestDatabase } from '../support/database.js';
import { describeDatabase, readDatabase } from '../support/describeDatabase.js';
import { EndedSteps } from '../support/endedSteps.js';
import { readCounted, readExpected, readReported } from '../support/reported.js';
import { openSessions } from '../support/sessions.js';
import { createSeedDatabase } from './adoptHarness.js';

const COMMITTED = readFileSync(path.join(import.meta.dirname, '../../drizzle/schema.txt'), 'utf8');
const ORGANIZATION = '11111111-1111-1111-1111-111111111111';
const NAMES = readWantedSchema().migrations;

let database: TestDatabase;
const query = async (text: string, values: unknown[] = []) =>
  (await database.pool.query(text, values)).rows;

beforeEach(async () => {
  database = await createDatabaseBeforeLog();
  await query(`
    insert into kilocode_users (id, microdollars_used, opening_microdollars_used)
    select 'user ' || n, 100, 100 from generate_series(1, 5) as n`);
  await query('insert into organizations (id, name) values ($1, $2)', [ORGANIZATION, 'one']);
});

afterEach(() => database.drop());

/** Days and months with and without counter rows, in both scopes; refunds; charges and none. */
async function record(rounds: number): Promise<void> {
  for (let n = 0; n < rounds; n++) {
    const event = {
      kilo_user_id: `user ${1 + (n % 5)}`,
      organization_id: n % 3 === 0 ? ORGANIZATION : null,
      cost: n % 7 === 0 ? -n : 10 + n,
      created_at: `2026-0${1 + (n % 3)}-1${n % 9}T23:30:00Z`,
    };
    await recordBeforeLog(database.pool, event, n % 2 === 0);
    const options = { inPlace: n % 4 === 0, allowance: 50 + (n % 3) };
    if (n % 2 === 0) await recordExaBeforeLog(database.pool, event, options);
  }
}

const linesOf = (description: string) =>
  description.split('\n\n').map((part) => part.trim().split('\n').sort());

async function expectCarriedOver(): Promise<void> {
  await assertMigrated(database.pool);
  const expected = await readExpected(database.pool);
  expect(await readReported(database.pool)).toEqual(expected);
  expect(await readCounted(database.pool)).toEqual(expected);
  const description = await describeDatabase(database.url);
  expect(linesOf(description)).toEqual(linesOf(COMMITTED));
  expect(planAdoption(await readDatabase(database.url), readWantedSchema())).toMatchObject({
    steps: [],
    problems: [],
  });
}

describe('a database of the versions before the log', () => {
  it('is carried over: pending rows into counters, no total moves, nothing else is lost', async () => {
    await record(60);
    await query(`update microdollar_usage_daily set archived_cost_microdollars = 0`);
    const before = await readReported(database.pool);
    expect(before).toEqual(await readExpected(database.pool));
    expect(await readCounted(database.pool)).not.toEqual(before);
    const result = await migrate(database.url);
    expect(result).toMatchObject({ applied: NAMES, isAdopted: false, isGenerationRaised: false });
    expect(await readReported(database.pool)).toEqual(before);
    await expectCarriedOver();
    expect(await query('select from microdollar_usage where position is not null')).toEqual([]);
    expect(await query('select read_mode, installed_empty from ledger_settings')).toEqual([
      { read_mode: 'rollup', installed_empty: true },
    ]);
    expect(await migrate(database.url)).toMatchObject({ applied: [] });
  });

  it('keeps what is charged to Exa, and the allowance that was an option of the process', async () => {
    const options = { inPlace: false, allowance: 300 };
    const event = { kilo_user_id: 'user 1', cost: 400, created_at: '2026-03-05T00:00:00Z' };
    await recordExaBeforeLog(database.pool, event, options);
    // The month's first request fixes its allowance.
    await recordExaBeforeLog(database.pool, event, { ...options, allowance: 7 });
    await recordExaBeforeLog(database.pool, { ...event, kilo_user_id: 'user 2' }, options);
    await migrate(database.url);
    expect(
      await query(`select kilo_user_id as user, total_charged_microdollars::integer as charged,
        free_allowance_microdollars::integer as allowance, request_count as requests
        from exa_monthly_usage order by 1`),
    ).toEqual([
      { user: 'user 1', charged: 500, allowance: 300, requests: 2 },
      { user: 'user 2', charged: 100, allowance: 300, requests: 1 },
    ]);
    expect(await query('select exa_free_allowance_microdollars as a from ledger_settings')).toEqual(
      [{ a: '300' }],
    );
    await expectCarriedOver();
  });

  it('is told what would be done, and nothing is', async () => {
    await record(4);
    const before = await describeDatabase(database.url);
    const plan = await planMigration(database.url);
    expect(plan).toMatchObject({ work: 'upgrade', problems: [], unapplied: NAMES });
    expect(plan.steps.map((step) => step.kind)).toEqual(
      expect.arrayContaining(['create_index', 'drain_pending', 'replace_pending', 'analyze']),
    );
    expect(await describeDatabase(database.url)).toBe(before);
  });

  it('is carried over where the caller did not ask to adopt: it is the ledger itself', async () => {
    await record(4);
    expect(await migrate(database.url, { adopt: false })).toMatchObject({ applied: NAMES });
    await expectCarriedOver();
  });

  it('is left alone while a view of others stands on its views, with the remedy', async () => {
    await query('create view dashboard as select * from kilocode_user_balances');
    const before = await describeDatabase(database.url);
    await expect(migrate(database.url)).rejects.toThrow(
      'view dashboard is made of kilocode_user_balances',
    );
    expect(await describeDatabase(database.url)).toBe(before);
    await query('drop view dashboard');
    await migrate(database.url);
    await expectCarriedOver();
  });

  it('is carried over in several batches, from the middle of its eight migrations too', async () => {
    await query(`
      select microdollar_record_usage(gen_random_uuid(), 'user ' || 1 + n % 5, null, null, null,
        null, null, null, n, 0, 0, 0, 0, null, false,
        timestamptz '2026-01-01' + n * interval '10 minutes', null, false)
      from generate_series(1, ${2 * ROWS_PER_BATCH + 500}) as n`);
    await query('drop table gateway_instances, gateway_intents');
    await query('drop trigger guard_move on microdollar_usage_daily');
    await query('alter table ledger_settings drop column installed_empty');
    await query('delete from microdollar_migrations where id > 2');
    await migrate(database.url);
    await expectCarriedOver();
  });

  it('is carried over where it had adopted the tables of another program', async () => {
    const before = await readDatabase(database.url);
    await database.drop();
    database = await createSeedDatabase();
    const client = new pg.Client({ connectionString: database.url });
    await client.connect();
    await client.query('set search_path = public');
    const { steps } = planAdoption(await readDatabase(database.url), before);
    for (const step of steps)
      for (const statement of step.statements) await client.query(statement);
    await client.end();
    await query('create table microdollar_migrations (id serial, hash text, created_at bigint)');
    await query(`insert into microdollar_migrations (hash, created_at) values ('of then', 1)`);
    await recordBeforeLog(database.pool, { kilo_user_id: 'user 1', cost: 50 }, false);
    const reported = await readReported(database.pool);
    expect(await migrate(database.url)).toMatchObject({ applied: NAMES, isAdopted: false });
    expect(await readReported(database.pool)).toEqual(reported);
    expect(planAdoption(await readDatabase(database.url), readWantedSchema())).toMatchObject({
      steps: [],
      problems: [],
    });
    expect(await query('select read_mode from ledger_settings')).toEqual([{ read_mode: 'raw' }]);
  });

  it('keeps the rights on its views', async () => {
    const role = `reader_${process.pid}`;
    await query(`create role ${role}`);
    try {
      await query(`grant select on kilocode_user_balances to ${role} with grant option`);
      await query('grant select on microdollar_usage_daily_exact to public');
      await migrate(database.url);
      const rights = await query(
        `select has_table_privilege($1, 'kilocode_user_balances', 'select with grant option') as own,
          has_table_privilege($1, 'microdollar_usage_daily_exact', 'select') as public,
          has_table_privilege($1, 'organization_balances', 'select') as none`,
        [role],
      );
      expect(rights).toEqual([{ own: true, public: true, none: false }]);
    } finally {
      await query(`drop owned by ${role}`);
      await query(`drop role ${role}`);
    }
  });
});

describe('carrying over beside programs of then', () => {
  it('goes on where it was ended, before whatever step, and no total moves meanwhile', async () => {
    await record(40);
    const before = await readReported(database.pool);
    const killed = new EndedSteps();
    for (let isDone = false; !isDone; ) {
      isDone = await migrate(database.url, {
        onStep: async ({ step, phase }) => {
          if (phase !== undefined || !killed.take(step)) return;
          expect(await readReported(database.pool)).toEqual(before);
          await query(
            `select pg_terminate_backend(pid) from pg_stat_activity
            where application_name = 'microdollar migrate' and datname = current_database()`,
          );
        },
      }).then(
        () => true,
        () => false,
      );
    }
    expect(killed.names.map((name) => name.split(':')[0])).toEqual(
      expect.arrayContaining([
        'alter_table',
        'check',
        'create_index',
        'create_function',
        'drain_pending',
        'replace_pending',
        'drop_index',
        'analyze',
        'finish',
      ]),
    );
    await expectCarriedOver();
  });

  it('waits for an open transaction that appended, and counts it', async () => {
    await using sessions = await openSessions(database.url, 1);
    const [host] = sessions.all;
    if (!host) throw new Error('a session');
    const waits = waitsAt('replace_pending', async () => {
      await host.run('begin');
      await recordBeforeLog(host.client, { kilo_user_id: 'user 1', cost: 7 }, false);
    });
    const migrating = migrate(database.url, waits.options);
    await waits.hasWaited;
    await host.run('commit');
    await migrating;
    await expectCarriedOver();
    expect(await readReported(database.pool)).toMatchObject({ 'user user 1': '107' });
  });

  it('adds once what a fold of then adds meanwhile', async () => {
    for (let n = 0; n < 3; n++) {
      await recordBeforeLog(database.pool, { kilo_user_id: 'user 1', cost: 10 }, false);
    }
    await using sessions = await openSessions(database.url, 1);
    const [fold] = sessions.all;
    if (!fold) throw new Error('a session');
    const waits = waitsAt('drain_pending', async () => {
      await fold.run(`select microdollar_open_daily('user 1', null, current_date, 0)`);
      await fold.run('begin');
      await fold.run(`select from kilocode_users where id = 'user 1' for no key update`);
    });
    const migrating = migrate(database.url, waits.options);
    await waits.hasWaited;
    await fold.run(`
      with gone as (
        delete from microdollar_usage_pending
        where (xid, id) in (select xid, id from microdollar_usage_pending order by 1, 2 limit 2)
        returning usage_date, cost_microdollars
      ), daily as (
        update microdollar_usage_daily as d
        set total_cost_microdollars = d.total_cost_microdollars + g.cost
        from (select usage_date, sum(cost_microdollars) as cost from gone group by 1) as g
        where d.kilo_user_id = 'user 1' and d.usage_date = g.usage_date
      )
      update kilocode_users set microdollars_used = microdollars_used + 20 where id = 'user 1'`);
    await fold.run('commit');
    await migrating;
    await expectCarriedOver();
  });

  it('an old program fails at its next write, and none of it is left behind', async () => {
    await record(10);
    const writers = Array.from({ length: 4 }, (_, writer) => startOldWriter(writer));
    while (writers.some((writer) => writer.answered < 10)) await sleep(5);
    await migrate(database.url);
    const failures = await Promise.all(writers.map((writer) => writer.done));
    for (const failure of failures) expect(['42883', '42P01', 'XX000']).toContain(failure);
    const rows = await query(`select count(*)::integer as n from microdollar_usage where model = 'm'
      and kilo_user_id in ('user 1', 'user 2')`);
    expect(rows[0].n).toBeGreaterThanOrEqual(writers.reduce((sum, each) => sum + each.answered, 0));
    await expectCarriedOver();
  });
});

/** Options that prepare something before a step, and tell when the step has waited for it. */
function waitsAt(kind: Step['kind'], prepare: () => Promise<void>) {
  let note = () => {};
  const hasWaited = new Promise<void>((resolve) => {
    note = resolve;
  });
  let isThere = false;
  const options: MigrateOptions = {
    lockTimeoutMs: 50,
    attempts: 1_000,
    log: () => isThere && note(),
    onStep: async ({ step }) => {
      if (step.kind !== kind) return;
      await prepare();
      isThere = true;
    },
  };
  return { options, hasWaited };
}

/** Writes until it fails: alone and in transactions, in place and appended, on two users. */
function startOldWriter(writer: number) {
  const state = { answered: 0, done: Promise.resolve('') };
  const run = async (): Promise<string> => {
    const client = await database.pool.connect();
    try {
      for (let n = 0; ; n++) {
        const event = {
          kilo_user_id: `user ${1 + (writer % 2)}`,
          organization_id: n % 5 === 0 ? ORGANIZATION : null,
          cost: 1 + (n % 9),
        };
        const isOwn = n % 3 === 0;
        if (isOwn) await client.query('begin');
        await recordBeforeLog(client, event, !isOwn);
        await recordExaBeforeLog(client, event, { inPlace: n % 2 === 0, allowance: 20 });
        if (isOwn) await client.query('commit');
        state.answered++;
      }
    } catch (error) {
      await client.query('rollback').catch(() => {});
      return (error as { code?: string }).code ?? String(error);
    } finally {
      client.release();
    }
  };
  state.done = run();
  return state;
}
