import type pg from 'pg';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { createPool } from '../../src/db/pool.js';
import { queryOnPool, snapshotOnPool } from '../../src/db/query.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';

const STATEMENT = { name: 'stale_plan', text: 'select at from altered', values: [] };

let database: TestDatabase;
let pool: pg.Pool;
beforeAll(async () => {
  database = await createTestDatabase();
  await database.pool.query("create table altered as select '1'::text as at");
  pool = createPool({
    url: database.url,
    size: 1,
    applicationName: 'stale plan',
    lockTimeoutMs: 5_000,
    statementTimeoutMs: 5_000,
  });
});
afterAll(async () => {
  await pool.end();
  await database.drop();
});

it.each([
  ['a statement', 'integer', () => queryOnPool(pool, true)(STATEMENT)],
  ['a snapshot', 'bigint', () => snapshotOnPool(pool, true)((query) => query(STATEMENT))],
])('a plan from before a table was altered goes with its connection: %s', async (_n, type, run) => {
  expect(await run()).toHaveLength(1);
  await database.pool.query(`alter table altered alter at type ${type} using at::${type}`);
  await expect(run()).rejects.toMatchObject({ code: '0A000', routine: 'RevalidateCachedQuery' });
  expect(await run()).toHaveLength(1);
});
