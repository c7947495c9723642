import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { LedgerError } from '../../errors.js';
import { plainUrl } from '../citus/placement.js';
import { hasCitus, UNDISTRIBUTED } from '../citus/undistributed.js';
import { schemaOf } from '../ledgerSchema.js';
import { failureName, isLockConflict, isNotPermitted, sqlStateOf } from '../sqlstate.js';
import { setUnlimited } from '../transaction.js';

const OLDEST_SERVER = 150_000;
/** Of the session that migrates, one a schema; any constant that nobody else uses. */
const ADVISORY_KEY = `(7166471036291613811 # case current_setting('search_path')
  when '"public"' then 0 else hashtextextended(current_setting('search_path'), 0) end)`;

/** A connection to migrate over: to a primary of a known version, in its schema, without time limits. */
export async function connectToMigrate(url: string, lockTimeoutMs: number): Promise<pg.Client> {
  const client = await connect(url);
  try {
    await checkServer(client);
    const settings = {
      lock_timeout: `${lockTimeoutMs}`,
      statement_timeout: '0',
      idle_in_transaction_session_timeout: '0',
      search_path: `"${schemaOf(url)}"`,
      client_min_messages: 'warning',
    };
    if (await hasCitus(client)) Object.assign(settings, UNDISTRIBUTED);
    for (const [name, value] of Object.entries(settings)) {
      await client.query('select set_config($1, $2, false)', [name, value]);
    }
    await setUnlimited(client);
    return client;
  } catch (error) {
    await client.end().catch(() => {});
    throw error;
  }
}

async function connect(url: string): Promise<pg.Client> {
  const client = new pg.Client({
    connectionString: await plainUrl(url),
    connectionTimeoutMillis: 10_000,
    application_name: 'microdollar migrate',
    keepAlive: true,
  });
  client.on('error', () => {});
  try {
    await client.connect();
    return client;
  } catch (cause) {
    await client.end().catch(() => {});
    const state = sqlStateOf(cause);
    const reason = cause instanceof Error && cause.message ? cause.message : failureName(cause);
    throw new LedgerError('unavailable', `cannot connect to ${placeOf(url)}: ${reason}`, {
      details: { sqlstate: state },
      cause,
    });
  }
}

/** Host, port and database of a connection string; never its password. */
function placeOf(url: string): string {
  try {
    const { hostname, port, pathname } = new URL(url);
    return `PostgreSQL at ${hostname || 'localhost'}:${port || '5432'}${pathname}`;
  } catch {
    return 'PostgreSQL (the URL cannot be read)';
  }
}

async function checkServer(client: pg.Client): Promise<void> {
  const result = await client.query<{ version: number; name: string; standby: boolean }>(
    `select current_setting('server_version_num')::integer as version,
      current_setting('server_version') as name,
      pg_is_in_recovery() as standby`,
  );
  const server = result.rows[0];
  if (!server || server.version < OLDEST_SERVER) {
    throw new LedgerError(
      'internal',
      `PostgreSQL ${server?.name} is too old: 15 or later is needed`,
    );
  }
  if (server.standby) {
    throw new LedgerError('unavailable', 'connected to a standby: migrations need the primary');
  }
}

/**
 * One migrating session at a time. By trying, not by waiting in the server: a statement that
 * waits holds a snapshot, and `create index concurrently` would wait for it.
 */
export async function underLock<Result>(
  client: pg.Client,
  options: { waitTimeoutMs: number; log: (message: string) => void },
  work: () => Promise<Result>,
): Promise<Result> {
  const deadline = performance.now() + options.waitTimeoutMs;
  for (let told = false; ; ) {
    const result = await client.query(`select pg_try_advisory_lock(${ADVISORY_KEY}) as locked`);
    if (result.rows[0].locked) break;
    if (performance.now() > deadline) {
      throw new LedgerError('unavailable', 'another process has been migrating for too long');
    }
    if (!told) options.log('waiting for another process that is migrating');
    told = true;
    await sleep(100);
  }
  try {
    return await work();
  } finally {
    await client.query(`select pg_advisory_unlock(${ADVISORY_KEY})`).catch(() => {});
  }
}

/** The database's error below drizzle's, whose message quotes the whole statement. */
export function rootOf(error: unknown): unknown {
  let root = error;
  while (root instanceof Error && root.cause !== undefined && sqlStateOf(root) === null) {
    root = root.cause;
  }
  return root;
}

export function explainFailure(error: unknown): LedgerError {
  if (error instanceof LedgerError) return error;
  const cause = rootOf(error);
  const state = sqlStateOf(cause);
  const reason = cause instanceof Error ? cause.message : String(cause);
  const details = { sqlstate: state };
  if (isNotPermitted(cause)) {
    const message =
      `migrating is not permitted for this role (${reason}): it must own the ledger's tables and ` +
      'have CREATE on the database; set MICRODOLLAR_MIGRATION_URL to the owner';
    return new LedgerError('internal', message, { details, cause });
  }
  if (isLockConflict(cause)) {
    const message = `migrating gave up: a table is locked by others for too long (${reason})`;
    return new LedgerError('unavailable', message, { details, cause });
  }
  if (state === null || state.startsWith('08') || state.startsWith('57P')) {
    const message = `migrating lost the database: ${reason}`;
    return new LedgerError('unavailable', message, { details, cause });
  }
  return new LedgerError('internal', `migrating failed: ${reason}`, { details, cause });
}
