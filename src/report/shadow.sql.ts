import type { Statement } from '../db/statement.js';
import { DAILY_ROLLUP, periodOf } from '../schema/rollups.js';

/** Days are inclusive; both null = the three-month window until `asOf` (null = now). */
export interface ComparedRange {
  kiloUserId: string;
  organizationId: string | null;
  from: string | null;
  until: string | null;
  asOf: string | null;
}

export interface ComparisonRow {
  days: string;
  /** Days on which the two differ. */
  different_days: string;
  raw_total: string;
  rollup_total: string;
}

/**
 * Raw usage and the rollup of one scope, day by day, in one statement and so in one snapshot: a
 * difference is never a race.
 *   compared_days  first and last day
 *   raw            raw rows and what was archived from them
 *   reported       the exact view
 */
const TEXT = `/* shadow.compare */
with compared_days as materialized (
  select coalesce($2::date, ((coalesce($4::timestamptz, now()) at time zone 'UTC')::date
      - interval '3 months')::date) as from_date,
    coalesce($3::date, (coalesce($4::timestamptz, now()) at time zone 'UTC')::date) as until_date
),
raw as (
  select usage_date, sum(cost) as total
  from (
    select ${periodOf(DAILY_ROLLUP, 'e.created_at')} as usage_date, e.cost
    from microdollar_usage as e, compared_days as w
    where e.kilo_user_id = $1::text
      and e.created_at >= w.from_date::timestamp at time zone 'UTC'
      and e.created_at < (w.until_date + 1)::timestamp at time zone 'UTC'
      and SCOPE
    union all
    select e.usage_date, e.archived_cost_microdollars
    from microdollar_usage_daily as e, compared_days as w
    where e.kilo_user_id = $1::text
      and e.usage_date between w.from_date and w.until_date
      and SCOPE
  ) as parts
  group by usage_date
),
reported as (
  select e.usage_date, e.total_cost_microdollars as total
  from microdollar_usage_daily_exact as e, compared_days as w
  where e.kilo_user_id = $1::text
    and e.usage_date between w.from_date and w.until_date
    and SCOPE
)
select count(*) as days,
  count(*) filter (where coalesce(raw.total, 0) <> coalesce(reported.total, 0)) as different_days,
  coalesce(sum(raw.total), 0)::text as raw_total,
  coalesce(sum(reported.total), 0)::text as rollup_total
from raw
full join reported on reported.usage_date = raw.usage_date`;

export function compareStatement(range: ComparedRange): Statement {
  const values: unknown[] = [range.kiloUserId, range.from, range.until, range.asOf];
  if (range.organizationId === null) {
    return {
      name: 'microdollar_shadow_personal',
      text: TEXT.replaceAll('SCOPE', 'e.organization_id is null'),
      values,
    };
  }
  return {
    name: 'microdollar_shadow_organization',
    text: TEXT.replaceAll('SCOPE', 'e.organization_id = $5::uuid'),
    values: [...values, range.organizationId],
  };
}

/**
 * Users with usage in the last three months, for comparisons that no request asked for: those of
 * the rows that follow random instants, so that the busy are compared more often.
 */
export function randomUsersStatement(count: number): Statement {
  return {
    name: 'microdollar_random_users',
    text: `/* shadow.randomUsers */
with random_instants as materialized (
  select now() - interval '90 days' * random() as at
  from generate_series(1, $1::integer)
)
select u.kilo_user_id
from random_instants as r
cross join lateral (
  select kilo_user_id
  from microdollar_usage
  where created_at >= r.at
    and organization_id is null
  order by created_at
  limit 1
) as u`,
    values: [count],
  };
}
