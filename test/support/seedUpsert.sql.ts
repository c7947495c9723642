/**
 * The write that this project replaces, as the seed describes it: insert, upsert of the daily row
 * and balance update in one statement. Parameters: id, kilo_user_id, cost. For tests that must
 * see a detector of waiting fire. It also plays the foreign program that writes beside the ledger.
 */
export const SEED_UPSERT = `
with usage as (
  insert into microdollar_usage (id, kilo_user_id, cost, created_at)
  values ($1::uuid, $2::text, $3::bigint, coalesce($4::timestamptz, now()))
  returning kilo_user_id, cost, created_at
), daily as (
  insert into microdollar_usage_daily (kilo_user_id, usage_date, total_cost_microdollars)
  select kilo_user_id, (created_at at time zone 'UTC')::date, cost
  from usage
  where cost <> 0
  on conflict (kilo_user_id, usage_date) where organization_id is null
  do update set
    total_cost_microdollars = microdollar_usage_daily.total_cost_microdollars
      + excluded.total_cost_microdollars
)
update kilocode_users as u
set microdollars_used = u.microdollars_used + usage.cost
from usage
where u.id = usage.kilo_user_id
returning u.microdollars_used`;
