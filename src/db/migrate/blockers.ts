import type pg from 'pg';
import type { TableLock } from './step.js';

/** A session that holds a lock a step needs. */
export interface Blocker {
  /** Null: a prepared transaction. */
  pid: number | null;
  applicationName: string;
  state: string;
  openSeconds: number;
  /** Label of its last query (a leading comment), else its first word; never its text. */
  query: string;
}

const EVERYTHING_BUT_READS = [
  'RowExclusiveLock',
  'ShareUpdateExclusiveLock',
  'ShareLock',
  'ShareRowExclusiveLock',
  'ExclusiveLock',
  'AccessExclusiveLock',
] as const;

/** PostgreSQL's table of conflicts, for the locks that steps take. */
const CONFLICTING: Readonly<Record<TableLock, readonly string[]>> = {
  none: [],
  'ACCESS SHARE': ['AccessExclusiveLock'],
  'SHARE UPDATE EXCLUSIVE': EVERYTHING_BUT_READS.slice(1),
  'SHARE ROW EXCLUSIVE': EVERYTHING_BUT_READS,
  'ACCESS EXCLUSIVE': ['AccessShareLock', 'RowShareLock', ...EVERYTHING_BUT_READS],
};

const HOLDERS = `
select l.pid, coalesce(a.application_name, '') as "applicationName",
  coalesce(a.state, 'prepared transaction') as state,
  coalesce(extract(epoch from clock_timestamp() - a.xact_start), 0)::integer as "openSeconds",
  coalesce(
    substring(a.query from '^\\s*/\\*\\s*(.*?)\\s*\\*/'),
    lower(substring(a.query from '^\\s*(\\w+)')),
    '') as query
from pg_locks as l
left join pg_stat_activity as a on a.pid = l.pid
where l.locktype = 'relation'
  and l.database = (select d.oid from pg_database as d where d.datname = current_database())
  and l.relation = any(
    array(select to_regclass(quote_ident(t)) from unnest($1::text[]) as t)::oid[])
  and l.granted
  and l.mode = any($2::text[])
  and l.pid is distinct from pg_backend_pid()
order by a.pid is not null, a.xact_start nulls last
limit 1`;

/** Who holds what a step needs, oldest transaction first; null when it is free by now. */
export async function findBlocker(
  client: pg.Client,
  tables: readonly string[],
  lock: TableLock,
): Promise<Blocker | null> {
  const result = await client.query<Blocker>(HOLDERS, [tables, CONFLICTING[lock]]);
  return result.rows[0] ?? null;
}

export function describeBlocker(blocker: Blocker): string {
  const name = blocker.applicationName === '' ? '' : ` (${blocker.applicationName})`;
  const query = blocker.query === '' ? '' : `, query: ${blocker.query}`;
  return (
    `process ${blocker.pid ?? '-'}${name}, ${blocker.state}, ` +
    `its transaction open for ${blocker.openSeconds} s${query}`
  );
}
