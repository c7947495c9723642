import { readFileSync } from 'node:fs';
import path from 'node:path';
import pg from 'pg';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { pickFreePort } from '../../src/db/embedded/postmaster.js';
import { migrate } from '../../src/db/migrate.js';
import { asAdmin, createTestDatabase, type TestDatabase } from '../support/database.js';
import { openSessions } from '../support/sessions.js';

const JOURNAL = path.join(import.meta.dirname, '../../drizzle/meta/_journal.json');
const ALL: string[] = JSON.parse(readFileSync(JOURNAL, 'utf8')).entries.map(
  (entry: { tag: string }) => entry.tag,
);

let database: TestDatabase;

beforeEach(async () => {
  database = await createTestDatabase({ empty: true });
});

afterEach(() => database.drop());

describe('migrate', () => {
  it('applies every migration to an empty database, and nothing the second time', async () => {
    expect(await migrate(database.url)).toEqual({ applied: ALL });
    expect(await migrate(database.url)).toEqual({ applied: [] });
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
    expect(await migrate(database.url)).toEqual({ applied: ALL });
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
    expect(told).toEqual(['a table is in use (attempt 1 of 2); trying again']);
    await holder?.run('rollback');
    expect(await migrate(database.url)).toEqual({ applied: ALL });
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
      expect(await migrate(url)).toEqual({ applied: [] });
    });
  });
});

describe('migrate, after a dump was restored into another cluster', () => {
  const FUTURE = '900000000000';

  it('resets floors and restamps pending rows of the future, and leaves the others', async () => {
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
      { id: 'untouched', pending_floor: '3', restamped: null },
    ]);
    const organizations = await database.pool.query('select pending_floor from organizations');
    expect(organizations.rows).toEqual([{ pending_floor: '0' }]);
    const pending = await database.pool.query(
      `select kilo_user_id, xid = '4' as kept, xid < '${FUTURE}' as present
      from microdollar_usage_pending order by kilo_user_id`,
    );
    expect(pending.rows).toEqual([
      { kilo_user_id: 'restored', kept: false, present: true },
      { kilo_user_id: 'untouched', kept: true, present: true },
    ]);
    const balance = await database.pool.query(`select microdollar_user_balance('restored') as b`);
    expect(balance.rows).toEqual([{ b: '5' }]);
    await migrate(database.url, { log: (line) => told.push(line) });
    expect(told).toHaveLength(1);
  });

  it('leaves it to the owner where the role may only read', async () => {
    await migrate(database.url);
    await database.pool.query(
      `insert into kilocode_users (id, pending_floor) values ('u', '${FUTURE}')`,
    );
    const reader = new pg.Client({ connectionString: database.url });
    await reader.connect();
    const name = `reader_${process.pid}`;
    await reader.query(`create role ${name} login password 'p'`);
    await reader.query(`grant select on all tables in schema public to ${name}`);
    const url = new URL(database.url);
    url.username = name;
    url.password = 'p';
    const told: string[] = [];
    expect(await migrate(url.href, { log: (line) => told.push(line) })).toEqual({ applied: [] });
    expect(told.at(-1)).toContain('this role may not');
    await reader.query(`drop owned by ${name}`);
    await reader.query(`drop role ${name}`);
    await reader.end();
  });
});
