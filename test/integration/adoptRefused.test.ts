import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { migrate, planMigration } from '../../src/db/migrate.js';
import type { TestDatabase } from '../support/database.js';
import { describeDatabase } from '../support/describeDatabase.js';
import { createSeedDatabase } from './adoptHarness.js';

let database: TestDatabase;

beforeEach(async () => {
  database = await createSeedDatabase();
});

afterEach(() => database.drop());

/** A change of the seed that the plan sees in the catalog, and what it is told. */
const IN_THE_CATALOG = [
  {
    what: 'an amount in a narrower type',
    change: 'alter table microdollar_usage alter column cost type integer',
    told: 'microdollar_usage.cost is integer, and must be bigint',
  },
  {
    what: 'an instant without a time zone',
    change: 'alter table microdollar_usage alter column created_at type timestamp',
    told: 'microdollar_usage.created_at is timestamp without time zone, and must be timestamp with time zone',
  },
  {
    what: 'a text of limited length, whose remedy is quick',
    change: 'alter table microdollar_usage alter column provider type varchar(20)',
    told: 'alter table microdollar_usage alter column provider type text (rewrites nothing)',
  },
  {
    what: 'a column that cannot be made up',
    change: 'alter table microdollar_usage drop column created_at',
    told: 'microdollar_usage.created_at is missing',
  },
  {
    what: 'a column that the ledger cannot fill',
    change:
      "alter table microdollar_usage add column region text; alter table microdollar_usage alter column region set default 'eu'; update microdollar_usage set region = 'eu'; alter table microdollar_usage alter column region set not null, alter column region drop default",
    told: 'alter table microdollar_usage alter column region set default',
  },
  {
    what: 'a lookup without generated ids',
    change: 'alter table feature alter column feature_id drop default',
    told: 'feature.feature_id has no default',
  },
  {
    what: 'a view in the place of a table',
    change: 'create view rollup_repairs as select 1 as one',
    told: 'rollup_repairs is a view',
  },
  {
    what: "a column of a name and another type than the ledger's",
    change: 'alter table microdollar_usage add column position text',
    told: "microdollar_usage.position is text, and must be bigint: the ledger keeps its own values there; rename the other program's column",
  },
  {
    what: "a payer's column of such a name",
    change: 'alter table kilocode_users add column settled_below timestamptz',
    told: 'kilocode_users.settled_below is timestamp with time zone, and must be bigint',
  },
  {
    what: 'a column of metadata that the ledger cannot fill',
    change: `alter table microdollar_usage_metadata add column region text not null default 'eu';
      alter table microdollar_usage_metadata alter column region drop default`,
    told: 'alter table microdollar_usage_metadata alter column region set default',
  },
  {
    what: 'a partitioned table',
    change: `create table exa_usage_log (id uuid, created_at timestamptz, primary key (id, created_at))
      partition by range (created_at)`,
    told: 'exa_usage_log is a partitioned table',
  },
  {
    what: 'another index of a name that is needed',
    change: `drop index idx_created_at;
      create index idx_microdollar_usage_created_at on microdollar_usage (cost)`,
    told: 'another index named idx_microdollar_usage_created_at',
  },
] as const;

