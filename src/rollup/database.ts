import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { citusPlaceOf } from '../db/citus/placedUrl.js';
import { createPool } from '../db/pool.js';
import type { Query } from '../db/query.js';
import { classifyFailure, toLedgerError } from '../db/sqlstate.js';
import type { Statement } from '../db/statement.js';
import { inTransaction } from '../db/transaction.js';
import { LedgerError } from '../errors.js';

/** No statement of a backfill, verification or repair may take longer. */
const CHUNK_TIMEOUT_MS = 1_900;
const LOCK_TIMEOUT_MS = 500;
/** A statement that stayed without an answer for as long past its time: the connection is silent. */
const SILENCE_MS = 5_000;

/** How long a job waits for a database that went away. */
const MAX_OUTAGE_MS = 10 * 60_000;

/** Custom plans, memory to hash a day, and one process: bulk work leaves the others to the writers. */
const SETTINGS = {
  work_mem: '64MB',
  jit: 'off',
  max_parallel_workers_per_gather: '0',
} as const;

/** Before a snapshot, which would not show rows of a partition that is dropped after it. */
export const LOCK_USAGE = 'lock table only microdollar_usage in access share mode';

export interface RollupDatabaseOptions {
  /** Behind a pooler in transaction mode: settings travel with each transaction. */
  viaPooler?: boolean | undefined;
}

export interface TransactionOptions {
  /** For each statement; default `CHUNK_TIMEOUT_MS`. */
  statementTimeoutMs?: number;
  /**
   * One snapshot for all statements; `read`: for reading only, as a replica allows too. Usage is locked
   * before it, against nothing but the dropping of a partition, whose rows that go elsewhere no snapshot of
   * before would show.
   */
  snapshot?: 'read' | 'write';
  /** Statements of it are read once a connection, and planned for the values of each. */
  plansForValues?: boolean;
}

export interface RollupDatabase {
  pool: pg.Pool;
  viaPooler: boolean;
  query: Query;
  /**
   * Statements of one transaction, on one connection. A connection that is lost between two of
   * them makes the next one fail, as one that is lost during a statement does.
   */
  transaction<T>(run: (query: Query) => Promise<T>, options?: TransactionOptions): Promise<T>;
  close(): Promise<void>;
}

/** Connections for bulk work: short statements, so that nobody has to wait for it. */
export function openRollupDatabase(
  url: string,
  connections: number,
  { viaPooler = false }: RollupDatabaseOptions = {},
): RollupDatabase {
  const pool = createPool({
    url,
    size: connections,
    applicationName: 'microdollar rollup',
    lockTimeoutMs: LOCK_TIMEOUT_MS,
    statementTimeoutMs: CHUNK_TIMEOUT_MS,
    settings: Object.entries(SETTINGS).map(([name, value]) => `${name}=${value}`),
    viaPooler,
  });

  // Citus' ledgers are not partitioned, and have a view in the table's place.
  const isLockable = citusPlaceOf(url) === null;

  /** Of statements by key a job sends one a period or payer: to plan each is most of what they cost. */
  function toQuery({ name, text, values, plannedOnce }: Statement, isNamed = plannedOnce) {
    return isNamed && !viaPooler ? { name, text, values } : { text, values };
  }

  function transaction<T>(
    run: (query: Query) => Promise<T>,
    options: TransactionOptions = {},
  ): Promise<T> {
    const timeout = {
      query_timeout: (options.statementTimeoutMs ?? CHUNK_TIMEOUT_MS) + SILENCE_MS,
    };
    const work = (client: pg.PoolClient) =>
      run(async <Row>(statement: Statement) => {
        const { rows } = await client.query({
          ...toQuery(statement, options.plansForValues),
          ...timeout,
        });
        return rows as Row[];
      });
    const lock = isLockable && options.snapshot !== undefined ? [LOCK_USAGE] : [];
    const begin = [...beginTexts(options, viaPooler), ...lock].join('; ');
    return inTransaction(pool, work, { begin });
  }

  return {
    pool,
    viaPooler,
    query: viaPooler
      ? (statement) => transaction((query) => query(statement))
      : async <Row>(statement: Statement) => (await pool.query(toQuery(statement))).rows as Row[],
    transaction,
    close: () => pool.end(),
  };
}

/** One round trip: `begin`, and what a pooler would not let the connection have from the start. */
function beginTexts(options: TransactionOptions, viaPooler: boolean): string[] {
  const { statementTimeoutMs, snapshot, plansForValues } = options;
  const settings: Record<string, string | number> = viaPooler
    ? { ...SETTINGS, lock_timeout: LOCK_TIMEOUT_MS, statement_timeout: CHUNK_TIMEOUT_MS }
    : {};
  if (statementTimeoutMs !== undefined) settings.statement_timeout = statementTimeoutMs;
  if (plansForValues && !viaPooler) settings.plan_cache_mode = 'force_custom_plan';
  const isolation = {
    none: 'begin isolation level read committed',
    read: 'begin isolation level repeatable read read only',
    write: 'begin isolation level repeatable read',
  }[snapshot ?? 'none'];
  const sets = Object.entries(settings).map(([name, value]) => `set local ${name} = '${value}'`);
  return [isolation, ...sets];
}

/**
 * Fails early, and clearly, where a job could not work.
 * @throws LedgerError `unavailable` for a standby, `internal` for missing migrations
 */
export async function requireWritable(query: Query): Promise<void> {
  const [row] = await query<{ is_standby: boolean; has_tables: boolean }>({
    name: 'microdollar_require_writable',
    text: `/* microdollar.requireWritable */
select pg_is_in_recovery() as is_standby, to_regclass('rollup_coverage') is not null as has_tables`,
    values: [],
  });
  if (row?.is_standby) {
    throw new LedgerError('unavailable', 'this server is a read-only replica; name the primary');
  }
  if (!row?.has_tables) {
    throw new LedgerError('internal', 'tables are missing; run `microdollar migrate` first');
  }
}

/**
 * Waits out a database that went away: tells so, tries again with back-off, gives up after 10 min,
 * or when the job has ended meanwhile. Nothing else is tried again.
 */
export async function whileAway<T>(
  run: () => Promise<T>,
  onAway: (reason: string) => void,
  signal?: AbortSignal,
): Promise<T> {
  let awaySinceMs: number | null = null;
  for (let attempt = 0; ; attempt++) {
    try {
      return await run();
    } catch (error) {
      if (error instanceof LedgerError || classifyFailure(error) !== 'retry') throw error;
      awaySinceMs ??= performance.now();
      const isTooLong = performance.now() - awaySinceMs > MAX_OUTAGE_MS;
      if (isTooLong || signal?.aborted) throw toLedgerError(error);
      onAway(toLedgerError(error).message);
      const delayMs = Math.min(5_000, 100 * 2 ** Math.min(attempt, 6));
      await pause(delayMs * (0.5 + Math.random() / 2), signal);
    }
  }
}

/** Rests, at most until the job ends. */
export async function pause(ms: number, signal?: AbortSignal): Promise<void> {
  await sleep(ms, undefined, signal ? { signal } : {}).catch(() => {});
}

/** For `whileAway`, in the words of a job's notices. */
export function tellWaiting(onNotice?: (message: string) => void): (reason: string) => void {
  return (reason) => onNotice?.(`waiting for the database: ${reason}`);
}
