import { toLedgerError } from '../db/sqlstate.js';
import type { Ledger, ReadMode } from '../ledgerTypes.js';
import { cached, withTimeLimit } from './cached.js';

export interface DatabaseState {
  isReachable: boolean;
  /** Why not. */
  reason: string | null;
  serverVersion: string | null;
  readMode: ReadMode | null;
  /** ISO 8601; events before it are refused. */
  archiveHorizon: string | null;
}

interface StateRow {
  is_standby: boolean;
  server_version: string;
  read_mode: ReadMode;
  archive_horizon: Date | null;
}

const STATE_SQL = `/* readiness */
  select pg_is_in_recovery() as is_standby,
    current_setting('server_version') as server_version,
    read_mode,
    archive_horizon
  from ledger_settings
  where id = 1`;
const TTL_MS = 1_000;

/**
 * Whether the primary takes writes, within the time limit. Asked at most once a second and one
 * query at a time, however many probes come, so that a database in trouble is not asked more.
 */
export function createDatabaseProbe(ledger: Ledger, limitMs: number): () => Promise<DatabaseState> {
  const query = cached(() => ledger.pool.query<StateRow>(STATE_SQL), TTL_MS);
  return async () => {
    try {
      const result = await withTimeLimit(query(), limitMs, `no answer within ${limitMs} ms`);
      const [row] = result.rows;
      if (row === undefined)
        return unreachable('the ledger is not set up; run microdollar migrate');
      if (row.is_standby) return unreachable('the primary is a read-only standby');
      return {
        isReachable: true,
        reason: null,
        serverVersion: row.server_version,
        readMode: row.read_mode,
        archiveHorizon: row.archive_horizon?.toISOString() ?? null,
      };
    } catch (error) {
      return unreachable(toLedgerError(error).message);
    }
  };
}

function unreachable(reason: string): DatabaseState {
  return {
    isReachable: false,
    reason,
    serverVersion: null,
    readMode: null,
    archiveHorizon: null,
  };
}
