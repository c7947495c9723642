import { afterAll, beforeAll, expect, it } from 'vitest';
import { queryOnPool } from '../../src/db/query.js';
import { isDatabaseAway, toLedgerError } from '../../src/db/sqlstate.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { openPool } from '../support/openPool.js';

let database: TestDatabase;

beforeAll(async () => {
  database = await createTestDatabase();
});
afterAll(() => database.drop());

it('a pool of which all is in use is no lost database', async () => {
  const pool = openPool({ connectionString: database.url, max: 1 });
  const taken = await pool.connect();
  // From here on: a busy machine may take longer to connect.
  pool.options.connectionTimeoutMillis = 50;
  const failure = await queryOnPool(
    pool,
    false,
  )({ name: 'x', text: 'select', values: [] }).catch((error: unknown) => error);
  taken.release();
  await pool.end();
  expect(isDatabaseAway(failure)).toBe(false);
  expect(isDatabaseAway(toLedgerError(failure))).toBe(false);
  expect(toLedgerError(failure)).toMatchObject({
    code: 'unavailable',
    message: 'every connection of this process for it is in use; try again',
  });
});