/** A change of the seed's rows that only reading them shows. */
const IN_THE_ROWS = [
  {
    what: 'duplicates of a day',
    change: `drop index idx_microdollar_usage_daily_personal;
      insert into microdollar_usage_daily (kilo_user_id, usage_date)
      select 'user ' || n % 3, '2026-01-01' from generate_series(1, 9) as n`,
    told: '3 keys (kilo_user_id, usage_date) where (organization_id IS NULL) have more than one row',
  },
  {
    what: 'usage without an instant',
    change: `insert into microdollar_usage (kilo_user_id, cost, input_tokens, output_tokens,
        cache_write_tokens, cache_hit_tokens, created_at)
      select 'user 1', 1, 1, 1, 1, 1, null from generate_series(1, 4)`,
    told: 'microdollar_usage.created_at is null in 4 rows',
  },
  {
    what: 'users whose credit is not known',
    change: `alter table kilocode_users alter total_microdollars_acquired drop not null;
      update kilocode_users set total_microdollars_acquired = null where id in ('user 1', 'user 2')`,
    told: 'kilocode_users.total_microdollars_acquired is null in 2 rows',
  },
  {
    what: 'users who were made nobody knows when',
    change: `alter table kilocode_users alter created_at drop not null;
      update kilocode_users set created_at = null where id in ('user 1', 'user 2')`,
    told: 'kilocode_users.created_at is null in 2 rows',
  },
  {
    what: 'days whose archived amount is not known',
    change: `alter table microdollar_usage_daily add archived_cost_microdollars bigint;
      insert into microdollar_usage_daily (kilo_user_id, usage_date) values ('user 1', '2020-01-01')`,
    told: 'microdollar_usage_daily.archived_cost_microdollars is null in 1 rows',
  },
  {
    what: 'accounts of a time that no list can show',
    change: `update kilocode_users set created_at = 'infinity' where id in ('user 1', 'user 2')`,
    told: 'kilocode_users.created_at is infinite in 2 rows',
  },
  {
    what: "values in a column of the ledger's name and type",
    change: `alter table microdollar_usage add column position bigint;
      update microdollar_usage set position = 5 where cost = 1`,
    told: 'microdollar_usage.position has values of another program in ',
  },
  {
    what: "values in a payer's column of such a name",
    change: `alter table organizations add column settled_except bigint[] default '{7}'`,
    told: 'organizations.settled_except has values of another program in 2 rows',
  },
  {
    what: 'members that are no users',
    change: `insert into organization_memberships (organization_id, kilo_user_id, role)
      select id, 'nobody', 'member' from organizations`,
    told: '2 rows of organization_memberships name no row of kilocode_users',
  },
] as const;

describe('a database that cannot be adopted as it is', () => {
  it.each(IN_THE_CATALOG)('$what is refused, and nothing is changed', async ({ change, told }) => {
    await database.pool.query(change);
    const before = await describeDatabase(database.url);
    const failure = migrate(database.url);
    await expect(failure).rejects.toMatchObject({ code: 'internal' });
    await expect(failure).rejects.toThrow(told);
    const { problems } = await planMigration(database.url);
    expect(problems.join()).toContain(told);
    expect(await describeDatabase(database.url)).toBe(before);
  });

  it.each(IN_THE_ROWS)('$what are refused, counted, and nothing is changed', async (each) => {
    await database.pool.query(each.change);
    const before = await describeDatabase(database.url);
    const failure = migrate(database.url);
    await expect(failure).rejects.toMatchObject({ code: 'internal' });
    await expect(failure).rejects.toThrow(each.told);
    expect(await describeDatabase(database.url)).toBe(before);
  });

  it('is told everything that is in the way at once', async () => {
    await database.pool.query(`
      alter table microdollar_usage alter column cost type numeric;
      alter table organizations alter column name type varchar(9)`);
    const { problems } = await planMigration(database.url);
    expect(problems).toHaveLength(2);
  });

  it('is adopted once it is mended', async () => {
    await database.pool.query('alter table microdollar_usage alter column cost type integer');
    await expect(migrate(database.url)).rejects.toThrow('bigint');
    await database.pool.query('alter table microdollar_usage alter column cost type bigint');
    expect(await migrate(database.url)).toMatchObject({ isAdopted: true });
  });

  it('is left alone where the caller did not ask to adopt, with the remedy', async () => {
    const before = await describeDatabase(database.url);
    const failure = migrate(database.url, { adopt: false });
    await expect(failure).rejects.toMatchObject({ code: 'unavailable' });
    await expect(failure).rejects.toThrow('microdollar migrate --dry-run');
    expect(await describeDatabase(database.url)).toBe(before);
  });
});
