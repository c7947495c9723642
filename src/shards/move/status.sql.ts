import { LEDGER_NAMESPACE } from '../../db/ledgerSchema.js';
import type { Statement } from '../../db/statement.js';

export interface ShardStatusRow {
  users: string;
  organizations: string;
  /** As the server estimates them. */
  usage_rows: string;
  /** Tables and indexes of the ledger, bytes. */
  bytes: string;
  /** Events of the last minute, by their own time, a second. */
  events_per_second: number;
  /** Since the last look at every payer, seconds; null: there was none. */
  swept_seconds: number | null;
  /** Of the standby that is furthest behind, bytes; 0: there is none. */
  replica_lag_bytes: string;
}

/** Where views stand for tables (db/citus): those tables. */
const behindViews = (which: string) => `
        select d.refobjid
        from pg_rewrite as r
        join pg_depend as d on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid
        where d.refclassid = 'pg_class'::regclass and r.ev_class ${which}`;

/** How a shard is; reads no usage but that of the last minute. */
export const SHARD_STATUS: Statement = {
  name: 'shards_status',
  text: `/* shards.status */
select (select count(*) from kilocode_users as u where not u.is_elsewhere) as users,
  (select count(*) from organizations as o where not o.is_elsewhere) as organizations,
  (
    select coalesce(sum(greatest(c.reltuples, 0)), 0)::bigint
    from pg_class as c
    where c.oid = 'microdollar_usage'::regclass
      or c.oid in (
        select i.inhrelid from pg_inherits as i where i.inhparent = 'microdollar_usage'::regclass)
      or c.oid in (${behindViews(`= 'microdollar_usage'::regclass`)})
  ) as usage_rows,
  (
    select sum(pg_total_relation_size(c.oid))
    from pg_class as c
    where c.relkind in ('r', 'm')
      and (c.relnamespace = ${LEDGER_NAMESPACE}
        or c.oid in (${behindViews(`in (
          select v.oid from pg_class as v where v.relnamespace = ${LEDGER_NAMESPACE})`)}))
  ) as bytes,
  (
    select round(count(*) / 60.0, 1)::float8
    from microdollar_usage as m
    where m.created_at > now() - interval '1 minute'
      and m.created_at <= now()
  ) as events_per_second,
  (select extract(epoch from now() - s.swept_at)::float8 from ledger_settings as s) as swept_seconds,
  (
    select coalesce(max(pg_wal_lsn_diff(pg_current_wal_lsn(), r.replay_lsn)), 0)::bigint
    from pg_stat_replication as r
  ) as replica_lag_bytes`,
  values: [],
};
