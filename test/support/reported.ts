import type pg from 'pg';

/** Totals by name of what they are of, in microdollars; zeros are left out. */
export type Totals = Record<string, string>;

const DAY = `(created_at at time zone 'UTC')::date`;
const MONTH = `date_trunc('month', created_at at time zone 'UTC')::date`;
const KEY = `kilo_user_id || ' ' || coalesce(organization_id::text, '-')`;

/** What the views report, whatever version made them. */
const REPORTED = `
select 'day ' || ${KEY} || ' ' || usage_date as name, total_cost_microdollars::numeric as amount
from microdollar_usage_daily_exact
union all
select 'exa ' || ${KEY} || ' ' || month, total_cost_microdollars
from exa_monthly_usage_exact
union all
select 'charged ' || ${KEY} || ' ' || month, total_charged_microdollars
from exa_monthly_usage_exact
union all
select 'user ' || kilo_user_id, microdollars_used from kilocode_user_balances
union all
select 'organization ' || organization_id, microdollars_used from organization_balances`;

/** The same from counter rows alone: once everything is settled. */
const COUNTED = `
select 'day ' || ${KEY} || ' ' || usage_date as name, total_cost_microdollars::numeric as amount
from microdollar_usage_daily
union all
select 'exa ' || ${KEY} || ' ' || month, total_cost_microdollars
from exa_monthly_usage
union all
select 'charged ' || ${KEY} || ' ' || month, total_charged_microdollars
from exa_monthly_usage
union all
select 'user ' || id, microdollars_used from kilocode_users
union all
select 'organization ' || id, microdollars_used from organizations`;

/** The truth, from raw usage, archived cost and opening balances. */
const EXPECTED = `
with usage as (
  select kilo_user_id, organization_id, ${DAY} as day, cost::numeric as cost
  from microdollar_usage
  union all
  select kilo_user_id, organization_id, usage_date, archived_cost_microdollars
  from microdollar_usage_daily
), exa as (
  select l.kilo_user_id, l.organization_id, l.month, l.cost,
    greatest(0, l.cost - (
      select e.free_allowance_microdollars
      from exa_monthly_usage_exact as e
      where e.kilo_user_id = l.kilo_user_id
        and e.organization_id is not distinct from l.organization_id
        and e.month = l.month)) as charged
  from (
    select kilo_user_id, organization_id, ${MONTH} as month, sum(cost)::numeric as cost
    from exa_usage_log
    group by 1, 2, 3
  ) as l
), spent as (
  select kilo_user_id, organization_id, cost from usage
  union all
  select kilo_user_id, organization_id, charged from exa
)
select 'day ' || ${KEY} || ' ' || day as name, sum(cost) as amount from usage group by 1
union all
select 'exa ' || ${KEY} || ' ' || month, cost from exa
union all
select 'charged ' || ${KEY} || ' ' || month, charged from exa
union all
select 'user ' || u.id, u.opening_microdollars_used + coalesce((
  select sum(s.cost) from spent as s
  where s.kilo_user_id = u.id and s.organization_id is null), 0)
from kilocode_users as u
union all
select 'organization ' || o.id, o.opening_microdollars_used + coalesce((
  select sum(s.cost) from spent as s where s.organization_id = o.id), 0)
from organizations as o`;

async function read(database: pg.Pool | pg.Client, text: string): Promise<Totals> {
  const result = await database.query<{ name: string; amount: string }>(
    `select name, trim_scale(amount)::text as amount from (${text}) as totals
    where amount <> 0
    order by name`,
  );
  return Object.fromEntries(result.rows.map((row) => [row.name, row.amount]));
}

/** In plain SQL, of any version of the schema since the first. */
export const readReported = (database: pg.Pool | pg.Client) => read(database, REPORTED);
export const readCounted = (database: pg.Pool | pg.Client) => read(database, COUNTED);
export const readExpected = (database: pg.Pool | pg.Client) => read(database, EXPECTED);
