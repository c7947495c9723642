import type pg from 'pg';
import { toLedgerError } from '../db/sqlstate.js';
import { LedgerError } from '../errors.js';
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
function createProbe(
  ask: () => Promise<pg.QueryResult<StateRow>>,
  limitMs: number,
): () => Promise<DatabaseState> {
  const query = cached(ask, TTL_MS);
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

/** What of the service can be used: of an ordinary ledger all or nothing, of shards each by itself. */
export interface ServiceState {
  /** Of the database; of shards what there is in all, reachable while one of them is. */
  database: DatabaseState;
  /** Null: no shards. */
  shards: { name: string; database: DatabaseState }[] | null;
}

export function createServiceProbe(ledger: Ledger, limitMs: number): () => Promise<ServiceState> {
  const probes = new Map<string | null, () => Promise<DatabaseState>>();
  const probeOf = (name: string | null): (() => Promise<DatabaseState>) => {
    // Whichever it is by then: a shard that was away is another part once it is open.
    const query = () => partOf(ledger, name).pool.query<StateRow>(STATE_SQL);
    const probe = probes.get(name) ?? createProbe(query, limitMs);
    probes.set(name, probe);
    return probe;
  };
  return async () => {
    const states = await Promise.all(
      ledger.parts.map(async ({ name }) => ({ name, database: await probeOf(name)() })),
    );
    const [first] = states;
    if (first === undefined || first.name === null) {
      return { database: first?.database ?? unreachable('there is no database'), shards: null };
    }
    const shards = states.map(({ name, database }) => ({ name: name ?? '', database }));
    return { database: stateOfAll(ledger, shards), shards };
  };
}

function partOf({ parts }: Ledger, name: string | null): Ledger {
  const part = parts.find((each) => each.name === name);
  if (part === undefined) throw new LedgerError('internal', 'a part has gone');
  return part.ledger;
}

function stateOfAll(
  ledger: Ledger,
  shards: readonly { name: string; database: DatabaseState }[],
): DatabaseState {
  const reached = shards.flatMap(({ database }) => (database.isReachable ? [database] : []));
  const away = shards.filter(({ database }) => !database.isReachable);
  const horizons = reached.flatMap(({ archiveHorizon }) => archiveHorizon ?? []);
  return {
    isReachable: reached.length > 0,
    reason:
      away.length === 0
        ? null
        : away.map(({ name, database }) => `shard "${name}": ${database.reason}`).join('; '),
    serverVersion: reached[0]?.serverVersion ?? null,
    readMode: ledger.getReadMode()?.stored ?? null,
    archiveHorizon: horizons.sort().at(-1) ?? null,
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
