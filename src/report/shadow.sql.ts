import type { Statement } from '../db/statement.js';
import { threeMonthWindow } from '../schema/rollups.js';
import { ORGANIZATION_SCOPE, type PayerScope, USER_SCOPE } from '../schema/unsettled.js';
import { rawRows } from './report.sql.js';

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

const WINDOW = threeMonthWindow('coalesce($4::timestamptz, now())');

/**
 * Raw usage and the rollup of one scope, day by day, in one statement and so in one snapshot: a
 * difference is never a race.
 *   compared_days  first and last day
 *   raw            raw rows and what was archived from them
 *   reported       the exact view, and not the statement that reads use: both are compared
 */
function compareText(scope: PayerScope): string {
  const days = {
    from: '(select w.from_date from compared_days as w)',
    until: '(select w.until_date from compared_days as w)',
  };
  const inScope =
    scope === USER_SCOPE ? 'e.organization_id is null' : 'e.organization_id = $5::uuid';
  return `/* shadow.compare */
with compared_days as materialized (
  select coalesce($2::date, ${WINDOW.from}) as from_date,
    coalesce($3::date, ${WINDOW.until}) as until_date
),
raw as (
  select r.usage_date, sum(r.cost) as total
  from (
    ${rawRows({ scope, organization: '$5::uuid', ...days })}
  ) as r
  group by r.usage_date
),
reported as (
  select e.usage_date, e.total_cost_microdollars as total
  from microdollar_usage_daily_exact as e
  where e.kilo_user_id = $1::text
    and e.usage_date between ${days.from} and ${days.until}
    and ${inScope}
)
select count(*) as days,
  count(*) filter (where coalesce(raw.total, 0) <> coalesce(reported.total, 0)) as different_days,
  coalesce(sum(raw.total), 0)::text as raw_total,
  coalesce(sum(reported.total), 0)::text as rollup_total
from raw
full join reported on reported.usage_date = raw.usage_date`;
}

const PERSONAL_TEXT = compareText(USER_SCOPE);
const ORGANIZATION_TEXT = compareText(ORGANIZATION_SCOPE);

export function compareStatement(range: ComparedRange): Statement {
  const values: unknown[] = [range.kiloUserId, range.from, range.until, range.asOf];
  if (range.organizationId === null) {
    return { name: 'microdollar_shadow_personal', text: PERSONAL_TEXT, values };
  }
  return {
    name: 'microdollar_shadow_organization',
    text: ORGANIZATION_TEXT,
    values: [...values, range.organizationId],
  };
}

export interface ScopeRow {
  kilo_user_id: string;
  organization_id: string | null;
}

/**
 * Users with usage in the last three months, each in the scope that paid for it, for comparisons that no
 * request asked for: those of the rows that follow random instants, so that the busy are compared more
 * often.
 */
export function randomScopesStatement(count: number): Statement {
  const { from } = threeMonthWindow();
  return {
    name: 'microdollar_random_scopes',
    text: `/* shadow.randomScopes */
with newest as materialized (
  select m.created_at as at
  from microdollar_usage as m
  where m.created_at <= now()
  order by m.created_at desc
  limit 1
),
random_instants as materialized (
  select ${from}::timestamp at time zone 'UTC'
      + (n.at - ${from}::timestamp at time zone 'UTC') * random() as at
  from newest as n
  cross join generate_series(1, $1::integer)
  where n.at >= ${from}::timestamp at time zone 'UTC'
)
select m.kilo_user_id, m.organization_id
from random_instants as r
cross join lateral (
  select kilo_user_id, organization_id
  from microdollar_usage
  where created_at >= r.at
  order by created_at
  limit 1
) as m`,
    values: [count],
  };
}
