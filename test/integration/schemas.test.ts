import { randomUUID } from 'node:crypto';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { inSchema, withoutSchema } from '../../src/db/ledgerSchema.js';
import { forSchema } from '../../src/db/migrate/schemaPlace.js';
import { migrate, planMigration } from '../../src/db/migrate.js';
import { createLedger } from '../../src/ledger.js';
import type { Ledger } from '../../src/ledgerTypes.js';
import { insertUsageAndMetadataWithBalanceUpdate } from '../../src/record/onExecutor.js';
import { archiveUsage } from '../../src/rollup/archive/archive.js';
import { runBackfill } from '../../src/rollup/backfill.js';
import { repairRollup } from '../../src/rollup/repair.js';
import { verifyRollup } from '../../src/rollup/verify.js';
import { DAILY_ROLLUP } from '../../src/schema/rollups.js';
import { checkFolded, checkInvariants } from '../support/checkInvariants.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { describeDatabase } from '../support/describeDatabase.js';
import { openPool } from '../support/openPool.js';
import { SEED_ROWS, SEED_SCHEMA } from '../support/seedSchema.sql.js';
import { daysAgo } from './archiveHarness.js';

const SPACED = 'My ledger';
const LONG = 'LEDGER'.padEnd(63, '-x');
const IDENTIFIER = { [SPACED]: `"${SPACED}"`, [LONG]: `"${LONG}"` };
const USER = 'ada';
const ORGANIZATION = randomUUID();

let database: TestDatabase;
let url: string;
const ledgers = new Map<string, { url: string; pool: pg.Pool; ledger: Ledger }>();
/** In no schema: `"$user", public`, of which neither has a table. */
let outside: pg.Pool;

const of = (schema: string) => {
  const found = ledgers.get(schema);
  if (!found) throw new Error(`no ledger in ${schema}`);
  return found;
};

async function open(schema: string): Promise<void> {
  const placed = inSchema(url, schema);
  ledgers.set(schema, {
    url: placed,
    pool: openPool({ connectionString: placed, max: 4 }),
    ledger: await createLedger({ databaseUrl: url, schema, backgroundFold: false, poolSize: 4 }),
  });
}

async function expectExact(schema: string): Promise<void> {
  const { pool, ledger } = of(schema);
  expect(await checkInvariants(pool)).toEqual([]);
  expect(await ledger.fold()).toMatchObject({ remaining: 0 });
  expect(await checkInvariants(pool)).toEqual([]);
  expect(await checkFolded(pool)).toEqual([]);
}

beforeAll(async () => {
  database = await createTestDatabase({ empty: true });
  url = withoutSchema(database.url);
  outside = openPool({ connectionString: url, max: 3 });
});

afterAll(async () => {
  for (const { pool, ledger } of ledgers.values()) {
    await ledger.close();
    await pool.end();
  }
  await outside.end();
  await database.drop();
});

