import { randomUUID } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { softDeleteUser } from '../../src/accounts/softDelete.js';
import { createUser } from '../../src/accounts/users.js';
import { isKnownCluster } from '../../src/db/migrate.js';
import { createLedger } from '../../src/ledger.js';
import type { Ledger } from '../../src/ledgerTypes.js';
import { runBackfill } from '../../src/rollup/backfill.js';
import { repairRollup } from '../../src/rollup/repair.js';
import { DAILY_ROLLUP } from '../../src/schema/rollups.js';
import { checkFolded, checkInvariants } from '../support/checkInvariants.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { openPool } from '../support/openPool.js';
import { runCommand } from './cliHarness.js';

const OPERATIONS = path.join(import.meta.dirname, '../../docs/operations.md');
const ROLE = `service_${randomUUID().slice(0, 8)}`;

let database: TestDatabase;
let serviceUrl: string;
let service: pg.Pool;
let ledger: Ledger;

/** The documented statements themselves, for this database and a role of the test's own. */
async function documentedGrants(): Promise<string> {
  const text = await readFile(OPERATIONS, 'utf8');
  const block = /### Least privilege[\s\S]*?```sql\n([\s\S]*?)```/.exec(text)?.[1];
  if (!block) throw new Error('docs/operations.md has no SQL under "Least privilege"');
  return block
    .replaceAll('microdollar_service', ROLE)
    .replaceAll('database ledger', `database ${database.name}`);
}

beforeAll(async () => {
  database = await createTestDatabase();
  await database.pool.query(await documentedGrants());
  const url = new URL(database.url);
  url.username = ROLE;
  url.password = '...';
  serviceUrl = url.href;
  service = openPool({ connectionString: serviceUrl, max: 2 });
  ledger = await createLedger({ databaseUrl: serviceUrl });
});

afterAll(async () => {
  await ledger?.close();
  await service?.end();
  await database.pool.query(`drop owned by ${ROLE}`);
  await database.pool.query(`drop role ${ROLE}`);
  await database.drop();
});

describe('the documented role of the service', () => {
  it('can do all that the service does', async () => {
    await createUser(service, { id: 'ada' });
    await ledger.recordUsage({
      kilo_user_id: 'ada',
      cost: 100,
      metadata: { http_user_agent: 'client/1.0', editor_name: 'vscode' },
    });
    await Promise.all(
      Array.from({ length: 50 }, (_, cost) => ledger.recordUsage({ kilo_user_id: 'ada', cost })),
    );
    await ledger.recordExaUsage({ kilo_user_id: 'ada', cost: 5, path: '/search' });
    await ledger.fold();
    await ledger.getAverageMonthlyUsageLast3Months({ kilo_user_id: 'ada' });
    await runBackfill({ url: serviceUrl, rollup: DAILY_ROLLUP });
    await repairRollup({ url: serviceUrl, rollup: DAILY_ROLLUP });
    await softDeleteUser(service, 'ada');
    await ledger.fold();
    expect(await checkInvariants(database.pool)).toEqual([]);
    expect(await checkFolded(database.pool)).toEqual([]);
  });

  it('knows its cluster, also where the server does not tell which one that is', async () => {
    expect(await isKnownCluster(service)).toBe(true);
    await database.pool.query('revoke execute on function pg_control_system() from public');
    const fresh = new pg.Client({ connectionString: serviceUrl });
    await fresh.connect();
    expect(await isKnownCluster(fresh)).toBe(true);
    await fresh.query(
      `insert into microdollar_usage (id, kilo_user_id, cost, position)
      values (gen_random_uuid(), 'ada', 0, microdollar_position())`,
    );
    await fresh.end();
  });

  it('starts beside an owner who migrates, without a right to migrate itself', async () => {
    const run = await runCommand(
      { DATABASE_URL: serviceUrl, MICRODOLLAR_MIGRATION_URL: database.url },
      '--json',
      'status',
    );
    expect(run.status).toBe(0);
  });

  it.each([
    'drop table microdollar_usage',
    'truncate microdollar_usage',
    'truncate kilocode_users',
    'alter table microdollar_usage alter column position set default 0',
    'alter table microdollar_usage disable trigger all',
    'alter table microdollar_usage_daily add column extra integer',
    'create table intruder (id integer)',
    'drop function microdollar_position()',
    `set session_replication_role = 'replica'`,
    'delete from microdollar_migrations',
  ])('cannot: %s', async (statement) => {
    await expect(service.query(statement)).rejects.toMatchObject({ code: '42501' });
  });
});
