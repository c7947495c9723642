import { sql } from 'drizzle-orm';
import { date, integer, pgView, text, uuid } from 'drizzle-orm/pg-core';
import { microdollarSum, microdollars } from './columns.js';
import {
  EXA_LOG,
  type Log,
  ORGANIZATION_SCOPE,
  PAYER_SCOPES,
  type PayerScope,
  UNSETTLED_USER,
  USAGE_LOG,
  USER_SCOPE,
  unsettledRows,
} from './unsettled.js';

/** Unsettled rows of every payer of a scope; a filter on the payer reaches its row first. */
function unsettledOfAll(log: Log, scope: PayerScope, columns: string): string {
  return `select ${scope.userOf('m', 'u')} as kilo_user_id,
      ${scope.organizationOf('u')} as organization_id, ${columns}
    from ${scope.payers} as u
    cross join lateral (
      ${unsettledRows(log, scope, `${UNSETTLED_USER}, m.created_at, m.cost`, 'u', 'view')}
    ) as m`;
}

const unsettled = (log: Log, columns: string): string =>
  PAYER_SCOPES.map((scope) => unsettledOfAll(log, scope, columns)).join('\n    union all\n    ');

/**
 * Reported daily totals (I2): counter rows plus unsettled rows of the log, in one statement, so in
 * one snapshot.
 */
export const microdollarUsageDailyExact = pgView('microdollar_usage_daily_exact', {
  kilo_user_id: text(),
  organization_id: uuid(),
  usage_date: date({ mode: 'string' }),
  total_cost_microdollars: microdollarSum(),
}).as(
  sql.raw(`
  select kilo_user_id, organization_id, usage_date,
    sum(total_cost_microdollars) as total_cost_microdollars
  from (
    select kilo_user_id, organization_id, usage_date, total_cost_microdollars
    from microdollar_usage_daily
    union all
    ${unsettled(USAGE_LOG, `(m.created_at at time zone 'UTC')::date, m.cost`)}
  ) as parts
  group by kilo_user_id, organization_id, usage_date`),
);

/** Exa's exact monthly totals; charged = greatest(0, total - free allowance). */
export const exaMonthlyUsageExact = pgView('exa_monthly_usage_exact', {
  kilo_user_id: text(),
  organization_id: uuid(),
  month: date({ mode: 'string' }),
  total_cost_microdollars: microdollarSum(),
  total_charged_microdollars: microdollarSum(),
  request_count: integer(),
  free_allowance_microdollars: microdollars(),
}).as(
  sql.raw(`
  select kilo_user_id, organization_id, month, total_cost_microdollars,
    greatest(0, total_cost_microdollars - free_allowance_microdollars)
      as total_charged_microdollars,
    request_count, free_allowance_microdollars
  from (
    select kilo_user_id, organization_id, month,
      sum(cost_microdollars) as total_cost_microdollars,
      sum(request_count)::integer as request_count,
      coalesce(max(free_allowance_microdollars), (
        select s.exa_free_allowance_microdollars from ledger_settings as s where s.id = 1
      )) as free_allowance_microdollars
    from (
      select kilo_user_id, organization_id, month, total_cost_microdollars as cost_microdollars,
        request_count, free_allowance_microdollars
      from exa_monthly_usage
      union all
      ${unsettled(
        EXA_LOG,
        `date_trunc('month', m.created_at at time zone 'UTC')::date, m.cost,
        (m.cost <> 0)::integer, null::bigint`,
      )}
    ) as parts
    group by kilo_user_id, organization_id, month
  ) as months`),
);

/** What Exa's unsettled rows of a payer add to what was charged. */
function unsettledExaCharge(scope: PayerScope): string {
  return `case when exists (
      ${unsettledRows(EXA_LOG, scope, 'm.cost', 'u', 'view')}
    ) then (
      select coalesce(sum(exact.total_charged_microdollars
        - coalesce(counter.total_charged_microdollars, 0)), 0)
      from exa_monthly_usage_exact as exact
      left join exa_monthly_usage as counter
        on counter.kilo_user_id = exact.kilo_user_id
        and counter.month = exact.month
        and ${scope.ownsCounter('counter', 'u')}
      where ${scope.ownsCounter('exact', 'u')}
    ) else 0 end`;
}

/** Reported balance of every payer of a scope (I5): counter, unsettled usage, unsettled Exa charge. */
function balances(scope: PayerScope, idName: string): string {
  return `
  select u.id as ${idName},
    u.microdollars_used + (
      select coalesce(sum(m.cost), 0)
      from (
        ${unsettledRows(USAGE_LOG, scope, 'm.cost', 'u', 'view')}
      ) as m
    ) + ${unsettledExaCharge(scope)} as microdollars_used
  from ${scope.payers} as u`;
}

/** Personal scope only: organization events are the organization's. */
export const kilocodeUserBalances = pgView('kilocode_user_balances', {
  kilo_user_id: text(),
  microdollars_used: microdollarSum(),
}).as(sql.raw(balances(USER_SCOPE, 'kilo_user_id')));

export const organizationBalances = pgView('organization_balances', {
  organization_id: uuid(),
  microdollars_used: microdollarSum(),
}).as(sql.raw(balances(ORGANIZATION_SCOPE, 'organization_id')));
