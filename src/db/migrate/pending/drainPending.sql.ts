/**
 * Statements that move rows of `microdollar_usage_pending` into their counter rows, by the rules of
 * the versions that wrote them: pending rows are deleted only under the row lock of their payer,
 * counter rows are created under their key's advisory lock (a trigger sees to it), and Exa's charge
 * follows from the month's total. One transaction runs them in this order; $1 and $2 are the
 * keys (xid, id) of a batch. Each locks before the next reads, so the last one's snapshot is younger
 * than every lock.
 */

/** Oldest first: the first request of a month brings its free allowance. */
export const READ_BATCH = (limit: number): string => `
select p.xid::text as xid, p.id::text as id
from microdollar_usage_pending as p
order by p.xid, p.id
limit ${limit}`;

const BATCH = `batch as materialized (
  select p.*
  from unnest($1::xid8[], $2::uuid[]) as t(xid, id)
  join microdollar_usage_pending as p on p.xid = t.xid and p.id = t.id
)`;

const isDailyOf = (row: string) => `d.kilo_user_id = ${row}.kilo_user_id
      and d.organization_id is not distinct from ${row}.organization_id
      and d.usage_date = ${row}.usage_date`;

const isMonthOf = (row: string) => `e.kilo_user_id = ${row}.kilo_user_id
      and e.organization_id is not distinct from ${row}.organization_id
      and e.month = ${row}.exa_month`;

const OPEN_DAYS = `
with ${BATCH}
insert into microdollar_usage_daily (kilo_user_id, organization_id, usage_date)
select distinct p.kilo_user_id, p.organization_id, p.usage_date
from batch as p
where p.usage_date is not null
  and not exists (select from microdollar_usage_daily as d where ${isDailyOf('p')})
order by 1, 2, 3
on conflict do nothing`;

const OPEN_MONTHS = `
with ${BATCH}
insert into exa_monthly_usage (kilo_user_id, organization_id, month, free_allowance_microdollars)
select distinct on (p.kilo_user_id, p.organization_id, p.exa_month)
  p.kilo_user_id, p.organization_id, p.exa_month, p.free_allowance_microdollars
from batch as p
where p.exa_month is not null
  and not exists (select from exa_monthly_usage as e where ${isMonthOf('p')})
order by p.kilo_user_id, p.organization_id, p.exa_month, p.xid, p.created_at
on conflict do nothing`;

const LOCK_USERS = `
with ${BATCH}
select u.id
from kilocode_users as u
where u.id in (select p.kilo_user_id from batch as p where p.organization_id is null)
order by u.id
for no key update of u`;

const LOCK_ORGANIZATIONS = `
with ${BATCH}
select o.id
from organizations as o
where o.id in (select p.organization_id from batch as p)
order by o.id
for no key update of o`;

const LOCK_DAYS = `
with ${BATCH}
select d.id
from microdollar_usage_daily as d
where exists (select from batch as p where ${isDailyOf('p')})
order by d.id
for no key update of d`;

const LOCK_MONTHS = `
with ${BATCH}
select e.id
from exa_monthly_usage as e
where exists (select from batch as p where ${isMonthOf('p')})
order by e.id
for no key update of e`;

/** By index, however many counter rows there are: a hash join would read them all. */
export const BY_INDEX = `
select set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true)`;

export const PREPARE: readonly string[] = [
  OPEN_DAYS,
  OPEN_MONTHS,
  LOCK_USERS,
  LOCK_ORGANIZATIONS,
  LOCK_DAYS,
  LOCK_MONTHS,
];

/**
 * CTEs in reading order:
 *   gone      the batch, deleted; all amounts derive from this RETURNING: another process's fold
 *             may have moved some of it before the payers were locked
 *   day, month   the same by counter row
 *   day_moved, month_moved   counter rows; `charged`: what the new total charges beyond the old
 *   amount    by payer, one row each
 * Answers how many counter rows there should be, and how many there were.
 */
export const MOVE = `
with gone as materialized (
  delete from microdollar_usage_pending as p
  using unnest($1::xid8[], $2::uuid[]) as t(xid, id)
  where p.xid = t.xid
    and p.id = t.id
  returning p.kilo_user_id, p.organization_id, p.usage_date, p.exa_month, p.cost_microdollars,
    p.request_count
), day as materialized (
  select g.kilo_user_id, g.organization_id, g.usage_date, sum(g.cost_microdollars) as cost
  from gone as g
  where g.usage_date is not null
  group by 1, 2, 3
), month as materialized (
  select g.kilo_user_id, g.organization_id, g.exa_month, sum(g.cost_microdollars) as cost,
    sum(g.request_count) as requests
  from gone as g
  where g.exa_month is not null
  group by 1, 2, 3
), day_moved as (
  update microdollar_usage_daily as d
  set total_cost_microdollars = d.total_cost_microdollars + p.cost, updated_at = now()
  from day as p
  where ${isDailyOf('p')}
  returning d.id
), month_moved as (
  update exa_monthly_usage as e
  set total_cost_microdollars = e.total_cost_microdollars + p.cost,
    total_charged_microdollars = greatest(0,
      e.total_cost_microdollars + p.cost - e.free_allowance_microdollars),
    request_count = e.request_count + p.requests,
    updated_at = now()
  from month as p
  join exa_monthly_usage as before
    on before.kilo_user_id = p.kilo_user_id
    and before.organization_id is not distinct from p.organization_id
    and before.month = p.exa_month
  where ${isMonthOf('p')}
    and before.id = e.id
  returning e.kilo_user_id, e.organization_id,
    e.total_charged_microdollars - before.total_charged_microdollars as charged
), amount as materialized (
  select case when a.organization_id is null then a.kilo_user_id end as kilo_user_id,
    a.organization_id, sum(a.amount) as amount
  from (
    select d.kilo_user_id, d.organization_id, d.cost as amount from day as d
    union all
    select m.kilo_user_id, m.organization_id, m.charged from month_moved as m
  ) as a
  group by 1, 2
), users_moved as (
  update kilocode_users as u
  set microdollars_used = u.microdollars_used + a.amount
  from amount as a
  where u.id = a.kilo_user_id
), organizations_moved as (
  update organizations as o
  set microdollars_used = o.microdollars_used + a.amount
  from amount as a
  where o.id = a.organization_id
)
select (select count(*) from day) + (select count(*) from month) as keys,
  (select count(*) from day_moved) + (select count(*) from month_moved) as moved`;
