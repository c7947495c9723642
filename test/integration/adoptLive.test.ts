import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { readWantedSchema } from '../../src/db/migrate/journal.js';
import { planAdoption } from '../../src/db/migrate/planAdoption.js';
import { migrate, planMigration } from '../../src/db/migrate.js';
import type { TestDatabase } from '../support/database.js';
import { readDatabase } from '../support/describeDatabase.js';
import { EndedSteps } from '../support/endedSteps.js';
import { inForm } from '../support/form.js';
import { openSessions, untilBlocked } from '../support/sessions.js';
import { TEST_PLACE } from '../support/testSchema.js';
import { createSeedDatabase, startLiveWriters } from './adoptHarness.js';

/** In all. */
const RANDOM_KILLS = inForm(8, 30);

let database: TestDatabase;

beforeEach(async () => {
  database = await createSeedDatabase();
});

afterEach(() => database.drop());

/** Everything wanted is there, no index is INVALID, and what was recorded still adds up. */
async function expectAdopted(): Promise<void> {
  const found = await readDatabase(database.url);
  expect(planAdoption(found, readWantedSchema(TEST_PLACE))).toMatchObject({
    steps: [],
    problems: [],
  });
  const broken = found.tables.flatMap((table) => table.indexes.filter((each) => !each.isValid));
  expect(broken).toEqual([]);
  const settings = await database.pool.query('select read_mode from ledger_settings');
  expect(settings.rows).toEqual([{ read_mode: 'raw' }]);
  const journal = await database.pool.query(
    'select count(*)::integer as n, count(distinct hash)::integer as hashes from microdollar_migrations',
  );
  const count = readWantedSchema().migrations.length;
  expect(journal.rows).toEqual([{ n: count, hashes: count }]);
}

/** What the seed's writes did is whole: each has its usage row, daily part and balance. */
async function expectWrites(count: number): Promise<void> {
  const result = await database.pool.query(`
    select count(*)::integer as rows, sum(m.cost)::integer as cost,
      (select sum(total_cost_microdollars)::integer from microdollar_usage_daily) as daily,
      (select count(*)::integer from microdollar_usage_metadata where message_id = 'm') as metadata
    from microdollar_usage as m
    where m.created_at > now() - interval '10 minutes'`);
  const [row] = result.rows;
  expect(row).toMatchObject({ rows: count, metadata: count, daily: row.cost });
}

/** Locks of the migrating session, as often as the server answers, until the work ends. */
async function sampleLocks(
  work: (seen: { samples: number; holdsWhileWaiting: number }) => Promise<unknown>,
) {
  const seen = { samples: 0, holdsWhileWaiting: 0 };
  let isDone = false;
  const sampling = (async () => {
    while (!isDone) {
      const result = await database.pool.query(`
        select count(*) filter (where not l.granted and l.mode = 'AccessExclusiveLock')::integer
            as waits,
          count(*) filter (where l.granted and l.mode = 'AccessExclusiveLock')::integer as holds
        from pg_locks as l
        join pg_stat_activity as a using (pid)
        where a.application_name = 'microdollar migrate'
          and a.datname = current_database()
          and l.relation in ('microdollar_usage'::regclass, 'microdollar_usage_daily'::regclass,
            'microdollar_usage_metadata'::regclass, 'kilocode_users'::regclass)`);
      const { waits, holds } = result.rows[0];
      seen.samples++;
      if (waits > 0 && holds > 0) seen.holdsWhileWaiting++;
      await sleep(inForm(8, 2));
    }
  })();
  try {
    await work(seen);
  } finally {
    isDone = true;
    await sampling;
  }
  return seen;
}

