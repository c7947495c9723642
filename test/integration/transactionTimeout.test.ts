import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { dumpLedger } from '../../src/db/dump/dump.js';
import { migrate } from '../../src/db/migrate.js';
import { withArchiveSession, withReader } from '../../src/rollup/archive/session.js';
import { openRollupDatabase } from '../../src/rollup/database.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { openSessions, type Session, untilBlocked } from '../support/sessions.js';
import { runCommand } from './cliHarness.js';

/** What the operator of the database allows a transaction: less than each of these takes here. */
const LIMIT_MS = 400;

let database: TestDatabase;
let directory: string;
/** Without the limit: it was connected before. */
let holder: Session;
let sessions: Awaited<ReturnType<typeof openSessions>>;
beforeEach(async ({ skip }) => {
  database = await createTestDatabase();
  directory = await mkdtemp(join(tmpdir(), 'microdollar-limit-'));
  sessions = await openSessions(database.url, 1);
  [holder] = sessions.all as [Session];
  const { rows } = await database.pool.query(
    `select current_setting('transaction_timeout', true) is null as is_old`,
  );
  if (rows[0].is_old) skip();
  await database.pool.query(
    `alter database ${database.name} set transaction_timeout = ${LIMIT_MS}`,
  );
});
afterEach(async () => {
  await sessions[Symbol.asyncDispose]();
  await database.drop();
  await rm(directory, { recursive: true, force: true });
});

const pastTheLimit = () => sleep(2 * LIMIT_MS);

async function hold(table: string): Promise<void> {
  await holder.run('begin');
  await holder.run(`lock table ${table} in access exclusive mode`);
}

async function waitingForLock(): Promise<void> {
  const waiting = `select from pg_stat_activity where application_name like 'microdollar command%'
    and wait_event_type = 'Lock'`;
  await expect
    .poll(async () => (await database.pool.query(waiting)).rowCount, { timeout: 20_000 })
    .toBe(1);
}

it('does not end a migration', async () => {
  await hold('microdollar_migrations');
  const migrated = migrate(database.url, { lockTimeoutMs: 20_000 });
  await pastTheLimit();
  await holder.run('commit');
  expect(await migrated).toMatchObject({ applied: [] });
});

it('does not end a dump', async () => {
  await using dumps = await openSessions(database.url, 1);
  const [dumping] = dumps.all as [Session];
  await hold('api_keys');
  const dump = dumpLedger(dumping.client, { directory });
  await untilBlocked(database.pool, dumping, dump);
  await pastTheLimit();
  await holder.run('commit');
  expect((await dump).tables.map(({ name }) => name)).toContain('microdollar_usage');
});

it('does not end an export', async () => {
  await hold('microdollar_usage');
  const range = ['--from', '2026-03-01', '--until', '2026-03-01'];
  const exported = runCommand({ DATABASE_URL: database.url }, '--json', 'export', ...range);
  await waitingForLock();
  await pastTheLimit();
  await holder.run('commit');
  expect(JSON.parse((await exported).stdout)).toMatchObject({ rows: 0 });
});

it('does not end `top`', async () => {
  await hold('microdollar_usage');
  const top = runCommand({ DATABASE_URL: database.url }, '--json', 'top', '--until', '2026-03-01');
  await waitingForLock();
  await pastTheLimit();
  await holder.run('commit');
  expect((await top).stdout).toContain('"payer_count":0');
});

it('does not end the session of an archive, nor one that reads for it', async () => {
  const rollup = openRollupDatabase(database.url, 2);
  const sleepOn = (client: pg.PoolClient) =>
    client.query('select pg_sleep($1)', [(2 * LIMIT_MS) / 1_000]);
  await withArchiveSession(rollup, 0, sleepOn);
  await withReader(rollup, sleepOn);
  await rollup.close();
});
