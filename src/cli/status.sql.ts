import { instantText } from '../db/instant.sql.js';
import type { Statement } from '../db/statement.js';

/** Rows counted one by one; past that an estimate from the planner's statistics. */
export const COUNTED_ROWS = 10_000;
export type CountedTable =
  | 'kilocode_users'
  | 'organizations'
  | 'microdollar_usage'
  | 'microdollar_usage_daily';

/** Events of today counted one by one. */
export const COUNTED_EVENTS = 100_000;

export interface StatusRow {
  server_version: string;
  archive_horizon: string | null;
  today: string;
  users_counted: string;
  organizations_counted: string;
  usage_counted: string;
  daily_counted: string;
  events_today: string;
  last_event_at: string | null;
  keys_active: string;
  alerts_pending: string;
  alerts_dead: string;
  /** Connections of programs that serve, or have a ledger open; those of commands are not counted. */
  ledger_connections: string;
}

/**
 * Everything `status` shows but the pending log. No full count: each is bounded by a limit.
 *
 * @param suffix of names of the ledger's connections (db/ledgerSchema.ts)
 */
export function statusStatement(suffix: string): Statement {
  return {
    name: 'status',
    text: `
      /* status */
      select current_setting('server_version') as server_version,
        (select to_char(s.archive_horizon at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
          from ledger_settings as s where s.id = 1) as archive_horizon,
        (now() at time zone 'UTC')::date::text as today,
        ${bounded('kilocode_users', 'users')},
        ${bounded('organizations', 'organizations')},
        ${bounded('microdollar_usage', 'usage')},
        ${bounded('microdollar_usage_daily', 'daily')},
        (select count(*) from (
          select from microdollar_usage as m
          where m.created_at >= date_trunc('day', now() at time zone 'UTC') at time zone 'UTC'
          limit ${COUNTED_EVENTS}) as events) as events_today,
        (select ${instantText('m.created_at', 'MS')}
          from microdollar_usage as m
          order by m.created_at desc
          limit 1) as last_event_at,
        (select count(*) from api_keys as k where k.revoked_at is null) as keys_active,
        (select count(*) from usage_alert_deliveries as d
          where d.delivered_at is null and d.dead_at is null) as alerts_pending,
        (select count(*) from usage_alert_deliveries as d
          where d.dead_at is not null) as alerts_dead,
        (select count(*)
          from pg_stat_activity as a
          where a.datname = current_database()
            and a.application_name like 'microdollar %'
            and coalesce(substring(a.application_name from ' @.*$'), '') = $1
            and split_part(a.application_name, ' @', 1) <> all (
              array['microdollar command', 'microdollar rollup', 'microdollar migrate']))
          as ledger_connections`,
    values: [suffix],
  };
}

/** A count that is exact up to a limit. */
function bounded(table: CountedTable, name: string): string {
  return `
        (select count(*) from (
          select from ${table} limit ${COUNTED_ROWS}) as counted) as ${name}_counted`;
}

/**
 * The planner's estimate of a table's rows (row 0, `QUERY PLAN` as JSON): its statistics scaled
 * to the table's size now, so it holds between two ANALYZEs, and before the first.
 */
export function estimateStatement(table: CountedTable): Statement {
  return {
    name: `estimate_${table}`,
    text: `explain (format json) select from ${table}`,
    values: [],
  };
}
