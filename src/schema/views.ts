import { sql } from 'drizzle-orm';
import { date, integer, pgView, text, uuid } from 'drizzle-orm/pg-core';
import { microdollars } from './columns.js';

/**
 * Reported daily totals (I2): counter rows plus pending deltas, in one statement, so in one
 * snapshot. Filters on user, organization and day reach both branches' indexes.
 */
export const microdollarUsageDailyExact = pgView('microdollar_usage_daily_exact', {
  kilo_user_id: text(),
  organization_id: uuid(),
  usage_date: date({ mode: 'string' }),
  total_cost_microdollars: microdollars(),
}).as(sql`
  select kilo_user_id, organization_id, usage_date,
    sum(total_cost_microdollars)::bigint as total_cost_microdollars
  from (
    select kilo_user_id, organization_id, usage_date, total_cost_microdollars
    from microdollar_usage_daily
    union all
    select kilo_user_id, organization_id, usage_date, cost_microdollars
    from microdollar_usage_pending
    where usage_date is not null
  ) as parts
  group by kilo_user_id, organization_id, usage_date`);

/** Exa's exact monthly totals; charged = greatest(0, total - free allowance). */
export const exaMonthlyUsageExact = pgView('exa_monthly_usage_exact', {
  kilo_user_id: text(),
  organization_id: uuid(),
  month: date({ mode: 'string' }),
  total_cost_microdollars: microdollars(),
  total_charged_microdollars: microdollars(),
  request_count: integer(),
  free_allowance_microdollars: microdollars(),
}).as(sql`
  select kilo_user_id, organization_id, month, total_cost_microdollars,
    greatest(0, total_cost_microdollars - free_allowance_microdollars)::bigint
      as total_charged_microdollars,
    request_count, free_allowance_microdollars
  from (
    select kilo_user_id, organization_id, month,
      sum(cost_microdollars)::bigint as total_cost_microdollars,
      sum(request_count)::integer as request_count,
      (array_agg(free_allowance_microdollars order by recorded_xid, created_at))[1]
        as free_allowance_microdollars
    from (
      select kilo_user_id, organization_id, month, total_cost_microdollars as cost_microdollars,
        request_count, free_allowance_microdollars, '0'::xid8 as recorded_xid, created_at
      from exa_monthly_usage
      union all
      select kilo_user_id, organization_id, exa_month, cost_microdollars,
        request_count, free_allowance_microdollars, xid, created_at
      from microdollar_usage_pending
      where exa_month is not null
    ) as parts
    group by kilo_user_id, organization_id, month
  ) as months`);

/**
 * Reported balance of users (I5): counter + pending usage + Exa charges not yet folded.
 * Personal scope only: organization events are the organization's.
 */
export const kilocodeUserBalances = pgView('kilocode_user_balances', {
  kilo_user_id: text(),
  microdollars_used: microdollars(),
}).as(sql`
  select u.id as kilo_user_id,
    (u.microdollars_used + pending.usage_microdollars + case when pending.has_exa then (
      select coalesce(sum(exact.total_charged_microdollars
        - coalesce(counter.total_charged_microdollars, 0)), 0)
      from exa_monthly_usage_exact as exact
      left join exa_monthly_usage as counter
        on counter.kilo_user_id = exact.kilo_user_id
        and counter.month = exact.month
        and counter.organization_id is null
      where exact.kilo_user_id = u.id
        and exact.organization_id is null
    ) else 0 end)::bigint as microdollars_used
  from kilocode_users as u
  cross join lateral (
    select coalesce(sum(p.cost_microdollars) filter (where p.usage_date is not null), 0)
        as usage_microdollars,
      coalesce(bool_or(p.exa_month is not null), false) as has_exa
    from microdollar_usage_pending as p
    where p.kilo_user_id = u.id
      and p.organization_id is null
  ) as pending`);

/** Reported balance of organizations (I5). */
export const organizationBalances = pgView('organization_balances', {
  organization_id: uuid(),
  microdollars_used: microdollars(),
}).as(sql`
  select o.id as organization_id,
    (o.microdollars_used + pending.usage_microdollars + case when pending.has_exa then (
      select coalesce(sum(exact.total_charged_microdollars
        - coalesce(counter.total_charged_microdollars, 0)), 0)
      from exa_monthly_usage_exact as exact
      left join exa_monthly_usage as counter
        on counter.kilo_user_id = exact.kilo_user_id
        and counter.month = exact.month
        and counter.organization_id = exact.organization_id
      where exact.organization_id = o.id
    ) else 0 end)::bigint as microdollars_used
  from organizations as o
  cross join lateral (
    select coalesce(sum(p.cost_microdollars) filter (where p.usage_date is not null), 0)
        as usage_microdollars,
      coalesce(bool_or(p.exa_month is not null), false) as has_exa
    from microdollar_usage_pending as p
    where p.organization_id = o.id
  ) as pending`);
