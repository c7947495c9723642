import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openSessions, type Session } from '../support/sessions.js';
import { createLedgerFixture, type LedgerFixture } from './ledgerHarness.js';

/** I4: locks that are no row's: vacuum's, and the shared lock table's. */
let fixture: LedgerFixture;

beforeAll(async () => {
  fixture = await createLedgerFixture({ ownServer: true });
});
afterAll(() => fixture.close());

describe('vacuum', () => {
  /** Written on no path of usage, or never emptied. */
  const NOT_HOT =
    /^(api_keys|budgets$|credit_transactions|rollup_|ledger_settings|organization_memberships)/;

  it('takes back no pages of a table that writes need: it would lock them out', async () => {
    const tables = await fixture.rows<{ name: string; options: string[] | null }>(
      `select c.relname as name, c.reloptions as options
       from pg_class as c
       where c.relkind = 'r'
         and c.relnamespace = 'public'::regnamespace
         and exists (
           select from pg_attribute as a
           where a.attrelid = c.oid and a.attname in ('kilo_user_id', 'settled_below'))
       order by 1`,
    );
    expect(tables.length).toBeGreaterThan(6);
    const truncated = tables
      .filter(({ name }) => !NOT_HOT.test(name))
      .filter(({ options }) => !options?.includes('vacuum_truncate=off'));
    expect(truncated).toEqual([]);
  });

  it.each(['microdollar_usage', 'microdollar_usage_daily', 'exa_usage_log'])(
    'leaves the empty end of %s where it is',
    async (table) => {
      const user = await fixture.addUser();
      const extra = {
        microdollar_usage: ['id, cost', 'gen_random_uuid(), 0'],
        microdollar_usage_daily: ['usage_date', `date '2016-01-01' + n`],
        exa_usage_log: ['id, cost, path', `gen_random_uuid(), 0, '/search'`],
      }[table] as [string, string];
      await fixture.rows(
        `insert into ${table} (kilo_user_id, ${extra[0]})
         select $1, ${extra[1]} from generate_series(1, 3000) as n`,
        [user],
      );
      const size = `select pg_relation_size('${table}')::integer as size`;
      const [before] = await fixture.rows<{ size: number }>(size);
      expect(before?.size).toBeGreaterThan(100_000);
      await fixture.rows(`delete from ${table} where kilo_user_id = $1`, [user]);
      await fixture.rows(`vacuum ${table}`);
      expect(await fixture.rows(size)).toEqual([before]);
    },
  );
});

describe('a bulk insert of counter rows by another program', () => {
  it('takes few locks, and keeps nobody from writing while it is open', async () => {
    const users = await Promise.all(Array.from({ length: 10 }, () => fixture.addUser()));
    await using sessions = await openSessions(fixture.database.url, 1);
    const bulk = sessions.all[0] as Session;
    await bulk.run('begin');
    await bulk.run(
      `insert into microdollar_usage_daily (kilo_user_id, usage_date)
       select 'user ' || n % 500, date '2026-01-01' + n / 500
       from generate_series(0, 19999) as n`,
    );
    await bulk.run(
      `insert into exa_monthly_usage (kilo_user_id, month, free_allowance_microdollars)
       select 'user ' || n % 500, date '2016-01-01' + (n / 500) * interval '1 month', 0
       from generate_series(0, 19999) as n`,
    );
    await bulk.run(
      `insert into editor_name (editor_name) select 'e' || n from generate_series(1, 20000) as n`,
    );
    const [held] = await fixture.rows<{ locks: number }>(
      `select count(*)::integer as locks from pg_locks where locktype = 'advisory' and pid = $1`,
      [bulk.pid],
    );
    expect(held?.locks).toBeLessThanOrEqual(256);

    // The lock table has room for whoever comes: connections, new days, new months, new values.
    const ledger = await fixture.open({ groupCommit: false, poolSize: 10 });
    const answers = await Promise.all(
      users.flatMap((kilo_user_id, user) =>
        Array.from({ length: 30 }, (_, day) => {
          const created_at = new Date(Date.UTC(2026, 0, 1 + day)).toISOString();
          const usage = { kilo_user_id, cost: 1, created_at };
          return [
            ledger.recordUsage({ ...usage, metadata: { editor_name: `new ${user} ${day}` } }),
            ledger.recordExaUsage({ ...usage, path: '/search' }),
          ];
        }).flat(),
      ),
    );
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set(['recorded']));
    await bulk.run('rollback');
    await fixture.expectExact();
  });
});
