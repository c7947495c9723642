import type pg from 'pg';
import { createPool } from '../db/pool.js';
import { type Query, queryOnPool } from '../db/query.js';
import { classifyFailure, toLedgerError } from '../db/sqlstate.js';
import type { Statement } from '../db/statement.js';
import { LedgerError } from '../errors.js';

/** No transaction of a backfill, verification or repair may take longer. */
export const CHUNK_TIMEOUT_MS = 1_900;
const LOCK_TIMEOUT_MS = 500;
/** How long a job waits for a database that went away. */
const MAX_OUTAGE_MS = 10 * 60_000;

export interface RollupDatabase {
  pool: pg.Pool;
  query: Query;
  /** Statements of one transaction, on one connection. Default time for each: `CHUNK_TIMEOUT_MS`. */
  transaction<T>(
    run: (query: Query) => Promise<T>,
    options?: { statementTimeoutMs: number },
  ): Promise<T>;
  close(): Promise<void>;
}

/** Connections for bulk work: short statements, custom plans, memory to hash a day. */
export function openRollupDatabase(url: string, connections: number): RollupDatabase {
  const pool = createPool({
    url,
    size: connections,
    applicationName: 'microdollar rollup',
    lockTimeoutMs: LOCK_TIMEOUT_MS,
    statementTimeoutMs: CHUNK_TIMEOUT_MS,
    settings: ['work_mem=64MB', 'jit=off', 'max_parallel_workers_per_gather=0'],
  });
  return {
    pool,
    query: queryOnPool(pool, false),
    async transaction(run, options) {
      const client = await pool.connect();
      let broken: Error | undefined;
      try {
        await client.query('begin');
        if (options) {
          await client.query(`set local statement_timeout = ${options.statementTimeoutMs}`);
        }
        const timeout = options ? { query_timeout: options.statementTimeoutMs + 5_000 } : {};
        const result = await run(async <Row>({ text, values }: Statement) => {
          const { rows } = await client.query({ text, values, ...timeout });
          return rows as Row[];
        });
        await client.query('commit');
        return result;
      } catch (error) {
        await client.query('rollback').catch((failure: Error) => {
          broken = failure;
        });
        throw error;
      } finally {
        client.release(broken);
      }
    },
    close: () => pool.end(),
  };
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

/** Waits out a database that went away: tells so, tries again with back-off, gives up after 10 min. */
export async function whileAway<T>(
  run: () => Promise<T>,
  onAway: (reason: string) => void,
): Promise<T> {
  let awaySinceMs: number | null = null;
  for (let attempt = 0; ; attempt++) {
    try {
      return await run();
    } catch (error) {
      if (error instanceof LedgerError || classifyFailure(error) !== 'retry') throw error;
      awaySinceMs ??= Date.now();
      if (Date.now() - awaySinceMs > MAX_OUTAGE_MS) throw toLedgerError(error);
      onAway(toLedgerError(error).message);
      const delayMs = Math.min(5_000, 100 * 2 ** Math.min(attempt, 6));
      await new Promise((resolve) => setTimeout(resolve, delayMs * (0.5 + Math.random() / 2)));
    }
  }
}
