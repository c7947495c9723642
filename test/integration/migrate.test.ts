import { readFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { pickFreePort } from '../../src/db/embedded/postmaster.js';
import { assertMigrated, migrate, planMigration } from '../../src/db/migrate.js';
import { asAdmin, createTestDatabase, type TestDatabase } from '../support/database.js';
import { describeDatabase } from '../support/describeDatabase.js';
import { migrateBeyond, migrateUntil } from '../support/migrateUntil.js';
import { openSessions } from '../support/sessions.js';
import { urlThrough } from '../support/socketUrl.js';

const COMMITTED = readFileSync(path.join(import.meta.dirname, '../../drizzle/schema.txt'), 'utf8');
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
    const result = {
      applied: ALL,
      isAdopted: false,
      isGenerationRaised: false,
      countsForeignRows: false,
      isPartitioned: false,
      warnings: [],
    };
    expect(await migrate(database.url)).toEqual(result);
    expect(await migrate(database.url)).toEqual({ ...result, applied: [] });
    const recorded = await database.pool.query('select from public.microdollar_migrations');
    expect(recorded.rowCount).toBe(ALL.length);
  });

  it('may be called by several processes at once: one applies, the others wait', async () => {
    const results = await Promise.all(Array.from({ length: 5 }, () => migrate(database.url)));
    expect(results.map(({ applied }) => applied.length).sort()).toEqual([0, 0, 0, 0, ALL.length]);
  });

  it('applies all or nothing', async () => {
    await database.pool.query(
      'create function microdollar_position() returns text language sql return 1',
    );
    await expect(migrate(database.url)).rejects.toMatchObject({ code: 'internal' });
    const tables = await database.pool.query(`select from pg_tables where tablename = 'api_keys'`);
    expect(tables.rowCount).toBe(0);
    await database.pool.query('drop function microdollar_position()');
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

describe('a database that is newer than the program', () => {
  const newer = (tag: string, sql: string) => migrateBeyond(database.url, { tag, sql });
  const marking = (name: string) =>
    `update ledger_settings set breaking_migrations = array_append(breaking_migrations, '${name}')`;

  it('passes where no migration that is new is marked as breaking', async () => {
    await newer('9999_newer', 'create table newer (id integer)');
    await assertMigrated(database.pool);
    expect(await migrate(database.url)).toMatchObject({ applied: [] });
  });

  it('is refused where one is, by every way in, with the remedy', async () => {
    await newer('9999_newer', marking('9999_newer'));
    for (const way of [
      () => assertMigrated(database.pool),
      () => migrate(database.url),
      () => planMigration(database.url),
    ]) {
      const refused = way();
      await expect(refused).rejects.toMatchObject({
        code: 'internal',
        retryable: false,
        details: { newer_migrations: ['9999_newer'] },
      });
      await expect(refused).rejects.toThrow('upgrade this program');
    }
  });

  it('passes where the program knows the breaking one', async () => {
    await newer('9999_newer', marking(ALL[0] ?? ''));
    await assertMigrated(database.pool);
  });

  it('is seen by whoever may only read', async () => {
    await newer('9999_newer', marking('9999_newer'));
    const reader = await database.pool.connect();
    await reader.query('begin read only');
    await expect(assertMigrated(reader)).rejects.toThrow('9999_newer');
    await reader.query('rollback');
    reader.release();
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
    // The socket of tests asks for none.
    const url = new URL(urlThrough(database.url, Number(new URL(database.url).port)));
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
