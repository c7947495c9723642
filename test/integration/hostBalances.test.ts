import { randomUUID } from 'node:crypto';
import type pg from 'pg';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createLedger } from '../../src/ledger.js';
import { insertUsageAndMetadataWithBalanceUpdate } from '../../src/record/onExecutor.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';

const ORGANIZATION = '00000000-0000-4000-8000-0000000000bb';

let database: TestDatabase;

/** An Exa request of 50 microdollars that nobody has settled; none is free. */
beforeEach(async () => {
  database = await createTestDatabase();
  const { pool } = database;
  await pool.query('update ledger_settings set exa_free_allowance_microdollars = 0');
  await pool.query(`insert into kilocode_users (id) values ('u')`);
  await pool.query(`insert into organizations (id, name) values ($1, 'o')`, [ORGANIZATION]);
});

afterEach(() => database.drop());

/** Left unsettled: its payer's row is held while it is recorded. */
async function recordExaUnsettled(organizationId: string | null): Promise<void> {
  const ledger = await createLedger({ databaseUrl: database.url, backgroundFold: false });
  const holder = await database.pool.connect();
  await holder.query('begin');
  await holder.query('select from kilocode_users for update');
  await holder.query('select from organizations for update');
  await ledger.recordExaUsage({
    kilo_user_id: 'u',
    organization_id: organizationId,
    cost: 50,
    path: '/search',
  });
  await holder.query('rollback');
  holder.release();
  await ledger.close();
}

const write = (executor: pg.Pool | pg.PoolClient, organizationId: string | null) =>
  insertUsageAndMetadataWithBalanceUpdate(executor, {
    id: randomUUID(),
    kilo_user_id: 'u',
    organization_id: organizationId,
    cost: 7,
  });

describe.each([
  ['a user', null],
  ['an organization', ORGANIZATION],
])('the balance of %s that a host is answered contains unsettled Exa requests', (_, payer) => {
  it('in place on its pool', async () => {
    await write(database.pool, payer);
    await recordExaUnsettled(payer);
    expect(await write(database.pool, payer)).toMatchObject({ new_microdollars_used: 64 });
  });

  it('in its transaction', async () => {
    await recordExaUnsettled(payer);
    const client = await database.pool.connect();
    await client.query('begin');
    const answers = [await write(client, payer), await write(client, payer)];
    await client.query('rollback');
    client.release();
    expect(answers.map((answer) => answer.new_microdollars_used)).toEqual([57, 64]);
  });
});
