import type { Statement } from '../../db/statement.js';

/** Raises the horizon to the end of a day; never lowers it. A row comes back when it changed. */
export function raiseHorizonStatement(horizon: string): Statement {
  return {
    name: 'microdollar_raise_archive_horizon',
    text: `/* microdollar.raiseArchiveHorizon */
update ledger_settings
set archive_horizon = $1::timestamptz,
  updated_at = now()
where id = 1
  and (archive_horizon is null or archive_horizon < $1::timestamptz)
returning id`,
    values: [horizon],
  };
}

/** As every writer reads it. */
export function readHorizonStatement(): Statement {
  return {
    name: 'microdollar_read_archive_horizon',
    text: `/* microdollar.readArchiveHorizon */
select to_char(archive_horizon at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') as horizon
from ledger_settings
where id = 1`,
    values: [],
  };
}

export interface OpenTransactionRow {
  /** Virtual transaction id, or the name of a prepared transaction. */
  transaction: string;
  pid: number | null;
  application: string | null;
  state: string | null;
  began_at: string | null;
}

/**
 * Transactions of this database that are open now. Each holds its virtual transaction id as a
 * lock from before its first snapshot until it ends. Not: maintenance, which inserts no usage.
 */
export function openTransactionsStatement(): Statement {
  return {
    name: 'microdollar_open_transactions',
    text: `/* microdollar.openTransactions */
select l.virtualxid as transaction, l.pid, a.application_name as application, a.state,
  to_char(a.xact_start at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') as began_at
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
}

/** Transactions that gave up their virtual id by PREPARE TRANSACTION, and may still commit. */
export function preparedTransactionsStatement(): Statement {
  return {
    name: 'microdollar_prepared_transactions',
    text: `/* microdollar.preparedTransactions */
select gid as transaction, null::integer as pid, 'prepared transaction' as application,
  null as state, to_char(prepared at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') as began_at
from pg_prepared_xacts
where database = current_database()`,
    values: [],
  };
}
