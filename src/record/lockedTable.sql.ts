import type { Statement } from '../db/statement.js';

/**
 * Whether somebody locks a table of the write, or a partition of one, against writers, or waits to: then
 * a lock that was met is the table's (DDL, `vacuum full`), not a twin's. Takes no lock itself.
 */
export const IS_TABLE_LOCKED_STATEMENT: Statement = {
  name: 'microdollar_is_table_locked',
  text: `/* microdollar.isTableLocked */
select exists (
  select
  from pg_locks as l
  where l.locktype = 'relation'
    and (l.relation in ('microdollar_usage'::regclass, 'microdollar_usage_metadata'::regclass,
        'exa_usage_log'::regclass, 'kilocode_users'::regclass, 'organizations'::regclass,
        'ledger_settings'::regclass)
      or l.relation in (
        select i.inhrelid from pg_inherits as i where i.inhparent = 'microdollar_usage'::regclass))
    and l.database = (select d.oid from pg_database as d where d.datname = current_database())
    and l.mode in ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
) as is_locked`,
  values: [],
};
