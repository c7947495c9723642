CREATE OR REPLACE VIEW "public"."exa_monthly_usage_exact" AS (
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
      select u.id as kilo_user_id,
      null::uuid as organization_id, date_trunc('month', m.created_at at time zone 'UTC')::date, m.cost,
        (m.cost <> 0)::integer, null::bigint
    from kilocode_users as u
    cross join lateral (
      select m.kilo_user_id || '' as kilo_user_id, m.created_at, m.cost
  from exa_usage_log as m
  where case when m.organization_id is null then hashtextextended(m.kilo_user_id, 0)
    else uuid_hash_extended(m.organization_id, 0) end = hashtextextended(u.id, 0)
    and m.kilo_user_id is not distinct from u.id
    and m.organization_id is null
    and m.position is not null
    and m.position >= u.exa_settled_below
  union all
  select m.kilo_user_id || '' as kilo_user_id, m.created_at, m.cost
  from exa_usage_log as m
  where case when m.organization_id is null then hashtextextended(m.kilo_user_id, 0)
    else uuid_hash_extended(m.organization_id, 0) end = hashtextextended(u.id, 0)
    and m.kilo_user_id is not distinct from u.id
    and m.organization_id is null
    and m.position is not null
    and u.exa_settled_except <> '{}'
    and m.position = any (u.exa_settled_except)
    and m.position < u.exa_settled_below
    ) as m
    union all
    select m.kilo_user_id as kilo_user_id,
      u.id as organization_id, date_trunc('month', m.created_at at time zone 'UTC')::date, m.cost,
        (m.cost <> 0)::integer, null::bigint
    from organizations as u
    cross join lateral (
      select m.kilo_user_id || '' as kilo_user_id, m.created_at, m.cost
  from exa_usage_log as m
  where case when m.organization_id is null then hashtextextended(m.kilo_user_id, 0)
    else uuid_hash_extended(m.organization_id, 0) end = uuid_hash_extended(u.id, 0)
    and m.organization_id is not distinct from u.id
    and m.position is not null
    and m.position >= u.exa_settled_below
  union all
  select m.kilo_user_id || '' as kilo_user_id, m.created_at, m.cost
  from exa_usage_log as m
  where case when m.organization_id is null then hashtextextended(m.kilo_user_id, 0)
    else uuid_hash_extended(m.organization_id, 0) end = uuid_hash_extended(u.id, 0)
    and m.organization_id is not distinct from u.id
    and m.position is not null
    and u.exa_settled_except <> '{}'
    and m.position = any (u.exa_settled_except)
    and m.position < u.exa_settled_below
    ) as m
    ) as parts
    group by kilo_user_id, organization_id, month
  ) as months);--> statement-breakpoint
CREATE OR REPLACE VIEW "public"."microdollar_usage_daily_exact" AS (
  select kilo_user_id, organization_id, usage_date,
    sum(total_cost_microdollars) as total_cost_microdollars
  from (
    select kilo_user_id, organization_id, usage_date, total_cost_microdollars
    from microdollar_usage_daily
    union all
    select u.id as kilo_user_id,
      null::uuid as organization_id, (m.created_at at time zone 'UTC')::date, m.cost
    from kilocode_users as u
    cross join lateral (
      select m.kilo_user_id || '' as kilo_user_id, m.created_at, m.cost
  from microdollar_usage as m
  where case when m.organization_id is null then hashtextextended(m.kilo_user_id, 0)
    else uuid_hash_extended(m.organization_id, 0) end = hashtextextended(u.id, 0)
    and m.kilo_user_id is not distinct from u.id
    and m.organization_id is null
    and m.position is not null
    and m.position >= u.settled_below
  union all
  select m.kilo_user_id || '' as kilo_user_id, m.created_at, m.cost
  from microdollar_usage as m
  where case when m.organization_id is null then hashtextextended(m.kilo_user_id, 0)
    else uuid_hash_extended(m.organization_id, 0) end = hashtextextended(u.id, 0)
    and m.kilo_user_id is not distinct from u.id
    and m.organization_id is null
    and m.position is not null
    and u.settled_except <> '{}'
    and m.position = any (u.settled_except)
    and m.position < u.settled_below
    ) as m
    union all
    select m.kilo_user_id as kilo_user_id,
      u.id as organization_id, (m.created_at at time zone 'UTC')::date, m.cost
    from organizations as u
    cross join lateral (
      select m.kilo_user_id || '' as kilo_user_id, m.created_at, m.cost
  from microdollar_usage as m
  where case when m.organization_id is null then hashtextextended(m.kilo_user_id, 0)
    else uuid_hash_extended(m.organization_id, 0) end = uuid_hash_extended(u.id, 0)
    and m.organization_id is not distinct from u.id
    and m.position is not null
    and m.position >= u.settled_below
  union all
  select m.kilo_user_id || '' as kilo_user_id, m.created_at, m.cost
  from microdollar_usage as m
  where case when m.organization_id is null then hashtextextended(m.kilo_user_id, 0)
    else uuid_hash_extended(m.organization_id, 0) end = uuid_hash_extended(u.id, 0)
    and m.organization_id is not distinct from u.id
    and m.position is not null
    and u.settled_except <> '{}'
    and m.position = any (u.settled_except)
    and m.position < u.settled_below
    ) as m
  ) as parts
  group by kilo_user_id, organization_id, usage_date);