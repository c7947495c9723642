import type { Statement } from '../db/statement.js';
import { DAILY_ROLLUP, periodOf } from '../schema/rollups.js';

/** Where the numbers come from: the exact view, or raw usage plus what was archived from it. */
export type UsageSource = 'rollup' | 'raw';

export interface TotalRow {
  total_cost_microdollars: string;
  as_of: string;
  is_replica: boolean;
}

/** As of when the server answers: now, or on a replica the last replayed commit. */
const AS_OF = `pg_is_in_recovery() as is_replica,
  to_char(coalesce(pg_last_xact_replay_timestamp(), now()) at time zone 'UTC',
    'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as as_of`;

/**
 * The window of "the last three months": from the UTC day three calendar months before `asOf`
 * (PostgreSQL's month arithmetic: 31 May -> 28 or 29 February) to the day of `asOf`, inclusive.
 */
const WINDOW = `with window_days as materialized (
  select ((coalesce($2::timestamptz, now()) at time zone 'UTC')::date
      - interval '3 months')::date as from_date,
    (coalesce($2::timestamptz, now()) at time zone 'UTC')::date as until_date
)`;

const FROM_DATE = `((coalesce($2::timestamptz, now()) at time zone 'UTC')::date
        - interval '3 months')::date`;
const UNTIL_DATE = `(coalesce($2::timestamptz, now()) at time zone 'UTC')::date`;

/** Nothing of the payer is pending below; skips what was drained and cannot be vacuumed (src/counter). */
const USER_FLOOR = 'select u.pending_floor from kilocode_users as u where u.id = $1::text';
const ORGANIZATION_FLOOR = 'select o.pending_floor from organizations as o where o.id = $4::uuid';

/**
 * The rollup's forms are the exact view: counter rows and pending rows in one snapshot, the latter
 * from the payer's floor. Only the lower bound of the days is for the index: with both, an empty
 * table's plan prefers the index on (date, user), which is searched once a day of the window.
 */
const THREE_MONTHS: Record<UsageSource, string> = {
  rollup: `/* kiloPass.getAverageMonthlyUsageLast3Months */
select (
    select coalesce(sum(d.total_cost_microdollars)
      filter (where d.usage_date <= (select ${UNTIL_DATE})), 0)
    from microdollar_usage_daily as d
    where d.kilo_user_id = $1::text
      and d.organization_id is null
      and d.usage_date >= ${FROM_DATE}
  ) + (
    select coalesce(sum(p.cost_microdollars), 0)
    from microdollar_usage_pending as p
    where (p.kilo_user_id, p.xid) >= ($1::text,
        coalesce((${USER_FLOOR}), '0'))
      and p.kilo_user_id <= $1::text
      and p.organization_id is null
      and p.usage_date >= ${FROM_DATE}
      and p.usage_date <= ${UNTIL_DATE}
  ) as total_cost_microdollars,
  ${AS_OF}`,
  raw: `/* kiloPass.getAverageMonthlyUsageLast3Months */
${WINDOW}
select (
    select coalesce(sum(u.cost), 0)
    from microdollar_usage as u, window_days as w
    where u.kilo_user_id = $1::text
      and u.organization_id is null
      and u.created_at >= w.from_date::timestamp at time zone 'UTC'
      and u.created_at < (w.until_date + 1)::timestamp at time zone 'UTC'
  )::numeric + (
    select coalesce(sum(d.archived_cost_microdollars), 0)
    from microdollar_usage_daily as d, window_days as w
    where d.kilo_user_id = $1::text
      and d.organization_id is null
      and d.usage_date between w.from_date and w.until_date
      and d.archived_cost_microdollars <> 0
  ) as total_cost_microdollars,
  ${AS_OF}`,
};

/** Freshness comes with the days, and alone (`usage_date` null) where there are none. */
function withFreshness(daysSql: string): string {
  return `/* usage.daily */
select days.usage_date::text as usage_date, days.total_cost_microdollars, answered.*
from (select ${AS_OF}) as answered
left join (
${daysSql}
) as days on true
order by days.usage_date`;
}

const DAILY: Record<UsageSource, string> = {
  rollup: withFreshness(`  select usage_date, sum(cost)::bigint as total_cost_microdollars
  from (
    select e.usage_date, e.total_cost_microdollars as cost
    from microdollar_usage_daily as e
    where e.kilo_user_id = $1::text
      and e.usage_date >= $2::date
      and (e.usage_date <= $3::date) is true
      and SCOPE
    union all
    select e.usage_date, e.cost_microdollars
    from microdollar_usage_pending as e
    where (e.kilo_user_id, e.xid) >= ($1::text, coalesce((PAYER_FLOOR), '0'))
      and e.kilo_user_id <= $1::text
      and e.usage_date between $2::date and $3::date
      and SCOPE
  ) as parts
  group by usage_date
  having sum(cost) <> 0`),
  raw: withFreshness(`  select usage_date, sum(cost)::bigint as total_cost_microdollars
  from (
    select ${periodOf(DAILY_ROLLUP, 'e.created_at')} as usage_date, e.cost
    from microdollar_usage as e
    where e.kilo_user_id = $1::text
      and e.created_at >= $2::date::timestamp at time zone 'UTC'
      and e.created_at < ($3::date + 1)::timestamp at time zone 'UTC'
      and SCOPE
    union all
    select e.usage_date, e.archived_cost_microdollars
    from microdollar_usage_daily as e
    where e.kilo_user_id = $1::text
      and e.usage_date between $2::date and $3::date
      and SCOPE
  ) as parts
  group by usage_date
  having sum(cost) <> 0`),
};

/** One row: the personal total of the three-month window, microdollars. `asOf` null = now. */
export function threeMonthTotalStatement(
  source: UsageSource,
  kiloUserId: string,
  asOf: string | null,
): Statement {
  return {
    name: `microdollar_three_months_${source}`,
    text: THREE_MONTHS[source],
    values: [kiloUserId, asOf],
  };
}

export interface DailyRow {
  usage_date: string | null;
  total_cost_microdollars: string | null;
  as_of: string;
  is_replica: boolean;
}

/** Daily totals of one user in one scope, days with a total only. Days are inclusive. */
export function dailyUsageStatement(
  source: UsageSource,
  query: { kiloUserId: string; organizationId: string | null; from: string; until: string },
): Statement {
  const values: unknown[] = [query.kiloUserId, query.from, query.until];
  // `is not distinct from` could use neither partial index: one text per scope (design, 4).
  if (query.organizationId === null) {
    return {
      name: `microdollar_daily_personal_${source}`,
      text: DAILY[source]
        .replaceAll('SCOPE', 'e.organization_id is null')
        .replace('PAYER_FLOOR', USER_FLOOR),
      values,
    };
  }
  return {
    name: `microdollar_daily_organization_${source}`,
    text: DAILY[source]
      .replaceAll('SCOPE', 'e.organization_id = $4::uuid')
      .replace('PAYER_FLOOR', ORGANIZATION_FLOOR),
    values: [...values, query.organizationId],
  };
}
