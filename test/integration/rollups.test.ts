import { randomUUID } from 'node:crypto';
import pg from 'pg';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { createLedger } from '../../src/ledger.js';
import type { LedgerOptions } from '../../src/ledgerTypes.js';
import { DAILY_ROLLUP, EXA_ROLLUP, periodOf, withinPeriod } from '../../src/schema/rollups.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';

/** Around days, months, leap days, and changes of daylight saving time in two hemispheres. */
const INSTANTS = [
  '2024-02-28T23:59:59.999999Z',
  '2024-02-29T00:00:00Z',
  '2024-02-29T23:59:59.999999Z',
  '2025-03-30T01:00:00+01:00',
  '2025-11-02T05:59:59.999999Z',
  '2025-12-31T23:59:59.999999Z',
  '2026-01-01T00:00:00Z',
  '2026-01-01T05:30:00+05:30',
  '2026-01-01T00:00:00-05:00',
];

let database: TestDatabase;

beforeAll(async () => {
  database = await createTestDatabase();
  await database.pool.query(`insert into kilocode_users (id) values ('u')`);
});

afterAll(() => database.drop());

it.each(['UTC', 'America/New_York', 'Asia/Kolkata', 'Australia/Lord_Howe'])(
  'every way of writing puts an event into the declared period, in a session of %s',
  async (timeZone) => {
    await database.pool.query(`alter database ${database.name} set timezone = '${timeZone}'`);
    const ways: Partial<LedgerOptions>[] = [{ groupCommit: false }, { appendAlways: true }, {}];
    for (const way of ways) {
      const ledger = await createLedger({
        databaseUrl: database.url,
        backgroundFold: false,
        ...way,
      });
      try {
        for (const created_at of INSTANTS) {
          await ledger.recordUsage({ kilo_user_id: 'u', cost: 1, created_at });
        }
        await ledger.recordUsageBatch(
          INSTANTS.map((created_at) => ({ kilo_user_id: 'u', cost: 1, created_at })),
        );
        for (const created_at of INSTANTS) {
          await ledger.recordExaUsage({ kilo_user_id: 'u', cost: 1, path: '/search', created_at });
        }
        await ledger.fold();
      } finally {
        await ledger.close();
      }
    }
    for (const rollup of [DAILY_ROLLUP, EXA_ROLLUP]) {
      const { rows } = await inZone(timeZone, (client) =>
        client.query(
          `select s.period::text, s.cost::text as raw, c.total_cost_microdollars::text as reported
           from (
             select ${periodOf(rollup, 'created_at')} as period, sum(cost) as cost
             from ${rollup.source} group by 1
           ) as s
           full join ${rollup.name} as c on c.${rollup.periodColumn} = s.period
           order by 1`,
        ),
      );
      expect(rows.length).toBeGreaterThan(2);
      for (const row of rows) expect(row.reported).toBe(row.raw);
    }
  },
);

it('a period holds exactly the instants that are in it', async () => {
  for (const rollup of [DAILY_ROLLUP, EXA_ROLLUP]) {
    for (const timeZone of ['UTC', 'America/New_York', 'Asia/Kolkata']) {
      const { rows } = await inZone(timeZone, (client) =>
        client.query(
          `select at, ${withinPeriod(rollup, 'at', 'period')} as is_within
           from (
             select at, ${periodOf(rollup, 'at')} as period from unnest($1::timestamptz[]) as at
           ) as instants`,
          [INSTANTS],
        ),
      );
      expect(rows.map((row) => row.is_within)).toEqual(INSTANTS.map(() => true));
    }
  }
});

async function inZone<T>(timeZone: string, run: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({
    connectionString: database.url,
    application_name: `zone-${randomUUID()}`,
  });
  await client.connect();
  try {
    await client.query(`set timezone = '${timeZone}'`);
    return await run(client);
  } finally {
    await client.end();
  }
}
