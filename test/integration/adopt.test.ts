import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { readWantedSchema } from '../../src/db/migrate/journal.js';
import { planAdoption } from '../../src/db/migrate/planAdoption.js';
import { assertMigrated, migrate, planMigration } from '../../src/db/migrate.js';
import { createLedger } from '../../src/ledger.js';
import { LOOKUP_NAMES } from '../../src/schema/lookupNames.js';
import type { TestDatabase } from '../support/database.js';
import { describeDatabase, readDatabase } from '../support/describeDatabase.js';
import { isBlocked, openSessions, untilBlocked } from '../support/sessions.js';
import { TEST_PLACE } from '../support/testSchema.js';
import { createSeedDatabase } from './adoptHarness.js';

const COMMITTED = readFileSync(path.join(import.meta.dirname, '../../drizzle/schema.txt'), 'utf8');

/** Each line with the object it belongs to. */
function linesOf(description: string): string[] {
  return description.split('\n\n').flatMap((part) => {
    const [title = '', ...lines] = part.trim().split('\n');
    return lines.map((line) => `${title.replace(/^table /, '')}: ${line.trim()}`);
  });
}

describe('an adopted database', () => {
  let database: TestDatabase;
  let before: { text: string; rows: unknown };
  const rows = async (text: string, values: unknown[] = []) =>
    (await database.pool.query(text, values)).rows;
  const rawTotals = () =>
    rows('select count(*), sum(cost), max(created_at) from microdollar_usage');

  beforeAll(async () => {
    database = await createSeedDatabase();
    before = { text: await describeDatabase(database.url), rows: await rawTotals() };
    const files = await rows(`select pg_relation_filenode('microdollar_usage') as file`);
    const result = await migrate(database.url);
    expect(result.isAdopted).toBe(true);
    expect(await rows(`select pg_relation_filenode('microdollar_usage') as file`)).toEqual(files);
  });

  afterAll(() => database.drop());

  it('is migrated for every command, and a second run finds nothing to do', async () => {
    await assertMigrated(database.pool);
    expect(await migrate(database.url)).toMatchObject({ applied: [], isAdopted: false });
    expect((await planMigration(database.url)).steps).toEqual([]);
  });

  it('has everything of the committed schema but what is documented', async () => {
    const wanted = planAdoption(await readDatabase(database.url), readWantedSchema(TEST_PLACE));
    expect(wanted).toMatchObject({ steps: [], problems: [] });
    const lines = new Set(linesOf(await describeDatabase(database.url)));
    const missing = linesOf(COMMITTED).filter((line) => !lines.has(line));
    expect(missing.sort()).toEqual(DOCUMENTED_DIFFERENCES);
  });

  it('keeps everything of its own: columns, indexes, constraints and rows', async () => {
    const lines = new Set(linesOf(await describeDatabase(database.url)));
    const lost = linesOf(before.text).filter((line) => !lines.has(line));
    expect(lost.sort()).toEqual(DOCUMENTED_CHANGES);
    expect(await rawTotals()).toEqual(before.rows);
  });

  it('has statistics of what was added, and no row that is unsettled', async () => {
    expect(
      await rows(`select tablename, null_frac from pg_stats
        where attname = 'position' and schemaname = current_schema()`),
    ).toEqual([{ tablename: 'microdollar_usage', null_frac: 1 }]);
    expect(await rows('select from microdollar_usage where position is not null')).toEqual([]);
  });

  it('reads from raw usage, covers no day, and has balances that are yet to be opened', async () => {
    expect(await rows('select read_mode, installed_empty from ledger_settings')).toEqual([
      { read_mode: 'raw', installed_empty: false },
    ]);
    expect(await rows('select from rollup_coverage')).toEqual([]);
    for (const table of ['kilocode_users', 'organizations']) {
      expect(
        await rows(`select distinct opening_microdollars_used as opening from ${table}`),
      ).toEqual([{ opening: null }]);
    }
    await database.pool.query(
      `insert into kilocode_users (id, google_user_email) values ('new', 'new@example.com')`,
    );
    expect(
      await rows(`select opening_microdollars_used as o from kilocode_users where id = 'new'`),
    ).toEqual([{ o: '0' }]);
  });

  it('records events whose totals and balances hold, with metadata, once each', async () => {
    const ledger = await createLedger({ databaseUrl: database.url, backgroundFold: false });
    try {
      const [user] = await rows(
        `select microdollars_used::integer as used from kilocode_users where id = 'user 3'`,
      );
      const event = {
        id: randomUUID(),
        kilo_user_id: 'user 3',
        cost: 70,
        // Before any seeded row, so that these days hold nothing but new events.
        created_at: '2021-01-01T10:00:00Z',
        metadata: { editor_name: 'emacs', status_code: 200, latency: 12.5 },
      };
      const first = await ledger.recordUsage(event);
      expect(first).toMatchObject({ status: 'recorded', new_microdollars_used: user.used + 70 });
      expect(await ledger.recordUsage(event)).toMatchObject({ status: 'duplicate' });
      const batch = await ledger.recordUsageBatch(
        Array.from({ length: 40 }, (_, n) => ({
          kilo_user_id: `user ${1 + (n % 20)}`,
          cost: n,
          created_at: '2021-01-02T00:00:00Z',
          metadata: { feature: 'chat' },
        })),
      );
      expect(batch.every((each) => each.status === 'recorded')).toBe(true);
      const difference = await rows(`
        select kilo_user_id, usage_date, sum(amount) as difference
        from (
          select kilo_user_id, usage_date, total_cost_microdollars as amount
          from microdollar_usage_daily_exact
          where usage_date < '2021-02-01'
          union all
          select kilo_user_id, (created_at at time zone 'UTC')::date, -cost
          from microdollar_usage
          where created_at < '2021-02-01'
        ) as parts
        group by 1, 2
        having sum(amount) <> 0`);
      expect(difference).toEqual([]);
      const metadata = await rows(
        `select m.kilo_user_id, e.editor_name, m.status_code, m.latency
        from microdollar_usage_metadata as m join editor_name as e using (editor_name_id)
        where m.id = $1`,
        [event.id],
      );
      expect(metadata).toEqual([
        { kilo_user_id: 'user 3', editor_name: 'emacs', status_code: 200, latency: 12.5 },
      ]);
    } finally {
      await ledger.close();
    }
  });
});

