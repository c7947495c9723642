CREATE TABLE "microdollar_usage_daily_by_user" (
	"id" uuid PRIMARY KEY NOT NULL,
	"kilo_user_id" text NOT NULL,
	"organization_id" uuid,
	"period_start" timestamp with time zone NOT NULL,
	"cost_microdollars" numeric NOT NULL,
	"requests" numeric NOT NULL,
	"errors" numeric NOT NULL,
	"input_tokens" numeric NOT NULL,
	"output_tokens" numeric NOT NULL,
	"cache_hit_tokens" numeric NOT NULL,
	"cache_write_tokens" numeric NOT NULL,
	"entry" text GENERATED ALWAYS AS (trunc(extract(epoch from period_start at time zone 'UTC'))::text || ',' || cost_microdollars::text || ',' || requests::text || ',' || errors::text || ',' || input_tokens::text || ',' || output_tokens::text || ',' || cache_hit_tokens::text || ',' || cache_write_tokens::text) STORED
);
--> statement-breakpoint
ALTER TABLE "microdollar_usage_daily_by_dimension" ADD COLUMN "entry" text GENERATED ALWAYS AS (trunc(extract(epoch from period_start at time zone 'UTC'))::text || ',' || cost_microdollars::text || ',' || requests::text || ',' || errors::text || ',' || input_tokens::text || ',' || output_tokens::text || ',' || cache_hit_tokens::text || ',' || cache_write_tokens::text) STORED;--> statement-breakpoint
ALTER TABLE "microdollar_usage_quarter_hourly" ADD COLUMN "entry" text GENERATED ALWAYS AS (trunc(extract(epoch from period_start at time zone 'UTC'))::text || ',' || cost_microdollars::text || ',' || requests::text || ',' || errors::text || ',' || input_tokens::text || ',' || output_tokens::text || ',' || cache_hit_tokens::text || ',' || cache_write_tokens::text) STORED;--> statement-breakpoint
CREATE INDEX "idx_microdollar_usage_daily_by_user_personal" ON "microdollar_usage_daily_by_user" USING btree ("kilo_user_id","period_start") WHERE "microdollar_usage_daily_by_user"."organization_id" is null;--> statement-breakpoint
CREATE INDEX "idx_microdollar_usage_daily_by_user_organization" ON "microdollar_usage_daily_by_user" USING btree ("organization_id","period_start") WHERE "microdollar_usage_daily_by_user"."organization_id" is not null;--> statement-breakpoint
CREATE INDEX "idx_microdollar_usage_daily_by_user_period_start" ON "microdollar_usage_daily_by_user" USING btree ("period_start");--> statement-breakpoint
CREATE VIEW "public"."microdollar_usage_daily_by_user_exact" AS (
  select kilo_user_id, organization_id, period_start,
    sum(cost_microdollars) as cost_microdollars, sum(requests) as requests, sum(errors) as errors, sum(input_tokens) as input_tokens, sum(output_tokens) as output_tokens, sum(cache_hit_tokens) as cache_hit_tokens, sum(cache_write_tokens) as cache_write_tokens
  from (
    select kilo_user_id, organization_id, period_start, cost_microdollars, requests, errors, input_tokens, output_tokens, cache_hit_tokens, cache_write_tokens
    from microdollar_usage_daily_by_user
    union all
    select m.kilo_user_id, m.organization_id, date_bin('1440 minutes', m.created_at, timestamptz '2000-01-01 00:00:00+00'), m.cost, 1, coalesce(m.has_error, false)::integer, coalesce(m.input_tokens, 0), coalesce(m.output_tokens, 0), coalesce(m.cache_hit_tokens, 0), coalesce(m.cache_write_tokens, 0)
    from (select u.id, coalesce(k.settled_below, coalesce((select r.position from rollup_starts as r where r.rollup = 'microdollar_usage_daily_by_user'), 0)) as below, coalesce(k.settled_except, '{}') as except,
      array(select -e from unnest(coalesce(k.settled_except, '{}')) as e) as minus
    from kilocode_users as u
    left join rollup_marks as k
      on k.rollup = 'microdollar_usage_daily_by_user'
      and k.payer_scope = 'user'
      and k.payer_id = u.id::text) as u
    cross join lateral (
      select m.kilo_user_id, m.organization_id, m.created_at, m.position, m.cost, m.has_error, m.input_tokens, m.output_tokens, m.cache_hit_tokens, m.cache_write_tokens
      from microdollar_usage as m
      where case when m.organization_id is null then hashtextextended(m.kilo_user_id, 0)
    else uuid_hash_extended(m.organization_id, 0) end = hashtextextended(u.id, 0)
        and m.kilo_user_id is not distinct from u.id
    and m.organization_id is null
        and m.position is not null
        and m.position >= u.below
      union all
      select m.kilo_user_id, m.organization_id, m.created_at, m.position, m.cost, m.has_error, m.input_tokens, m.output_tokens, m.cache_hit_tokens, m.cache_write_tokens
      from microdollar_usage as m
      where case when m.organization_id is null then hashtextextended(m.kilo_user_id, 0)
    else uuid_hash_extended(m.organization_id, 0) end = hashtextextended(u.id, 0)
        and m.kilo_user_id is not distinct from u.id
    and m.organization_id is null
        and m.position is not null
        and m.position <= -u.below
      union all
      select m.kilo_user_id, m.organization_id, m.created_at, m.position, m.cost, m.has_error, m.input_tokens, m.output_tokens, m.cache_hit_tokens, m.cache_write_tokens
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
      select m.kilo_user_id, m.organization_id, m.created_at, m.position, m.cost, m.has_error, m.input_tokens, m.output_tokens, m.cache_hit_tokens, m.cache_write_tokens
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
    select m.kilo_user_id, m.organization_id, date_bin('1440 minutes', m.created_at, timestamptz '2000-01-01 00:00:00+00'), m.cost, 1, coalesce(m.has_error, false)::integer, coalesce(m.input_tokens, 0), coalesce(m.output_tokens, 0), coalesce(m.cache_hit_tokens, 0), coalesce(m.cache_write_tokens, 0)
    from (select u.id, coalesce(k.settled_below, coalesce((select r.position from rollup_starts as r where r.rollup = 'microdollar_usage_daily_by_user'), 0)) as below, coalesce(k.settled_except, '{}') as except,
      array(select -e from unnest(coalesce(k.settled_except, '{}')) as e) as minus
    from organizations as u
    left join rollup_marks as k
      on k.rollup = 'microdollar_usage_daily_by_user'
      and k.payer_scope = 'organization'
      and k.payer_id = u.id::text) as u
    cross join lateral (
      select m.kilo_user_id, m.organization_id, m.created_at, m.position, m.cost, m.has_error, m.input_tokens, m.output_tokens, m.cache_hit_tokens, m.cache_write_tokens
      from microdollar_usage as m
      where case when m.organization_id is null then hashtextextended(m.kilo_user_id, 0)
    else uuid_hash_extended(m.organization_id, 0) end = uuid_hash_extended(u.id, 0)
        and m.organization_id is not distinct from u.id
        and m.position is not null
        and m.position >= u.below
      union all
      select m.kilo_user_id, m.organization_id, m.created_at, m.position, m.cost, m.has_error, m.input_tokens, m.output_tokens, m.cache_hit_tokens, m.cache_write_tokens
      from microdollar_usage as m
      where case when m.organization_id is null then hashtextextended(m.kilo_user_id, 0)
    else uuid_hash_extended(m.organization_id, 0) end = uuid_hash_extended(u.id, 0)
        and m.organization_id is not distinct from u.id
        and m.position is not null
        and m.position <= -u.below
      union all
      select m.kilo_user_id, m.organization_id, m.created_at, m.position, m.cost, m.has_error, m.input_tokens, m.output_tokens, m.cache_hit_tokens, m.cache_write_tokens
      from microdollar_usage as m
      where case when m.organization_id is null then hashtextextended(m.kilo_user_id, 0)
    else uuid_hash_extended(m.organization_id, 0) end = uuid_hash_extended(u.id, 0)
        and m.organization_id is not distinct from u.id
        and m.position is not null
        and u.except <> '{}'
        and m.position = any (u.except)
        and m.position < u.below
      union all
      select m.kilo_user_id, m.organization_id, m.created_at, m.position, m.cost, m.has_error, m.input_tokens, m.output_tokens, m.cache_hit_tokens, m.cache_write_tokens
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
  group by 1, 2, 3);--> statement-breakpoint
-- Where there is no usage yet, nor any in the archive, the log is all there is to fold. Elsewhere the rollup
-- starts with the first fold, at what is committed by then, and history is built by the backfill.
INSERT INTO "rollup_starts" ("rollup", "position", "started_at")
SELECT 'microdollar_usage_daily_by_user', 0, '-infinity'
WHERE NOT EXISTS (SELECT FROM "microdollar_usage")
  AND NOT EXISTS (SELECT FROM "rollup_coverage" WHERE "state" = 'archived');
--> statement-breakpoint
ALTER TABLE "microdollar_usage_daily_by_user" SET (fillfactor = 80, vacuum_truncate = off);
