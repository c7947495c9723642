import type { Statement } from '../db/statement.js';
import { DAILY_ROLLUP, periodOf, threeMonthWindow } from '../schema/rollups.js';
import {
  ORGANIZATION_SCOPE,
  type PayerScope,
  UNSETTLED_USER,
  USAGE_LOG,
  USER_SCOPE,
  unsettledRows,
} from '../schema/unsettled.js';

/** Where the numbers come from: the exact view, or raw usage plus what was archived from it. */
export type UsageSource = 'rollup' | 'raw';

/** Of one user, $1, in one scope; days from `from` to `until`, inclusive: SQL expressions. */
export interface DaysOfUser {
  scope: PayerScope;
  /** The organization, an SQL expression; in the scope of organizations. */
  organization: string;
  from: string;
  until: string;
}

const inScope = ({ scope, organization }: DaysOfUser, row: string): string =>
  scope === USER_SCOPE
    ? `${row}.organization_id is null`
    : `${row}.organization_id = ${organization}`;

/**
 * Rows (usage_date, cost) that sum to what the exact view reports: the user's counter rows, and the
 * unsettled rows of their payer, which is found by its key. Only the lower bound of the days is for
 * the index: with both, an empty table's plan prefers the index on (date, user), which is
 * searched once a day of the window.
 */
function reportedRows(of: DaysOfUser): string {
  const { scope, from, until } = of;
  const payer = scope === USER_SCOPE ? '$1::text' : of.organization;
  return `select d.usage_date, d.total_cost_microdollars as cost
    from microdollar_usage_daily as d
    where d.kilo_user_id = $1::text
      and ${inScope(of, 'd')}
      and d.usage_date >= ${from}
      and (d.usage_date <= ${until}) is true
    union all
    select m.usage_date, m.cost
    from ${scope.payers} as u
    cross join lateral (
      ${unsettledRows(
        USAGE_LOG,
        scope,
        `${UNSETTLED_USER}, ${periodOf(DAILY_ROLLUP, 'm.created_at')} as usage_date, m.cost`,
        'u',
      )}
    ) as m
    where u.id = ${payer}
      and m.kilo_user_id = $1::text
      and m.usage_date between ${from} and ${until}`;
}

/** Rows (usage_date, cost) of the same from raw usage and what was archived of it. */
export function rawRows(of: DaysOfUser): string {
  const { from, until } = of;
  return `select ${periodOf(DAILY_ROLLUP, 'r.created_at')} as usage_date, r.cost
    from microdollar_usage as r
    where r.kilo_user_id = $1::text
      and ${inScope(of, 'r')}
      and r.created_at >= ${from}::timestamp at time zone 'UTC'
      and r.created_at < (${until} + 1)::timestamp at time zone 'UTC'
    union all
    select d.usage_date, d.archived_cost_microdollars
    from microdollar_usage_daily as d
    where d.kilo_user_id = $1::text
      and ${inScope(of, 'd')}
      and d.usage_date between ${from} and ${until}
      and d.archived_cost_microdollars <> 0`;
}

const ROWS: Record<UsageSource, (of: DaysOfUser) => string> = {
  rollup: reportedRows,
  raw: rawRows,
};

/** As of when the server answers: now, or on a replica the last replayed commit. */
const AS_OF = `pg_is_in_recovery() as is_replica,
  to_char(coalesce(pg_last_xact_replay_timestamp(), now()) at time zone 'UTC',
    'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as as_of`;

export interface TotalRow {
  total_cost_microdollars: string;
  as_of: string;
  is_replica: boolean;
}

const threeMonths = (
  source: UsageSource,
): string => `/* kiloPass.getAverageMonthlyUsageLast3Months */
select (
    select coalesce(sum(r.cost), 0)
    from (
    ${ROWS[source]({
      scope: USER_SCOPE,
      organization: '',
      ...threeMonthWindow('coalesce($2::timestamptz, now())'),
    })}
    ) as r
  ) as total_cost_microdollars,
  ${AS_OF}`;

const THREE_MONTHS: Record<UsageSource, string> = {
  rollup: threeMonths('rollup'),
  raw: threeMonths('raw'),
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

/** Freshness comes with the days, and alone (`usage_date` null) where there are none. */
const daily = (source: UsageSource, scope: PayerScope): string => `/* usage.daily */
select days.usage_date::text as usage_date, days.total_cost_microdollars, answered.*
from (select ${AS_OF}) as answered
left join (
  select r.usage_date, sum(r.cost) as total_cost_microdollars
  from (
    ${ROWS[source]({ scope, organization: '$4::uuid', from: '$2::date', until: '$3::date' })}
  ) as r
  group by r.usage_date
  having sum(r.cost) <> 0
) as days on true
order by days.usage_date`;

/** `is not distinct from` could use neither partial index: one text per scope. */
const DAILY: Record<UsageSource, { personal: string; organization: string }> = {
  rollup: {
    personal: daily('rollup', USER_SCOPE),
    organization: daily('rollup', ORGANIZATION_SCOPE),
  },
  raw: { personal: daily('raw', USER_SCOPE), organization: daily('raw', ORGANIZATION_SCOPE) },
};

/** Daily totals of one user in one scope, days with a total only. Days are inclusive. */
export function dailyUsageStatement(
  source: UsageSource,
  query: { kiloUserId: string; organizationId: string | null; from: string; until: string },
): Statement {
  const values = [query.kiloUserId, query.from, query.until];
  if (query.organizationId === null) {
    return {
      name: `microdollar_daily_personal_${source}`,
      text: DAILY[source].personal,
      values,
    };
  }
  return {
    name: `microdollar_daily_organization_${source}`,
    text: DAILY[source].organization,
    values: [...values, query.organizationId],
  };
}
