import { readFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { pickFreePort } from '../../src/db/embedded/postmaster.js';
import { assertMigrated, migrate, planMigration } from '../../src/db/migrate.js';
import { checkInvariants } from '../support/checkInvariants.js';
import { asAdmin, createTestDatabase, type TestDatabase } from '../support/database.js';
import { describeDatabase } from '../support/describeDatabase.js';
import { migrateUntil } from '../support/migrateUntil.js';
import { openSessions } from '../support/sessions.js';

const COMMITTED = readFileSync(path.join(import.meta.dirname, '../../drizzle/schema.txt'), 'utf8');
const JOURNAL = path.join(import.meta.dirname, '../../drizzle/meta/_journal.json');
const ALL: string[] = JSON.parse(readFileSync(JOURNAL, 'utf8')).entries.map(
  (entry: { tag: string }) => entry.tag,
);

let database: TestDatabase;

async function identifierOf({ pool }: TestDatabase): Promise<string> {
  const result = await pool.query('select system_identifier as identifier from ledger_settings');
  return result.rows[0].identifier;
}

beforeEach(async () => {
  database = await createTestDatabase({ empty: true });
});

afterEach(() => database.drop());

describe('migrate', () => {
  it('applies every migration to an empty database, and nothing the second time', async () => {
    expect(await migrate(database.url)).toEqual({ applied: ALL, isAdopted: false, warnings: [] });
    expect(await migrate(database.url)).toEqual({ applied: [], isAdopted: false, warnings: [] });
    const recorded = await database.pool.query('select from public.microdollar_migrations');
    expect(recorded.rowCount).toBe(ALL.length);
  });

  it('may be called by several processes at once: one applies, the others wait', async () => {
    const results = await Promise.all(Array.from({ length: 5 }, () => migrate(database.url)));
    expect(results.map(({ applied }) => applied.length).sort()).toEqual([0, 0, 0, 0, ALL.length]);
  });

  it('applies all or nothing', async () => {
    await database.pool.query('create view microdollar_usage_pending as select 1 as one');
    await expect(migrate(database.url)).rejects.toMatchObject({ code: 'internal' });
    const tables = await database.pool.query(`select from pg_tables where tablename = 'api_keys'`);
    expect(tables.rowCount).toBe(0);
    await database.pool.query('drop view microdollar_usage_pending');
    expect(await migrate(database.url)).toMatchObject({ applied: ALL });
  });

  it('does not depend on the search path of its role', async () => {
    await database.pool.query('create schema elsewhere');
    await database.pool.query(
      `alter database ${database.name} set search_path = elsewhere, public`,
    );
    await migrate(database.url);
    const tables = await database.pool.query(
      `select distinct schemaname from pg_tables where tablename like '%microdollar%'`,
    );
    expect(tables.rows).toEqual([{ schemaname: 'public' }]);
  });

  it('gives up on a lock after its attempts, then succeeds once it is free', async () => {
    await using sessions = await openSessions(database.url, 1);
    const [holder] = sessions.all;
    await holder?.run(
      'create table public.microdollar_migrations (id serial, hash text, created_at bigint)',
    );
    await holder?.run('begin');
    await holder?.run('lock table public.microdollar_migrations in share mode');
    const told: string[] = [];
    const options = { lockTimeoutMs: 20, attempts: 2, log: (line: string) => told.push(line) };
    await expect(migrate(database.url, options)).rejects.toMatchObject({
      code: 'unavailable',
      details: { sqlstate: '55P03' },
    });
    expect(told).toEqual([expect.stringContaining('attempt 1 of 2')]);
    await holder?.run('rollback');
    expect(await migrate(database.url)).toMatchObject({ applied: ALL });
  });
});

describe('migrate, from a version before', () => {
  const prefixes = ALL.slice(1).map((_, index) => ({ count: index + 1, last: ALL[index] }));

  it.each(prefixes)('goes on after $last, and ends in the committed schema', async ({ count }) => {
    await migrateUntil(database.url, count);
    await expect(assertMigrated(database.pool)).rejects.toMatchObject({
      code: 'unavailable',
      details: { missing_migrations: ALL.slice(count) },
    });
    expect((await planMigration(database.url)).unapplied).toEqual(ALL.slice(count));
    expect(await migrate(database.url)).toMatchObject({ applied: ALL.slice(count) });
    await assertMigrated(database.pool);
    expect(await describeDatabase(database.url)).toBe(COMMITTED);
  });

  it('is said by assertMigrated, with the remedy, where there is nothing at all', async () => {
    const failure = assertMigrated(database.pool);
    await expect(failure).rejects.toMatchObject({ code: 'unavailable' });
    await expect(failure).rejects.toThrow('run microdollar migrate');
  });
});

describe('migrate, where it cannot', () => {
  it('names an unreachable server, without the password', async () => {
    const port = await pickFreePort();
    const failure = migrate(`postgres://someone:s3cret@127.0.0.1:${port}/db`);
    await expect(failure).rejects.toMatchObject({ code: 'unavailable', retryable: true });
    await expect(failure).rejects.toThrow(`127.0.0.1:${port}/db`);
    await expect(failure).rejects.not.toThrow('s3cret');
  });

  it('names a refused password, without it', async () => {
    const url = new URL(database.url);
    url.password = 's3cret';
    const failure = migrate(url.href);
    await expect(failure).rejects.toMatchObject({ details: { sqlstate: '28P01' } });
    await expect(failure).rejects.not.toThrow('s3cret');
  });

  describe('with a role that owns nothing', () => {
    const role = `visitor_${process.pid}`;
    let url: string;

    beforeEach(async () => {
      await asAdmin((client) => client.query(`create role ${role} login password 'p'`));
      const visitor = new URL(database.url);
      visitor.username = role;
      visitor.password = 'p';
      url = visitor.href;
    });

    afterEach(async () => {
      await database.pool.query(`drop owned by ${role}`);
      await asAdmin((client) => client.query(`drop role ${role}`));
    });

    it('says that the role is not permitted, and the remedy', async () => {
      const failure = migrate(url);
      await expect(failure).rejects.toMatchObject({ details: { sqlstate: '42501' } });
      await expect(failure).rejects.toThrow('MICRODOLLAR_MIGRATION_URL');
    });

    it('finds nothing to do where the owner has migrated', async () => {
      await migrate(database.url);
      await database.pool.query(`grant select on all tables in schema public to ${role}`);
      expect(await migrate(url)).toMatchObject({ applied: [] });
    });
  });
});

describe('migrate, after a dump was restored into another cluster', () => {
  const FUTURE = '900000000000';

  it('resets floors and restamps pending rows, where some lie in the future', async () => {
    await migrate(database.url);
    await database.pool.query(`
      insert into kilocode_users (id, pending_floor, scrub_after_xid)
      values ('restored', '${FUTURE}', '${FUTURE}'), ('untouched', '3', null);
      insert into organizations (name, pending_floor) values ('restored', '${FUTURE}');
      insert into microdollar_usage_pending (xid, kilo_user_id, usage_date, cost_microdollars)
      values ('${FUTURE}', 'restored', '2026-03-01', 5), ('4', 'untouched', '2026-03-01', 6)`);
    const told: string[] = [];
    await migrate(database.url, { log: (line) => told.push(line) });
    expect(told).toHaveLength(1);
    const users = await database.pool.query(
      `select id, pending_floor, scrub_after_xid < '${FUTURE}' as restamped
      from kilocode_users order by id`,
    );
    expect(users.rows).toEqual([
      { id: 'restored', pending_floor: '0', restamped: true },
      { id: 'untouched', pending_floor: '0', restamped: null },
    ]);
    const organizations = await database.pool.query('select pending_floor from organizations');
    expect(organizations.rows).toEqual([{ pending_floor: '0' }]);
    const pending = await database.pool.query(
      `select kilo_user_id, xid = '4' as kept, xid < '${FUTURE}' as present
      from microdollar_usage_pending order by kilo_user_id`,
    );
    expect(pending.rows).toEqual([
      { kilo_user_id: 'restored', kept: false, present: true },
      { kilo_user_id: 'untouched', kept: false, present: true },
    ]);
    const balance = await database.pool.query(`select microdollar_user_balance('restored') as b`);
    expect(balance.rows).toEqual([{ b: '5' }]);
    await migrate(database.url, { log: (line) => told.push(line) });
    expect(told).toHaveLength(1);
  });

  it('resets all floors where the settings name another cluster, however low they are', async () => {
    await migrate(database.url);
    const present = await identifierOf(database);
    await database.pool.query(`
      update ledger_settings set system_identifier = 'of the cluster that was dumped';
      insert into kilocode_users (id, pending_floor, scrub_after_xid)
      values ('restored', '7', '8'), ('never folded', '0', null);
      insert into organizations (name, pending_floor) select 'o', '9' from generate_series(1, 2500);
      insert into microdollar_usage_pending (xid, kilo_user_id, usage_date, cost_microdollars)
      values ('6', 'restored', '2026-03-01', 5)`);
    await migrate(database.url);
    expect(await identifierOf(database)).toBe(present);
    const left = await database.pool.query(`
      select (select count(*) from kilocode_users where pending_floor <> '0')
        + (select count(*) from organizations where pending_floor <> '0')
        + (select count(*) from microdollar_usage_pending where xid < '10')
        + (select count(*) from kilocode_users where scrub_after_xid < '10') as foreign_xids,
        microdollar_user_balance('restored') as balance`);
    expect(left.rows).toEqual([{ foreign_xids: '0', balance: '5' }]);
    expect(await checkInvariants(database.pool)).toEqual([
      expect.stringContaining('restored'),
      expect.stringContaining('restored'),
    ]);
  });

  it('notes the cluster at the first migration, and touches nothing in the same one', async () => {
    await migrate(database.url);
    const control = await database.pool.query(
      'select system_identifier::text as identifier from pg_control_system()',
    );
    expect(await identifierOf(database)).toBe(control.rows[0].identifier);
    await database.pool.query(`insert into kilocode_users (id, pending_floor) values ('u', '7')`);
    await migrate(database.url);
    const floors = await database.pool.query('select pending_floor from kilocode_users');
    expect(floors.rows).toEqual([{ pending_floor: '7' }]);
  });

  it('leaves it to the owner where the role may only read', async () => {
    await migrate(database.url);
    await database.pool.query(
      `insert into kilocode_users (id, pending_floor) values ('u', '${FUTURE}')`,
    );
    const reader = database.pool;
    const name = `reader_${process.pid}`;
    await reader.query(`create role ${name} login password 'p'`);
    await reader.query(`grant select on all tables in schema public to ${name}`);
    const url = new URL(database.url);
    url.username = name;
    url.password = 'p';
    const told: string[] = [];
    expect(await migrate(url.href, { log: (line) => told.push(line) })).toMatchObject({
      applied: [],
    });
    expect(told.at(-1)).toContain('this role may not');
    await reader.query(`drop owned by ${name}`);
    await reader.query(`drop role ${name}`);
  });
});