describe('two ledgers in schemas of one database', () => {
  it('are planned, and made at the same time, each as the migrations say', async () => {
    const plan = await planMigration(url, { schema: SPACED });
    expect(plan.steps[0]).toMatchObject({
      kind: 'create_schema',
      statements: ['create schema "My ledger"'],
    });
    expect(plan.steps.flatMap((step) => step.statements).join()).not.toMatch(
      /public["']?\.|, public,/,
    );
    await Promise.all([SPACED, LONG].map((schema) => migrate(url, { schema })));
    const committed = await readFile(
      path.join(import.meta.dirname, '../../drizzle/schema.txt'),
      'utf8',
    );
    for (const [schema, identifier] of Object.entries(IDENTIFIER)) {
      expect(await migrate(url, { schema })).toMatchObject({ applied: [] });
      expect(await describeDatabase(inSchema(url, schema))).toBe(
        forSchema(committed, { identifier }),
      );
    }
    const { rows } = await outside.query(`
      select relnamespace::regnamespace::text as schema, count(*)::integer as relations
      from pg_class
      where relnamespace >= 16384 or relnamespace = 'public'::regnamespace
      group by 1`);
    const others = rows.filter((row) => !row.schema.startsWith('pg_toast'));
    expect(others.map((row) => row.schema).sort()).toEqual(Object.values(IDENTIFIER).sort());
    expect(new Set(others.map((row) => row.relations)).size).toBe(1);
  });

  it('count the same payer and the same id apart', async () => {
    // As after a restore: positions of one are far above the other's.
    await outside.query(`update "${LONG}".ledger_settings
      set generation = 5, position_seen = (5::bigint << 44) + txid_current()`);
    await Promise.all([SPACED, LONG].map(open));
    const id = randomUUID();
    for (const [index, schema] of [SPACED, LONG].entries()) {
      const { pool, ledger } = of(schema);
      await pool.query('insert into kilocode_users (id) values ($1)', [USER]);
      await pool.query(`insert into organizations (id, name) values ($1, 'o')`, [ORGANIZATION]);
      const cost = 100 * (index + 1);
      const event = { id, kilo_user_id: USER, cost, metadata: { feature: schema } };
      expect(await ledger.recordUsage(event)).toMatchObject({
        status: 'recorded',
        new_microdollars_used: cost,
      });
      expect(await ledger.recordUsage(event)).toMatchObject({ status: 'duplicate' });
      const batch = Array.from({ length: 50 }, (_, n) => ({
        kilo_user_id: USER,
        organization_id: n % 2 ? ORGANIZATION : null,
        cost: n,
        created_at: `${daysAgo(12 - (n % 8))}T12:00:00Z`,
      }));
      const results = await ledger.recordUsageBatch(batch);
      expect(results.filter((result) => result.status !== 'recorded')).toEqual([]);
      await ledger.recordExaUsage({ kilo_user_id: USER, cost: 12_000_000, path: '/search' });
    }
    expect(await of(SPACED).ledger.getUserBalance(USER)).toBe(100 + 600 + 2_000_000);
    expect(await of(LONG).ledger.getUserBalance(USER)).toBe(200 + 600 + 2_000_000);
    for (const schema of [SPACED, LONG]) await expectExact(schema);
  });

  it('take rows of a program with any search path, whose totals are exact', async () => {
    await migrate(url, { schema: LONG, countForeignRows: true });
    const client = await outside.connect();
    try {
      await client.query('set search_path = pg_catalog');
      const there = `"${LONG}"`;
      await client.query(`insert into ${there}.kilocode_users (id) values ('raw')`);
      await client.query(`insert into ${there}.microdollar_usage (id, kilo_user_id, cost)
        select gen_random_uuid(), 'raw', n from generate_series(1, 10) as n`);
      await client.query(`insert into ${there}.feature (feature_id, feature) values (7, 'raw')`);
      await client.query(`insert into ${there}.microdollar_usage_daily (kilo_user_id, usage_date)
        values ('raw', '2026-01-01')`);
      await client.query(`insert into ${there}.exa_monthly_usage
        (kilo_user_id, month, free_allowance_microdollars) values ('raw', '2026-01-01', 0)`);
      const { rows } = await client.query(
        `select microdollars_used from ${there}.kilocode_user_balances where kilo_user_id = 'raw'`,
      );
      expect(rows).toEqual([{ microdollars_used: '55' }]);
    } finally {
      await client.query('reset search_path');
      client.release();
    }
    await expectExact(LONG);
  });

  it('keep generations apart in a session that writes to one after the other', async () => {
    const client = await outside.connect();
    try {
      for (const schema of [SPACED, LONG, SPACED, LONG]) {
        await client.query(`set search_path = "${schema}"`);
        await insertUsageAndMetadataWithBalanceUpdate(client, { kilo_user_id: USER, cost: 10 });
        await client.query(
          `insert into microdollar_usage (id, kilo_user_id, cost, position)
          values (gen_random_uuid(), $1, 10, microdollar_position())`,
          [USER],
        );
      }
    } finally {
      await client.query('reset search_path');
      client.release();
    }
    expect(await of(SPACED).ledger.getUserBalance(USER)).toBe(2_000_740);
    expect(await of(LONG).ledger.getUserBalance(USER)).toBe(2_000_840);
    for (const schema of [SPACED, LONG]) await expectExact(schema);
  });

  it('do not meet in a lock of a key, of an archive or of a migration', async () => {
    const holder = await of(SPACED).pool.connect();
    const opened = 'select microdollar_open_daily($1, null, $2) as opened';
    const key = [USER, '2026-02-02'];
    try {
      await holder.query('begin');
      expect((await holder.query(opened, key)).rows).toEqual([{ opened: true }]);
      expect((await of(SPACED).pool.query(opened, key)).rows).toEqual([{ opened: false }]);
      expect((await of(LONG).pool.query(opened, key)).rows).toEqual([{ opened: true }]);
      await holder.query('rollback');
      await holder.query('set search_path = "My ledger"');
      await holder.query(
        `select pg_advisory_lock(1297369171, 'ledger_settings'::regclass::integer)`,
      );
      const directory = await mkdtemp(path.join(tmpdir(), 'microdollar-schemas-'));
      const archive = (schema: string, waitMs?: number) =>
        archiveUsage({ url: of(schema).url, until: daysAgo(10), directory, waitMs });
      await expect(archive(SPACED, 100)).rejects.toThrow('another archive is running');
      expect(await verifyRollup({ url: of(LONG).url, rollup: DAILY_ROLLUP })).toMatchObject({
        drifts: [],
      });
      expect(await archive(LONG)).toMatchObject({ failures: [] });
      // Nor in a directory of files: an export of one would have the usage of both.
      await holder.query('select pg_advisory_unlock_all()');
      await verifyRollup({ url: of(SPACED).url, rollup: DAILY_ROLLUP });
      await expect(archive(SPACED)).rejects.toThrow('holds the archive of database');
      await rm(directory, { recursive: true });
    } finally {
      await holder.query('select pg_advisory_unlock_all()');
      holder.release(true);
    }
    await expectExact(LONG);
    expect(await rowsOf(LONG)).toBeLessThan(await rowsOf(SPACED));
  });

  it('are told apart by the names of their connections', async () => {
    const { rows } = await outside.query<{ name: string }>(`select distinct application_name as name
      from pg_stat_activity where datname = current_database() and application_name like '% write%'`);
    expect(rows.map((row) => row.name).sort()).toEqual([
      `microdollar write @${LONG.slice(0, 40)}`,
      'microdollar write @My ledger',
    ]);
  });
});

async function rowsOf(schema: string): Promise<number> {
  const { rows } = await of(schema).pool.query(
    'select count(*)::integer as n from microdollar_usage',
  );
  return rows[0].n;
}

describe('tables of another program in a schema', () => {
  it('are adopted there, backfilled and verified, and those of public left alone', async () => {
    await outside.query('create schema host; create table public.microdollar_usage (id text)');
    const host = openPool({ connectionString: inSchema(url, 'host'), max: 2 });
    await host.query(SEED_SCHEMA);
    await host.query(SEED_ROWS);
    const plan = await planMigration(url, { schema: 'host' });
    expect(plan).toMatchObject({ work: 'adopt', problems: [] });
    expect(await migrate(url, { schema: 'host' })).toMatchObject({ isAdopted: true });
    expect(await planMigration(url, { schema: 'host' })).toMatchObject({ steps: [] });
    await host.end();
    await open('host');
    await of('host').ledger.recordUsage({ kilo_user_id: 'user 3', cost: 70 });
    await runBackfill({ url: of('host').url, rollup: DAILY_ROLLUP });
    await repairRollup({ url: of('host').url, rollup: DAILY_ROLLUP });
    expect(await verifyRollup({ url: of('host').url, rollup: DAILY_ROLLUP })).toMatchObject({
      drifts: [],
    });
    const { rows } = await outside.query(`select attname from pg_attribute
      where attrelid = 'public.microdollar_usage'::regclass and attnum > 0`);
    expect(rows).toEqual([{ attname: 'id' }]);
    await outside.query('drop table public.microdollar_usage');
  });
});

describe('a ledger that is told its schema', () => {
  const fails = (options: Parameters<typeof createLedger>[0]) =>
    expect(createLedger(options).then((ledger) => ledger.close())).rejects;

  it('does not open where there is none', async () => {
    await fails({ databaseUrl: url, schema: 'absent' }).toMatchObject({
      code: 'unavailable',
      message:
        'there is no schema absent: run microdollar migrate, or name the schema of your ledger',
    });
    await fails({ databaseUrl: url, schema: 'a"b' }).toMatchObject({ code: 'invalid_request' });
    await expect(migrate(url, { schema: 'pg_x' })).rejects.toMatchObject({
      code: 'invalid_request',
    });
  });

  it('behind a pooler needs a role whose search path it is', async () => {
    const role = `pooled_${randomUUID().slice(0, 8)}`;
    await outside.query(`create role ${role} login superuser password 'x'`);
    const other = new URL(url);
    Object.assign(other, { username: role, password: 'x' });
    const options = {
      databaseUrl: other.href,
      schema: SPACED,
      preparedStatements: false,
      backgroundFold: false,
    };
    try {
      await fails(options).toMatchObject({
        code: 'unavailable',
        message: expect.stringContaining('alter role ... set search_path = "My ledger"'),
      });
      await outside.query(`alter role ${role} set search_path = "${SPACED}"`);
      const ledger = await createLedger(options);
      await ledger.recordUsage({ kilo_user_id: USER, cost: 5 });
      await ledger.close();
    } finally {
      await outside.query(`drop role ${role}`);
    }
    await expectExact(SPACED);
  });
});
