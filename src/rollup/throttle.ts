import type { Query } from '../db/query.js';

/** A share of the time is left to others while they are at work. */
const BUSY_REST_RATIO = 1.5;
const MAX_REST_MS = 5_000;
/** Bytes of WAL a replica may be behind before bulk work waits for it. */
const MAX_REPLICA_LAG_BYTES = 64 * 1024 * 1024;
/** Ungranted locks of others: somebody waits; do not add to it. */
const LOCK_WAIT_REST_MS = 500;

export interface Load {
  /** Other client sessions of this database that are running a statement. */
  activeSessions: number;
  lockWaits: number;
  replicaLagBytes: number;
}

export async function readLoad(query: Query): Promise<Load> {
  const [row] = await query<{ active: string; lock_waits: string; replica_lag: string }>({
    name: 'microdollar_read_load',
    text: `/* microdollar.readLoad */
select (
    select count(*) from pg_stat_activity
    where datname = current_database()
      and backend_type = 'client backend'
      and application_name <> 'microdollar rollup'
      and (state = 'active' or state_change > now() - interval '200 milliseconds')
  ) as active,
  (
    select count(*) from pg_locks as l
    join pg_database as d on d.oid = l.database
    where not l.granted
      and d.datname = current_database()
  ) as lock_waits,
  (
    select case when pg_is_in_recovery() then 0
      else coalesce(max(pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)), 0) end
    from pg_stat_replication
  ) as replica_lag`,
    values: [],
  });
  return {
    activeSessions: Number(row?.active ?? 0),
    lockWaits: Number(row?.lock_waits ?? 0),
    replicaLagBytes: Number(row?.replica_lag ?? 0),
  };
}

/** How long bulk work rests after a chunk, ms. None on an idle database. */
export function restAfter(chunkMs: number, load: Load): number {
  if (load.replicaLagBytes > MAX_REPLICA_LAG_BYTES) return MAX_REST_MS;
  const locksMs = load.lockWaits > 0 ? LOCK_WAIT_REST_MS : 0;
  const busyMs = load.activeSessions > 0 ? chunkMs * BUSY_REST_RATIO : 0;
  return Math.min(MAX_REST_MS, Math.max(locksMs, busyMs));
}