describe('adopting beside live writers', () => {
  it('would be seen if it held them up: a migration in one transaction is', async () => {
    await using writers = await startLiveWriters(database.pool, { sessions: 2, lockTimeoutMs: 50 });
    await using sessions = await openSessions(database.url, 2);
    const [reader, migrating] = sessions.all;
    if (!reader || !migrating) throw new Error('two sessions');
    await reader.run('begin');
    await reader.run('select from kilocode_users limit 1');
    await migrating.run(`set application_name = 'microdollar migrate'`);
    await migrating.run('begin');
    await migrating.run('alter table microdollar_usage_daily add column a integer');
    const seen = await sampleLocks(async (soFar) => {
      const waiting = migrating.run('alter table kilocode_users add column a integer');
      while (writers.failures.length === 0 || soFar.holdsWhileWaiting === 0) await sleep(5);
      await reader.run('rollback');
      await waiting;
      await migrating.run('rollback');
    });
    expect(writers.failures[0]).toContain('lock timeout');
    expect(seen.holdsWhileWaiting).toBeGreaterThan(0);
  });

  it('lets every write through, and never waits for a strong lock while holding one', async () => {
    await using writers = await startLiveWriters(database.pool, { ...WRITERS, sessions: 6 });
    while (writers.writes() < 20) await sleep(5);
    const seen = await sampleLocks(() => migrate(database.url));
    const during = writers.writes();
    while (writers.writes() < during + 20) await sleep(5);
    await writers.stop();
    expect(writers.failures).toEqual([]);
    expect(seen.samples).toBeGreaterThan(10);
    expect(seen.holdsWhileWaiting).toBe(0);
    await expectAdopted();
    await expectWrites(writers.writes());
  });

  it('may be done by several processes at once: one adopts, the others find it done', async () => {
    await using writers = await startLiveWriters(database.pool, WRITERS);
    const results = await Promise.all(Array.from({ length: 4 }, () => migrate(database.url)));
    await writers.stop();
    expect(writers.failures).toEqual([]);
    expect(results.map((result) => result.isAdopted).sort()).toEqual([false, false, false, true]);
    await expectAdopted();
  });

  it('goes on where it was ended, before whatever step', async () => {
    await using writers = await startLiveWriters(database.pool, WRITERS);
    const killed = new EndedSteps();
    let runs = 0;
    for (let isDone = false; !isDone; runs++) {
      isDone = await migrate(database.url, {
        onStep: async ({ step, phase }) => {
          if (phase === undefined && killed.take(step)) await killMigrating();
        },
      }).then(
        () => true,
        () => false,
      );
    }
    await writers.stop();
    expect(writers.failures).toEqual([]);
    expect(runs).toBe(killed.names.length + 1);
    const kinds = new Set(killed.names.map((step) => step.split(':')[0]));
    expect([...kinds].sort()).toEqual([
      'add_constraint',
      'alter_table',
      'analyze',
      'check',
      'create_function',
      'create_index',
      'create_statistics',
      'create_table',
      'create_trigger',
      'create_view',
      'finish',
      'note_cluster',
      'validate_constraint',
    ]);
    await expectAdopted();
    await expectWrites(writers.writes());
  });

  it(`goes on where it was ended, at ${RANDOM_KILLS} random moments`, async () => {
    await using writers = await startLiveWriters(database.pool, WRITERS);
    for (let run = 0; run < RANDOM_KILLS; run++) {
      const migrating = migrate(database.url).catch(() => {});
      await sleep(40 + Math.random() * 60);
      await killMigrating();
      await migrating;
    }
    await migrate(database.url);
    await writers.stop();
    expect(writers.failures).toEqual([]);
    await expectAdopted();
    await expectWrites(writers.writes());
  });
});

const WRITERS = { sessions: 2, lockTimeoutMs: 15_000 };

function killMigrating() {
  return database.pool.query(
    `select pg_terminate_backend(pid) from pg_stat_activity
    where application_name = 'microdollar migrate' and datname = current_database()`,
  );
}

describe('adopting where something is in the way', () => {
  it('drops an INVALID index that a failed build left, and builds it', async () => {
    await using sessions = await openSessions(database.url, 2);
    const [holder, builder] = sessions.all;
    if (!holder || !builder) throw new Error('two sessions');
    await holder.run('begin');
    await holder.run(
      'insert into microdollar_usage_daily (kilo_user_id, usage_date) values (1, now())',
    );
    const index = 'idx_microdollar_usage_daily_usage_date';
    const building = builder
      .run(
        `create index concurrently ${index} on microdollar_usage_daily (usage_date, kilo_user_id)`,
      )
      .catch((error: Error) => error.message);
    await untilBlocked(database.pool, builder, building);
    await database.pool.query('select pg_cancel_backend($1)', [builder.pid]);
    expect(await building).toContain('canceling');
    await holder.run('rollback');
    const { steps } = await planMigration(database.url);
    expect(steps.filter((step) => step.subject.includes(index)).map((step) => step.kind)).toEqual([
      'drop_index',
      'create_index',
    ]);
    await migrate(database.url);
    await expectAdopted();
  });

  it('gives way to a long transaction, then gives up naming it, with nothing broken', async () => {
    await using sessions = await openSessions(database.url, 1);
    const [holder] = sessions.all;
    if (!holder) throw new Error('a session');
    await holder.run('begin');
    await holder.run(
      `/* monthly report */ select count(*) from kilocode_users where id <> 's3cret'`,
    );
    await using writers = await startLiveWriters(database.pool, WRITERS);
    const told: string[] = [];
    const failure = migrate(database.url, {
      lockTimeoutMs: 50,
      attempts: 3,
      log: (line) => told.push(line),
    });
    await expect(failure).rejects.toMatchObject({
      code: 'unavailable',
      details: { sqlstate: '55P03', blocker: { pid: holder.pid, query: 'monthly report' } },
    });
    await expect(failure).rejects.toThrow(`kilocode_users is held by process ${holder.pid}`);
    await expect(failure).rejects.not.toThrow('s3cret');
    expect(told.filter((line) => line.includes('monthly report'))).toHaveLength(2);
    const seen = writers.writes();
    while (writers.writes() < seen + 10) await sleep(5);
    await holder.run('commit');
    await migrate(database.url);
    await writers.stop();
    expect(writers.failures).toEqual([]);
    await expectAdopted();
    await expectWrites(writers.writes());
  });
});
