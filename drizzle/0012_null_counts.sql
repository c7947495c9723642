CREATE OR REPLACE VIEW "public"."microdollar_usage_daily_by_dimension_exact" AS (
  select kilo_user_id, organization_id, period_start, provider, model, api_key_id, project_id,
    sum(cost_microdollars) as cost_microdollars, sum(requests) as requests, sum(errors) as errors, sum(input_tokens) as input_tokens, sum(output_tokens) as output_tokens, sum(cache_hit_tokens) as cache_hit_tokens, sum(cache_write_tokens) as cache_write_tokens
  from (
    select kilo_user_id, organization_id, period_start, provider, model, api_key_id, project_id, cost_microdollars, requests, errors, input_tokens, output_tokens, cache_hit_tokens, cache_write_tokens
    from microdollar_usage_daily_by_dimension
    union all
    select m.kilo_user_id, m.organization_id, date_bin('1440 minutes', m.created_at, timestamptz '2000-01-01 00:00:00+00'), m.provider, m.model, m.api_key_id, m.project_id, m.cost, 1, coalesce(m.has_error, false)::integer, coalesce(m.input_tokens, 0), coalesce(m.output_tokens, 0), coalesce(m.cache_hit_tokens, 0), coalesce(m.cache_write_tokens, 0)
    from (select u.id, coalesce(k.settled_below, coalesce((select r.position from rollup_starts as r where r.rollup = 'microdollar_usage_daily_by_dimension'), 0)) as below, coalesce(k.settled_except, '{}') as except,
      array(select -e from unnest(coalesce(k.settled_except, '{}')) as e) as minus
    from kilocode_users as u
    left join rollup_marks as k
      on k.rollup = 'microdollar_usage_daily_by_dimension'
      and k.payer_scope = 'user'
      and k.payer_id = u.id::text) as u
    cross join lateral (
      select m.kilo_user_id, m.organization_id, m.created_at, m.provider, m.model, m.api_key_id, m.project_id, m.position, m.cost, m.has_error, m.input_tokens, m.output_tokens, m.cache_hit_tokens, m.cache_write_tokens
      from microdollar_usage as m
      where case when m.organization_id is null then hashtextextended(m.kilo_user_id, 0)
    else uuid_hash_extended(m.organization_id, 0) end = hashtextextended(u.id, 0)
        and m.kilo_user_id is not distinct from u.id
    and m.organization_id is null
        and m.position is not null
        and m.position >= u.below
      union all
      select m.kilo_user_id, m.organization_id, m.created_at, m.provider, m.model, m.api_key_id, m.project_id, m.position, m.cost, m.has_error, m.input_tokens, m.output_tokens, m.cache_hit_tokens, m.cache_write_tokens
      from microdollar_usage as m
      where case when m.organization_id is null then hashtextextended(m.kilo_user_id, 0)
    else uuid_hash_extended(m.organization_id, 0) end = hashtextextended(u.id, 0)
        and m.kilo_user_id is not distinct from u.id
    and m.organization_id is null
        and m.position is not null
        and m.position <= -u.below
      union all
      select m.kilo_user_id, m.organization_id, m.created_at, m.provider, m.model, m.api_key_id, m.project_id, m.position, m.cost, m.has_error, m.input_tokens, m.output_tokens, m.cache_hit_tokens, m.cache_write_tokens
      from microdollar_usage as m
      where case when m.organization_id is null then hashtextextended(m.kilo_user_id, 0)
    else uuid_hash_extended(m.organization_id, 0) end = hashtextextended(u.id, 0)
        and m.kilo_user_id is not distinct from u.id
    and m.organization_id is null
        and m.position is not null
        and u.except <> '{}'
        and m.position = any (u.except)
        and m.position < u.below
      union all
      select m.kilo_user_id, m.organization_id, m.created_at, m.provider, m.model, m.api_key_id, m.project_id, m.position, m.cost, m.has_error, m.input_tokens, m.output_tokens, m.cache_hit_tokens, m.cache_write_tokens
      from microdollar_usage as m
      where case when m.organization_id is null then hashtextextended(m.kilo_user_id, 0)
    else uuid_hash_extended(m.organization_id, 0) end = hashtextextended(u.id, 0)
        and m.kilo_user_id is not distinct from u.id
    and m.organization_id is null
        and m.position is not null
        and u.except <> '{}'
        and m.position = any (u.minus)
        and m.position > -u.below
    ) as m
    union all
    select m.kilo_user_id, m.organization_id, date_bin('1440 minutes', m.created_at, timestamptz '2000-01-01 00:00:00+00'), m.provider, m.model, m.api_key_id, m.project_id, m.cost, 1, coalesce(m.has_error, false)::integer, coalesce(m.input_tokens, 0), coalesce(m.output_tokens, 0), coalesce(m.cache_hit_tokens, 0), coalesce(m.cache_write_tokens, 0)
    from (select u.id, coalesce(k.settled_below, coalesce((select r.position from rollup_starts as r where r.rollup = 'microdollar_usage_daily_by_dimension'), 0)) as below, coalesce(k.settled_except, '{}') as except,
      array(select -e from unnest(coalesce(k.settled_except, '{}')) as e) as minus
    from organizations as u
    left join rollup_marks as k
      on k.rollup = 'microdollar_usage_daily_by_dimension'
      and k.payer_scope = 'organization'
      and k.payer_id = u.id::text) as u
    cross join lateral (
      select m.kilo_user_id, m.organization_id, m.created_at, m.provider, m.model, m.api_key_id, m.project_id, m.position, m.cost, m.has_error, m.input_tokens, m.output_tokens, m.cache_hit_tokens, m.cache_write_tokens
      from microdollar_usage as m
      where case when m.organization_id is null then hashtextextended(m.kilo_user_id, 0)
    else uuid_hash_extended(m.organization_id, 0) end = uuid_hash_extended(u.id, 0)
        and m.organization_id is not distinct from u.id
        and m.position is not null
        and m.position >= u.below
      union all
      select m.kilo_user_id, m.organization_id, m.created_at, m.provider, m.model, m.api_key_id, m.project_id, m.position, m.cost, m.has_error, m.input_tokens, m.output_tokens, m.cache_hit_tokens, m.cache_write_tokens
      from microdollar_usage as m
      where case when m.organization_id is null then hashtextextended(m.kilo_user_id, 0)
    else uuid_hash_extended(m.organization_id, 0) end = uuid_hash_extended(u.id, 0)
        and m.organization_id is not distinct from u.id
        and m.position is not null
        and m.position <= -u.below
      union all
      select m.kilo_user_id, m.organization_id, m.created_at, m.provider, m.model, m.api_key_id, m.project_id, m.position, m.cost, m.has_error, m.input_tokens, m.output_tokens, m.cache_hit_tokens, m.cache_write_tokens
      from microdollar_usage as m
      where case when m.organization_id is null then hashtextextended(m.kilo_user_id, 0)
    else uuid_hash_extended(m.organization_id, 0) end = uuid_hash_extended(u.id, 0)
        and m.organization_id is not distinct from u.id
        and m.position is not null
        and u.except <> '{}'
        and m.position = any (u.except)
        and m.position < u.below
      union all
      select m.kilo_user_id, m.organization_id, m.created_at, m.provider, m.model, m.api_key_id, m.project_id, m.position, m.cost, m.has_error, m.input_tokens, m.output_tokens, m.cache_hit_tokens, m.cache_write_tokens
      from microdollar_usage as m
      where case when m.organization_id is null then hashtextextended(m.kilo_user_id, 0)
    else uuid_hash_extended(m.organization_id, 0) end = uuid_hash_extended(u.id, 0)
        and m.organization_id is not distinct from u.id
        and m.position is not null
        and u.except <> '{}'
        and m.position = any (u.minus)
        and m.position > -u.below
    ) as m
  ) as parts
  group by 1, 2, 3, 4, 5, 6, 7);--> statement-breakpoint
