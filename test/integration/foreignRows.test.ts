import { afterEach, describe, expect, it } from 'vitest';
import { countsForeignRows, migrate, planMigration } from '../../src/db/migrate.js';
import { createLedger } from '../../src/ledger.js';
import { checkFolded, checkInvariants } from '../support/checkInvariants.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { SEED_WRITE } from '../support/seedSchema.sql.js';
import { TEST_SCHEMA_SQL } from '../support/testSchema.js';
import { createSeedDatabase } from './adoptHarness.js';
import { documentOf, runCommand } from './cliHarness.js';

let database: TestDatabase;
const query = async (text: string, values: unknown[] = []) =>
  (await database.pool.query(text, values)).rows;

afterEach(() => database.drop());

async function createMigrated(): Promise<void> {
  database = await createTestDatabase();
  await query(`insert into kilocode_users (id) values ('ada')`);
  await query(`insert into organizations (id, name) values (gen_random_uuid(), 'one')`);
}

/** Another program, which knows usage rows and nothing else. */
async function writeRaw(): Promise<void> {
  for (const organization of ['null', '(select id from organizations)']) {
    await query(`insert into microdollar_usage (id, kilo_user_id, organization_id, cost)
      select gen_random_uuid(), 'ada', ${organization}, n from generate_series(1, 10) as n`);
    await query(`insert into exa_usage_log (id, kilo_user_id, organization_id, cost, path)
      select gen_random_uuid(), 'ada', ${organization}, 3000000, '/search'
      from generate_series(1, 5)`);
  }
}

const reported = async () =>
  (await query('select microdollars_used::integer as used from kilocode_user_balances'))[0].used;

describe('usage rows of other programs', () => {
  it('are in no total as installed, and stay so for what was written then', async () => {
    await createMigrated();
    expect(await countsForeignRows(database.pool)).toBe(false);
    await writeRaw();
    expect(await reported()).toBe(0);
    await migrate(database.url, { countForeignRows: true });
    expect(await reported()).toBe(0);
  });

  it('are exact at once when they are counted, without repair; and settle', async () => {
    await createMigrated();
    const result = await migrate(database.url, { countForeignRows: true });
    expect(result).toMatchObject({ applied: [], countsForeignRows: true });
    await writeRaw();
    expect(await checkInvariants(database.pool)).toEqual([]);
    expect(await reported()).toBe(55 + 5_000_000);
    const ledger = await createLedger({ databaseUrl: database.url, backgroundFold: false });
    await ledger.recordUsage({ kilo_user_id: 'ada', cost: 45 });
    await ledger.fold();
    await ledger.close();
    expect(await reported()).toBe(100 + 5_000_000);
    expect(await checkFolded(database.pool)).toEqual([]);
    expect(await checkInvariants(database.pool)).toEqual([]);
  });

  it('without a cost settle and move nothing: no total, and no count of requests', async () => {
    await createMigrated();
    await migrate(database.url, { countForeignRows: true });
    for (const cost of [0, 3_000_000]) {
      await query(
        `insert into exa_usage_log (id, kilo_user_id, cost, path)
         select gen_random_uuid(), 'ada', $1::bigint, '/search' from generate_series(1, 2)`,
        [cost],
      );
      await query(
        `insert into microdollar_usage (id, kilo_user_id, cost)
         values (gen_random_uuid(), 'ada', $1::bigint)`,
        [cost],
      );
    }
    const ledger = await createLedger({ databaseUrl: database.url, backgroundFold: false });
    expect(await ledger.fold()).toMatchObject({ drained: 6, remaining: 0 });
    await ledger.close();
    expect(await query('select request_count from exa_monthly_usage')).toEqual([
      { request_count: 2 },
    ]);
    expect(await checkFolded(database.pool)).toEqual([]);
    expect(await checkInvariants(database.pool)).toEqual([]);
  });

  it('are counted until it is turned off, and stay counted', async () => {
    await createMigrated();
    await migrate(database.url, { countForeignRows: true });
    await writeRaw();
    expect(await migrate(database.url, { countForeignRows: false })).toMatchObject({
      countsForeignRows: false,
    });
    const before = await reported();
    await writeRaw();
    expect(await reported()).toBe(before);
  });

  it('may come from a role that may insert usage and nothing else', async () => {
    await createMigrated();
    await migrate(database.url, { countForeignRows: true });
    const role = `writer_${process.pid}`;
    await query(`create role ${role}`);
    await query(`grant usage on schema ${TEST_SCHEMA_SQL} to ${role}`);
    await query(`grant insert on microdollar_usage to ${role}`);
    const client = await database.pool.connect();
    try {
      await client.query(`set role ${role}`);
      await client.query(
        `insert into microdollar_usage (id, kilo_user_id, cost)
        values (gen_random_uuid(), 'ada', 7)`,
      );
    } finally {
      await client.query('reset role');
      client.release();
      await query(`drop owned by ${role}`);
      await query(`drop role ${role}`);
    }
    expect(await reported()).toBe(7);
  });

  it('are as they were for whoever did not ask', async () => {
    await createMigrated();
    await migrate(database.url, { countForeignRows: true });
    expect(await migrate(database.url)).toMatchObject({ countsForeignRows: true, warnings: [] });
    expect((await planMigration(database.url)).steps).toEqual([]);
  });
});

describe('a program that keeps totals itself', () => {
  const twice = async (countForeignRows: boolean) => {
    database = await createSeedDatabase();
    await migrate(database.url, { countForeignRows });
    const used = async () =>
      (
        await query(`select microdollars_used::integer as used from kilocode_user_balances
          where kilo_user_id = 'user 1'`)
      )[0].used;
    const before = await used();
    await query(SEED_WRITE, ['user 1', 100]);
    return (await used()) - before;
  };

  it('is counted once as installed', async () => {
    expect(await twice(false)).toBe(100);
  });

  it('is counted twice while foreign rows are: the warning says so', async () => {
    expect(await twice(true)).toBe(200);
    const { warnings } = await migrate(database.url, { countForeignRows: true });
    expect(warnings.join()).toContain('counted twice');
  });
});

describe('microdollar migrate --count-foreign-rows', () => {
  const run = (...argv: string[]) => runCommand({ DATABASE_URL: database.url }, 'migrate', ...argv);

  it('tells what it would do, does it, and says the state in every answer', async () => {
    await createMigrated();
    const plan = await run('--dry-run', '--count-foreign-rows', 'on');
    expect(plan.stdout).toMatch(
      /^quick +access exclusive +alter table +microdollar_usage: rows of other programs/m,
    );
    expect(plan.stdout).toContain('usage rows of other programs are counted by backfill or repair');
    expect(plan.stdout).toContain('counted twice');
    expect(await countsForeignRows(database.pool)).toBe(false);

    const on = await run('--count-foreign-rows', 'on');
    expect(on.stdout).toContain('usage rows of other programs are counted at once');
    expect(documentOf(await run('--json'))).toMatchObject({ count_foreign_rows: true });
    expect(documentOf(await run('--json', '--dry-run'))).toMatchObject({
      count_foreign_rows: true,
      steps: [],
    });
    expect(documentOf(await run('--json', '--count-foreign-rows', 'off'))).toMatchObject({
      count_foreign_rows: false,
    });
  });

  it('refuses what is neither on nor off', async () => {
    await createMigrated();
    const refused = await run('--count-foreign-rows', 'perhaps');
    expect(refused.status).toBe(2);
    expect(refused.stderr).toContain('must be on or off');
  });
});
