import pg from 'pg';
import { PlacedPool } from './citus/placedPool.js';
import { placementOf } from './citus/placement.js';
import { applicationSuffix, schemaOf, splitUrl } from './ledgerSchema.js';

export interface PoolOptions {
  url: string;
  /** Connections. */
  size: number;
  /** Of these, open ones that are not closed when idle. Default 0. */
  kept?: number;
  /** The schema's name comes after it, where that is another than `public`. */
  applicationName: string;
  lockTimeoutMs: number;
  statementTimeoutMs: number;
  /** For a caller that finds no connection. Default 5,000 ms. */
  connectTimeoutMs?: number;
  /** Planner and other settings, `name=value`. */
  settings?: readonly string[];
  /**
   * Behind a pooler in transaction mode: no startup `options` (it refuses them), so timeouts
   * come from the role (`alter role ... set lock_timeout`), as docs/operations.md says.
   */
  viaPooler?: boolean;
  /** An idle connection broke: the server may not be the same when it is back. */
  onLost?: () => void;
}

/**
 * A pool whose connections carry their timeouts from the first byte: no statement is spent on
 * them, and none runs without.
 */
export function createPool(options: PoolOptions): pg.Pool {
  const placement = placementOf(options.url);
  const settings = [
    // By default Citus filters each read of the catalog.
    ...(placement === null ? [] : ['citus.override_table_visibility=off']),
    `lock_timeout=${options.lockTimeoutMs}`,
    `statement_timeout=${options.statementTimeoutMs}`,
    'idle_in_transaction_session_timeout=10000',
    'datestyle=ISO',
    // Every digit of a float, whatever the role or the database sets.
    'extra_float_digits=1',
    // Each statement its own snapshot: the counters rely on it, whatever the database's default.
    'default_transaction_isolation=read\\ committed',
    ...(options.settings ?? []),
  ];
  const { rest, options: asked } = splitUrl(options.url);
  const startup = [asked, ...settings.map((setting) => `-c ${setting}`)].join(' ').trim();
  const config: pg.PoolConfig = {
    // Behind a pooler the URL stays as it is: what it asks for there is for the pooler to refuse.
    connectionString: options.viaPooler ? options.url : rest,
    max: options.size,
    min: options.kept ?? 0,
    connectionTimeoutMillis: options.connectTimeoutMs ?? 5_000,
    idleTimeoutMillis: 60_000,
    keepAlive: true,
    application_name: options.applicationName + applicationSuffix(schemaOf(options.url)),
    // The server's own timeout cannot fire for a connection that has gone silent.
    query_timeout: options.statementTimeoutMs + 5_000,
    ...(options.viaPooler ? {} : { options: startup }),
  };
  const pool = placement === null ? new pg.Pool(config) : new PlacedPool(config, placement);
  // One that breaks between two statements of a transaction: the next statement tells.
  pool.on('connect', (client) => client.on('error', () => {}));
  // An idle connection that breaks is replaced at its next use; the error itself is no news.
  pool.on('error', () => options.onLost?.());
  return pool;
}

/**
 * Plans that are good on an empty table, a full one, and before any ANALYZE: generic, so that
 * planning is paid once a connection, and by index, so that a plan made while tables were
 * empty stays good.
 */
export const WRITE_SETTINGS = [
  'plan_cache_mode=force_generic_plan',
  'enable_seqscan=off',
  'enable_bitmapscan=off',
  'enable_mergejoin=off',
  'jit=off',
] as const;

/** As for writes: a plan made while tables were empty must not stay a scan. */
export const READ_SETTINGS = ['enable_seqscan=off', 'enable_bitmapscan=off', 'jit=off'] as const;

/**
 * Reports sum what may be a row or a hundred thousand, and a plan for all of them expects a row: it
 * would sort to group, and plan anew five times a connection. What is summed stays in memory.
 */
export const REPORT_SETTINGS = [
  ...READ_SETTINGS,
  'plan_cache_mode=force_generic_plan',
  'enable_sort=off',
  'work_mem=32MB',
] as const;
