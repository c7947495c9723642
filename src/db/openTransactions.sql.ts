import type { Statement } from './statement.js';

export interface OpenTransactionRow {
  /** Virtual transaction id, or the name of a prepared transaction. */
  transaction: string;
  pid: number | null;
  application: string | null;
  state: string | null;
  began_at: string | null;
  /**
   * It has neither a snapshot nor a transaction id: it wrote nothing yet, and what it reads from now
   * on is the present. False where this role may not see that.
   */
  is_blank: boolean;
}

/**
 * Transactions of this database that are open now. Each holds its virtual transaction id as a
 * lock from before its first snapshot until it ends; any role may see those. Not: maintenance, which
 * writes no usage.
 */
export const OPEN_TRANSACTIONS: Statement = {
  name: 'microdollar_open_transactions',
  text: `/* microdollar.openTransactions */
select l.virtualxid as transaction, l.pid, a.application_name as application, a.state,
  to_char(a.xact_start at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') as began_at,
  coalesce(a.state is not null and a.backend_xid is null and a.backend_xmin is null, false)
    as is_blank
from pg_locks as l
left join pg_stat_activity as a on a.pid = l.pid
where l.locktype = 'virtualxid'
  and l.mode = 'ExclusiveLock'
  and l.granted
  and l.pid <> pg_backend_pid()
  and (a.datid is null
    or a.datid = (select oid from pg_database where datname = current_database()))
  and coalesce(a.backend_type, '') not in ('autovacuum worker', 'walsender')`,
  values: [],
};

/** Transactions that gave up their virtual id by PREPARE TRANSACTION, and may still commit. */
export const PREPARED_TRANSACTIONS: Statement = {
  name: 'microdollar_prepared_transactions',
  text: `/* microdollar.preparedTransactions */
select gid as transaction, null::integer as pid, 'prepared transaction' as application,
  null as state, to_char(prepared at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') as began_at,
  false as is_blank
from pg_prepared_xacts
where database = current_database()`,
  values: [],
};
