import { afterAll, beforeAll, expect, it } from 'vitest';
import { migrate } from '../../src/db/migrate.js';
import { createLedger } from '../../src/ledger.js';
import { checkFolded, checkInvariants } from '../support/checkInvariants.js';
import type { TestDatabase } from '../support/database.js';
import { createSeedDatabase } from './adoptHarness.js';
import { runCommand } from './cliHarness.js';
import { ADMIN_KEY, serveLedger } from './serverHarness.js';

/** A program that writes no counts where it knows none: adopted columns take null. */
let database: TestDatabase;
const COUNTS = ['input_tokens', 'output_tokens', 'cache_write_tokens', 'cache_hit_tokens'];

beforeAll(async () => {
  database = await createSeedDatabase();
  for (const name of [...COUNTS, 'has_error']) {
    await database.pool.query(`alter table microdollar_usage alter ${name} drop not null`);
    await database.pool.query(
      `update microdollar_usage set ${name} = null where kilo_user_id in ('user 2', 'user 3')`,
    );
  }
  await database.pool.query(
    'alter table organizations alter name drop not null; update organizations set name = null',
  );
});

afterAll(() => database.drop());

const run = (...argv: string[]) => runCommand({ DATABASE_URL: database.url }, ...argv);
const noCounts = { input_tokens: 0, output_tokens: 0, cache_hit_tokens: 0, errors: 0 };

/** Personal usage of user 3, by the statement and by the ledger. */
async function readTotals() {
  const ledger = await createLedger({ databaseUrl: database.url, backgroundFold: false });
  try {
    const { rows } = await database.pool.query(
      `select count(*)::integer as requests, sum(cost)::integer as cost_microdollars,
         min(created_at at time zone 'UTC')::date::text as from
       from microdollar_usage where kilo_user_id = 'user 3' and organization_id is null`,
    );
    const { from, ...truth } = rows[0];
    const until = new Date().toISOString().slice(0, 10);
    const report = await ledger.getUsageReport({
      kilo_user_id: 'user 3',
      from,
      until,
      grain: 'day',
    });
    return { truth, report };
  } finally {
    await ledger.close();
  }
}

it('rows without counts are reported with none, from raw usage and from rollups', async () => {
  await migrate(database.url);
  const raw = await readTotals();
  expect(raw.report).toMatchObject({
    source: { mode: 'raw' },
    total: { ...raw.truth, ...noCounts },
  });
  expect(await run('backfill')).toMatchObject({ status: 0 });
  expect(await run('verify')).toMatchObject({ status: 0 });
  expect(await run('repair', '--balances')).toMatchObject({ status: 0 });
  const built = await readTotals();
  expect(built.report).toMatchObject({ source: { mode: 'rollup' }, total: raw.report.total });
  expect(built.report.rows).toEqual(raw.report.rows);
  expect(await checkInvariants(database.pool)).toEqual([]);
});

it('organizations without a name are listed by their id', async () => {
  const { rows } = await database.pool.query('select id from organizations order by id');
  const listed = await run('org', 'list', '--json');
  expect(listed.status).toBe(0);
  const { organizations } = JSON.parse(listed.stdout);
  expect(organizations.map(({ name }: { name: string }) => name)).toEqual(rows.map(({ id }) => id));
  expect((await run('org', 'list')).stdout).toContain(rows[0].id);
});

it('those that another program inserts and that are counted at once are folded', async () => {
  expect(await run('migrate', '--count-foreign-rows', 'on')).toMatchObject({ status: 0 });
  await database.pool.query(
    `insert into microdollar_usage (kilo_user_id, cost, model)
     select 'user 3', 11, 'without counts' from generate_series(1, 3)`,
  );
  expect(await checkInvariants(database.pool)).toEqual([]);
  const before = await readTotals();
  expect(before.report.total).toMatchObject({ ...before.truth, ...noCounts });
  expect(await run('fold')).toMatchObject({ status: 0 });
  expect(await checkFolded(database.pool)).toEqual([]);
  expect((await readTotals()).report.total).toEqual(before.report.total);
});

it('are repeated by an event that says no counts: a duplicate', async () => {
  const { rows } = await database.pool.query(
    `select id, cost::integer, model from microdollar_usage
     where kilo_user_id = 'user 3' and organization_id is null and model <> 'without counts' limit 1`,
  );
  const [{ id, cost, model }] = rows;
  const ledger = await createLedger({ databaseUrl: database.url, backgroundFold: false });
  const event = { id, kilo_user_id: 'user 3', cost, model };
  const again = await ledger.recordUsage(event).finally(() => ledger.close());
  expect(again.status).toBe('duplicate');
});

it('are shown with none in lists and in the detail of a request', async () => {
  const ledger = await createLedger({ databaseUrl: database.url, backgroundFold: false });
  const service = await serveLedger(ledger);
  try {
    const read = async (procedure: string, input: object) => {
      const answer = await service.query(procedure, input, ADMIN_KEY);
      expect(answer.status).toBe(200);
      return answer.body.result.data;
    };
    const none = { input_tokens: 0, output_tokens: 0, cache_write_tokens: 0, cache_hit_tokens: 0 };
    const listed = await read('usage.requests', { kilo_user_id: 'user 3' });
    expect(listed.requests.length).toBeGreaterThan(3);
    for (const row of listed.requests) expect(row).toMatchObject({ ...none, has_error: false });
    const { id } = listed.requests[0];
    expect(await read('usage.request', { id })).toMatchObject({ ...none, has_error: false });
    const date = new Date().toISOString().slice(0, 10);
    const byModel = await read('usage.byModel', { kiloUserId: 'user 3', date });
    expect(byModel).toContainEqual(
      expect.objectContaining({ model: 'without counts', cost: 33, ...none }),
    );
  } finally {
    await service.stop();
  }
});