/** Of schema.txt, and not in the adopted seed: something of its own serves as well. */
const DOCUMENTED_DIFFERENCES = [
  ...LOOKUP_NAMES.flatMap((name) => [
    `${name}: ${name}_id integer generated by default as identity not null`,
    `${name}: constraint uq_${name} UNIQUE (${name})`,
  ]),
  `kilocode_users: microdollars_used bigint default 0 not null`,
  `kilocode_users: total_microdollars_acquired bigint default 0 not null`,
  'microdollar_usage: CREATE INDEX idx_microdollar_usage_created_at ON public.microdollar_usage USING btree (created_at)',
  'microdollar_usage: CREATE INDEX idx_microdollar_usage_kilo_user_id_created_at ON public.microdollar_usage USING btree (kilo_user_id, created_at)',
  'microdollar_usage: id uuid not null',
  'microdollar_usage: model text',
  'microdollar_usage_daily: CREATE UNIQUE INDEX uq_microdollar_usage_daily_organization ON public.microdollar_usage_daily USING btree (kilo_user_id, organization_id, usage_date) WHERE (organization_id IS NOT NULL)',
  'microdollar_usage_daily: CREATE UNIQUE INDEX uq_microdollar_usage_daily_personal ON public.microdollar_usage_daily USING btree (kilo_user_id, usage_date) WHERE (organization_id IS NULL)',
  'microdollar_usage_metadata: created_at timestamp with time zone default now() not null',
  'microdollar_usage_metadata: generation_time double precision',
  'microdollar_usage_metadata: kilo_user_id text not null',
  'microdollar_usage_metadata: latency double precision',
  'microdollar_usage_metadata: max_tokens integer',
  'microdollar_usage_metadata: moderation_latency double precision',
  'microdollar_usage_metadata: status_code integer',
  'microdollar_usage_metadata: vercel_ip_latitude double precision',
  'microdollar_usage_metadata: vercel_ip_longitude double precision',
  'organization_memberships: constraint organization_memberships_organization_id_kilo_user_id_pk PRIMARY KEY (organization_id, kilo_user_id)',
].sort();

/** Of the seed, as it was before: defaults added, NOT NULL proven or lifted. */
const DOCUMENTED_CHANGES = [
  'microdollar_usage: cache_hit_tokens bigint not null',
  'microdollar_usage: cache_write_tokens bigint not null',
  'microdollar_usage: created_at timestamp with time zone default now()',
  'microdollar_usage: input_tokens bigint not null',
  'microdollar_usage: output_tokens bigint not null',
  'microdollar_usage_metadata: created_at timestamp with time zone',
  'microdollar_usage_metadata: message_id text not null',
  'organization_memberships: role text not null',
];

describe('foreign keys to rows that others lock', () => {
  let database: TestDatabase;

  beforeEach(async () => {
    database = await createSeedDatabase();
  });

  afterEach(() => database.drop());

  it('are kept and warned of; dropped when asked, a usage write waits for nobody (I4)', async () => {
    const write = `
      insert into microdollar_usage (id, kilo_user_id, cost, position)
      values (gen_random_uuid(), 'user 1', 5, microdollar_position())`;
    const { warnings } = await migrate(database.url);
    expect(warnings.join()).toContain('usage_user');
    await using sessions = await openSessions(database.url, 2);
    const [holder, writer] = sessions.all;
    if (!holder || !writer) throw new Error('two sessions');
    await holder.run('begin');
    await holder.run(`select from kilocode_users where id = 'user 1' for update`);
    const waiting = writer.run(write);
    await untilBlocked(database.pool, writer, waiting);
    await holder.run('rollback');
    await waiting;
    const dropped = await migrate(database.url, { dropForeignKeys: true });
    expect(dropped.warnings).toEqual([]);
    await holder.run('begin');
    await holder.run(`select from kilocode_users where id = 'user 1' for update`);
    await writer.run(write);
    expect(await isBlocked(database.pool, writer)).toBe(false);
  });

  it('are dropped in the adoption itself when asked', async () => {
    const { warnings } = await migrate(database.url, { dropForeignKeys: true });
    expect(warnings.filter((warning) => warning.startsWith('foreign key'))).toEqual([]);
    const left = await database.pool.query(
      `select conrelid::regclass::text as "table" from pg_constraint
      where contype = 'f' order by 1`,
    );
    expect(left.rows.map((row) => row.table)).toEqual([
      'organization_memberships',
      'organization_memberships',
    ]);
  });
});
