/** What the ledger stored and what it reports, read plainly, to be compared with a client's book. */

export const USAGE = `
select id, kilo_user_id, organization_id, cost,
  to_char(created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as created_at
from microdollar_usage`;

export const EXA_LOG = `
select id, kilo_user_id, organization_id, cost,
  to_char(created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as created_at
from exa_usage_log`;

export const DAILY = `
select kilo_user_id || '|' || coalesce(organization_id::text, '') || '|' || usage_date::text as key,
  total_cost_microdollars as total
from microdollar_usage_daily_exact`;

export const BALANCES = `
select kilo_user_id as key, microdollars_used as total
from kilocode_user_balances
union all
select organization_id::text, microdollars_used
from organization_balances`;
