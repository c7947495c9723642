import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { drizzle } from 'drizzle-orm/node-postgres';
import { migrate as runMigrations } from 'drizzle-orm/node-postgres/migrator';
import pg from 'pg';
import { LedgerError } from '../errors.js';
import { repairForeignXids } from './migrate/foreignXids.js';
import { failureName, sqlStateOf } from './sqlstate.js';

export interface MigrateOptions {
  /** For one DDL lock; what waits behind the DDL waits no longer than this. Default 5,000 ms. */
  lockTimeoutMs?: number;
  /** For another process that is migrating. Default 600,000 ms. */
  waitTimeoutMs?: number;
  /** Tries after a lock timeout or deadlock. Default 10. */
  attempts?: number;
  log?: (message: string) => void;
}

const SCHEMA = 'public';
const TABLE = 'microdollar_migrations';
const OLDEST_SERVER = 150_000;
/** Of the session that migrates; any constant that nobody else uses. */
const ADVISORY_KEY = '7166471036291613811';
const CONTENDED = new Set(['55P03', '40P01']);

/**
 * Applies the migrations in /drizzle that are not applied yet, all in one transaction. Any number
 * of processes may call it at once: one applies, the others wait and find nothing to do. With
 * nothing to apply it takes no lock and needs no right but to read.
 *
 * @returns the names of the migrations that this call applied
 * @throws LedgerError `unavailable` (unreachable, standby, locks held too long) or `internal`
 *   (server too old, role not permitted)
 */
export async function migrate(
  url: string,
  options: MigrateOptions = {},
): Promise<{ applied: string[] }> {
  const folder = migrationsFolder();
  const client = await connect(url);
  try {
    await checkServer(client);
    const settings = {
      lock_timeout: `${options.lockTimeoutMs ?? 5_000}`,
      statement_timeout: '0',
      idle_in_transaction_session_timeout: '0',
      search_path: SCHEMA,
      client_min_messages: 'warning',
    };
    for (const [name, value] of Object.entries(settings)) {
      await client.query('select set_config($1, $2, false)', [name, value]);
    }
    let applied: string[] = [];
    if ((await findUnapplied(client, folder)).length > 0) {
      applied = await underLock(client, options, () => apply(client, folder, options));
    }
    await repairForeignXids(client, options.log);
    return { applied };
  } catch (error) {
    throw explain(error);
  } finally {
    await client.end().catch(() => {});
  }
}

/** /drizzle of the package: src/db and dist/db are equally deep. */
function migrationsFolder(): string {
  const folder = fileURLToPath(new URL('../../drizzle', import.meta.url));
  if (existsSync(path.join(folder, 'meta', '_journal.json'))) return folder;
  throw new LedgerError('internal', `migrations are missing: ${folder}`);
}

async function connect(url: string): Promise<pg.Client> {
  const client = new pg.Client({
    connectionString: url,
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

interface Migration {
  name: string;
  /** As in the journal, ms since the epoch; drizzle orders and recognizes migrations by it. */
  createdAtMs: number;
}

/** Migrations newer than the newest applied one: drizzle's own rule. */
async function findUnapplied(client: pg.Client, folder: string): Promise<Migration[]> {
  const journal = JSON.parse(readFileSync(path.join(folder, 'meta', '_journal.json'), 'utf8')) as {
    entries: { tag: string; when: number }[];
  };
  const known = await client.query('select to_regclass($1) is not null as known', [
    `${SCHEMA}.${TABLE}`,
  ]);
  let newest = Number.NEGATIVE_INFINITY;
  if (known.rows[0].known) {
    const result = await client.query(`select max(created_at) as newest from ${SCHEMA}.${TABLE}`);
    if (result.rows[0].newest !== null) newest = Number(result.rows[0].newest);
  }
  return journal.entries
    .map((entry) => ({ name: entry.tag, createdAtMs: entry.when }))
    .filter((migration) => migration.createdAtMs > newest);
}

/**
 * One migrating session at a time. By trying, not by waiting in the server: a statement that
 * waits holds a snapshot, and `create index concurrently` would wait for it.
 */
async function underLock<Result>(
  client: pg.Client,
  options: MigrateOptions,
  work: () => Promise<Result>,
): Promise<Result> {
  const deadline = Date.now() + (options.waitTimeoutMs ?? 600_000);
  for (let told = false; ; ) {
    const result = await client.query('select pg_try_advisory_lock($1::bigint) as locked', [
      ADVISORY_KEY,
    ]);
    if (result.rows[0].locked) break;
    if (Date.now() > deadline) {
      throw new LedgerError('unavailable', 'another process has been migrating for too long');
    }
    if (!told) options.log?.('waiting for another process that is migrating');
    told = true;
    await sleep(100);
  }
  try {
    return await work();
  } finally {
    await client.query('select pg_advisory_unlock($1::bigint)', [ADVISORY_KEY]).catch(() => {});
  }
}

async function apply(
  client: pg.Client,
  folder: string,
  options: MigrateOptions,
): Promise<string[]> {
  const attempts = options.attempts ?? 10;
  for (let attempt = 1; ; attempt++) {
    // Again under the lock: whoever had it may have done the work.
    const migrations = await findUnapplied(client, folder);
    if (migrations.length === 0) return [];
    try {
      await runMigrations(drizzle(client), {
        migrationsFolder: folder,
        migrationsTable: TABLE,
        migrationsSchema: SCHEMA,
      });
      const names = migrations.map((migration) => migration.name);
      options.log?.(`applied ${names.join(', ')}`);
      return names;
    } catch (error) {
      if (!CONTENDED.has(sqlStateOf(rootOf(error)) ?? '') || attempt >= attempts) throw error;
      options.log?.(`a table is in use (attempt ${attempt} of ${attempts}); trying again`);
      await sleep(Math.min(200 * attempt, 2_000));
    }
  }
}

/** The database's error below drizzle's, whose message quotes the whole statement. */
function rootOf(error: unknown): unknown {
  let root = error;
  while (root instanceof Error && root.cause !== undefined && sqlStateOf(root) === null) {
    root = root.cause;
  }
  return root;
}

function explain(error: unknown): LedgerError {
  if (error instanceof LedgerError) return error;
  const cause = rootOf(error);
  const state = sqlStateOf(cause);
  const reason = cause instanceof Error ? cause.message : String(cause);
  const details = { sqlstate: state };
  if (state === '42501') {
    const message =
      `migrating is not permitted for this role (${reason}): it must own the ledger's tables and ` +
      'have CREATE on the database; set MICRODOLLAR_MIGRATION_URL to the owner';
    return new LedgerError('internal', message, { details, cause });
  }
  if (state !== null && CONTENDED.has(state)) {
    const message = `migrating gave up: a table is locked by others for too long (${reason})`;
    return new LedgerError('unavailable', message, { details, cause });
  }
  if (state === null || state.startsWith('08') || state.startsWith('57P')) {
    const message = `migrating lost the database: ${reason}`;
    return new LedgerError('unavailable', message, { details, cause });
  }
  return new LedgerError('internal', `migrating failed: ${reason}`, { details, cause });
}
