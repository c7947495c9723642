import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { readWantedSchema } from '../../src/db/migrate/journal.js';
import { planAdoption } from '../../src/db/migrate/planAdoption.js';
import { migrate } from '../../src/db/migrate.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { describeDatabase, readDatabase } from '../support/describeDatabase.js';
import { TEST_PLACE } from '../support/testSchema.js';

describe('a database with some of the tables', () => {
  let database: TestDatabase;

  beforeEach(async () => {
    database = await createTestDatabase({ empty: true });
  });

  afterEach(() => database.drop());

  const readMode = async () => {
    const result = await database.pool.query(
      'select read_mode, installed_empty from ledger_settings',
    );
    return result.rows[0];
  };

  it('gets all others beside its own usage, and reads from that', async () => {
    await database.pool.query(`create table microdollar_usage (
      id uuid, kilo_user_id text, cost bigint, created_at timestamptz)`);
    expect(await migrate(database.url)).toMatchObject({ isAdopted: true });
    expect(await readMode()).toEqual({ read_mode: 'raw', installed_empty: false });
    const plan = planAdoption(await readDatabase(database.url), readWantedSchema(TEST_PLACE));
    expect(plan).toMatchObject({ steps: [], problems: [] });
    const text = await describeDatabase(database.url);
    expect(text).toContain(
      'id uuid not null\n  kilo_user_id text not null\n  cost bigint not null',
    );
    expect(text).toContain('CREATE UNIQUE INDEX microdollar_usage_pkey');
  });

  it('is as newly installed where it has users alone, whose balances are yet to be opened', async () => {
    await database.pool.query(`
      create table kilocode_users (id text primary key, microdollars_used bigint);
      insert into kilocode_users values ('u', 7)`);
    expect(await migrate(database.url)).toMatchObject({ isAdopted: true });
    expect(await readMode()).toEqual({ read_mode: 'rollup', installed_empty: true });
    const users = await database.pool.query(
      'select microdollars_used as used, opening_microdollars_used as opening from kilocode_users',
    );
    expect(users.rows).toEqual([{ used: '7', opening: null }]);
  });
});