CREATE OR REPLACE VIEW "public"."microdollar_usage_quarter_hourly_exact" AS (
  select kilo_user_id, organization_id, period_start, provider, model, api_key_id, project_id,
    sum(cost_microdollars) as cost_microdollars, sum(requests) as requests, sum(errors) as errors, sum(input_tokens) as input_tokens, sum(output_tokens) as output_tokens, sum(cache_hit_tokens) as cache_hit_tokens, sum(cache_write_tokens) as cache_write_tokens
  from (
    select kilo_user_id, organization_id, period_start, provider, model, api_key_id, project_id, cost_microdollars, requests, errors, input_tokens, output_tokens, cache_hit_tokens, cache_write_tokens
    from microdollar_usage_quarter_hourly
    union all
    select m.kilo_user_id, m.organization_id, date_bin('15 minutes', m.created_at, timestamptz '2000-01-01 00:00:00+00'), m.provider, m.model, m.api_key_id, m.project_id, m.cost, 1, coalesce(m.has_error, false)::integer, coalesce(m.input_tokens, 0), coalesce(m.output_tokens, 0), coalesce(m.cache_hit_tokens, 0), coalesce(m.cache_write_tokens, 0)
    from (select u.id, coalesce(k.settled_below, coalesce((select r.position from rollup_starts as r where r.rollup = 'microdollar_usage_quarter_hourly'), 0)) as below, coalesce(k.settled_except, '{}') as except,
      array(select -e from unnest(coalesce(k.settled_except, '{}')) as e) as minus
    from kilocode_users as u
    left join rollup_marks as k
      on k.rollup = 'microdollar_usage_quarter_hourly'
      and k.payer_scope = 'user'
      and k.payer_id = u.id::text) as u
    cross join lateral (
      select m.kilo_user_id, m.organization_id, m.created_at, m.provider, m.model, m.api_key_id, m.project_id, m.position, m.cost, m.has_error, m.input_tokens, m.output_tokens, m.cache_hit_tokens, m.cache_write_tokens
      from microdollar_usage as m
      where case when m.organization_id is null then hashtextextended(m.kilo_user_id, 0)
    else uuid_hash_extended(m.organization_id, 0) end = hashtextextended(u.id, 0)
        and m.kilo_user_id is not distinct from u.id
    and m.organization_id is null
        and m.position is not null
        and m.position >= u.below
      union all
      select m.kilo_user_id, m.organization_id, m.created_at, m.provider, m.model, m.api_key_id, m.project_id, m.position, m.cost, m.has_error, m.input_tokens, m.output_tokens, m.cache_hit_tokens, m.cache_write_tokens
      from microdollar_usage as m
      where case when m.organization_id is null then hashtextextended(m.kilo_user_id, 0)
    else uuid_hash_extended(m.organization_id, 0) end = hashtextextended(u.id, 0)
        and m.kilo_user_id is not distinct from u.id
    and m.organization_id is null
        and m.position is not null
        and m.position <= -u.below
      union all
      select m.kilo_user_id, m.organization_id, m.created_at, m.provider, m.model, m.api_key_id, m.project_id, m.position, m.cost, m.has_error, m.input_tokens, m.output_tokens, m.cache_hit_tokens, m.cache_write_tokens
      from microdollar_usage as m
      where case when m.organization_id is null then hashtextextended(m.kilo_user_id, 0)
    else uuid_hash_extended(m.organization_id, 0) end = hashtextextended(u.id, 0)
        and m.kilo_user_id is not distinct from u.id
    and m.organization_id is null
        and m.position is not null
        and u.except <> '{}'
        and m.position = any (u.except)
        and m.position < u.below
      union all
      select m.kilo_user_id, m.organization_id, m.created_at, m.provider, m.model, m.api_key_id, m.project_id, m.position, m.cost, m.has_error, m.input_tokens, m.output_tokens, m.cache_hit_tokens, m.cache_write_tokens
      from microdollar_usage as m
      where case when m.organization_id is null then hashtextextended(m.kilo_user_id, 0)
    else uuid_hash_extended(m.organization_id, 0) end = hashtextextended(u.id, 0)
        and m.kilo_user_id is not distinct from u.id
    and m.organization_id is null
        and m.position is not null
        and u.except <> '{}'
        and m.position = any (u.minus)
        and m.position > -u.below
    ) as m
    union all
    select m.kilo_user_id, m.organization_id, date_bin('15 minutes', m.created_at, timestamptz '2000-01-01 00:00:00+00'), m.provider, m.model, m.api_key_id, m.project_id, m.cost, 1, coalesce(m.has_error, false)::integer, coalesce(m.input_tokens, 0), coalesce(m.output_tokens, 0), coalesce(m.cache_hit_tokens, 0), coalesce(m.cache_write_tokens, 0)
    from (select u.id, coalesce(k.settled_below, coalesce((select r.position from rollup_starts as r where r.rollup = 'microdollar_usage_quarter_hourly'), 0)) as below, coalesce(k.settled_except, '{}') as except,
      array(select -e from unnest(coalesce(k.settled_except, '{}')) as e) as minus
    from organizations as u
    left join rollup_marks as k
      on k.rollup = 'microdollar_usage_quarter_hourly'
      and k.payer_scope = 'organization'
      and k.payer_id = u.id::text) as u
    cross join lateral (
      select m.kilo_user_id, m.organization_id, m.created_at, m.provider, m.model, m.api_key_id, m.project_id, m.position, m.cost, m.has_error, m.input_tokens, m.output_tokens, m.cache_hit_tokens, m.cache_write_tokens
      from microdollar_usage as m
      where case when m.organization_id is null then hashtextextended(m.kilo_user_id, 0)
    else uuid_hash_extended(m.organization_id, 0) end = uuid_hash_extended(u.id, 0)
        and m.organization_id is not distinct from u.id
        and m.position is not null
        and m.position >= u.below
      union all
      select m.kilo_user_id, m.organization_id, m.created_at, m.provider, m.model, m.api_key_id, m.project_id, m.position, m.cost, m.has_error, m.input_tokens, m.output_tokens, m.cache_hit_tokens, m.cache_write_tokens
      from microdollar_usage as m
      where case when m.organization_id is null then hashtextextended(m.kilo_user_id, 0)
    else uuid_hash_extended(m.organization_id, 0) end = uuid_hash_extended(u.id, 0)
        and m.organization_id is not distinct from u.id
        and m.position is not null
        and m.position <= -u.below
      union all
      select m.kilo_user_id, m.organization_id, m.created_at, m.provider, m.model, m.api_key_id, m.project_id, m.position, m.cost, m.has_error, m.input_tokens, m.output_tokens, m.cache_hit_tokens, m.cache_write_tokens
      from microdollar_usage as m
      where case when m.organization_id is null then hashtextextended(m.kilo_user_id, 0)
    else uuid_hash_extended(m.organization_id, 0) end = uuid_hash_extended(u.id, 0)
        and m.organization_id is not distinct from u.id
        and m.position is not null
        and u.except <> '{}'
        and m.position = any (u.except)
        and m.position < u.below
      union all
      select m.kilo_user_id, m.organization_id, m.created_at, m.provider, m.model, m.api_key_id, m.project_id, m.position, m.cost, m.has_error, m.input_tokens, m.output_tokens, m.cache_hit_tokens, m.cache_write_tokens
      from microdollar_usage as m
      where case when m.organization_id is null then hashtextextended(m.kilo_user_id, 0)
    else uuid_hash_extended(m.organization_id, 0) end = uuid_hash_extended(u.id, 0)
        and m.organization_id is not distinct from u.id
        and m.position is not null
        and u.except <> '{}'
        and m.position = any (u.minus)
        and m.position > -u.below
    ) as m
  ) as parts
  group by 1, 2, 3, 4, 5, 6, 7);