import type { Statement } from '../../db/statement.js';
import { DAILY_ROLLUP, withinPeriod } from '../../schema/rollups.js';
import { closesUnpriced } from '../../schema/unpricedUsage.js';
import { periodsCtes } from '../periods.sql.js';

export interface PlanDayRow {
  today: string;
  /** Microseconds matter to nobody here: hours since the end of the last day. */
  hours_since_end: number;
  horizon: string;
  /** Null: there is nothing on or before the last day. */
  day: string | null;
  state: string;
  is_proven: boolean;
  /** The last check of the day found wrong keys. */
  is_drifted: boolean;
  has_raw_rows: boolean;
  raw_rows: string | null;
  raw_cost_microdollars: string | null;
}

/**
 * Every day until `until` that has raw rows or a daily row, and whether it is proven: verified after
 * its end, without drift. One row without a day when there is none.
 */
export function planDaysStatement(until: string): Statement {
  return {
    name: 'microdollar_plan_archive_days',
    text: `/* microdollar.planArchiveDays */
with recursive ${periodsCtes(DAILY_ROLLUP)}, day as materialized (
  select p.period, exists (
      select from microdollar_usage as s
      where ${withinPeriod(DAILY_ROLLUP, 's.created_at', 'p.period')}
    ) as has_raw_rows
  from periods as p
)
select (now() at time zone 'UTC')::date::text as today,
  (extract(epoch from now() - ($2::date + 1)::timestamp at time zone 'UTC') / 3600)::float8
    as hours_since_end,
  to_char($2::date + 1, 'YYYY-MM-DD"T"00:00:00"Z"') as horizon,
  days.period::text as day, days.state, days.is_proven, days.is_drifted, days.has_raw_rows,
  days.raw_rows, days.raw_cost_microdollars
from (select) as one
left join (
  select d.period, d.has_raw_rows, coalesce(c.state, 'unbuilt') as state,
    coalesce(c.state in ('verified', 'archived')
      and c.drift_keys = 0
      and c.verified_at >= (d.period + 1)::timestamp at time zone 'UTC', false) as is_proven,
    coalesce(c.drift_keys > 0, false) as is_drifted,
    c.raw_rows, c.raw_cost_microdollars
  from day as d
  left join rollup_coverage as c
    on c.rollup = '${DAILY_ROLLUP.name}'
    and c.period = d.period
  where d.has_raw_rows
    or exists (select from microdollar_usage_daily as u where u.usage_date = d.period)
) as days on true
order by days.period`,
    values: [null, until],
  };
}

export interface BlockerRow {
  kind: 'unpriced' | 'prices_later_usage' | 'request_in_flight';
  day: string;
  rows: string;
}

/**
 * What keeps days until `until` from being archived.
 * - `unpriced`: usage whose price is still unknown; the row that prices it names it, and its own
 *   price (a refund names one too, but prices nothing)
 * - `prices_later_usage`: prices a row that stays; without it that row would look unpriced
 * - `request_in_flight`: a gateway request whose usage will be dated there; it would be refused
 */
export function findBlockersStatement(until: string): Statement {
  return {
    name: 'microdollar_find_archive_blockers',
    text: `/* microdollar.findArchiveBlockers */
with bound as materialized (
  select ($1::date + 1)::timestamp at time zone 'UTC' as horizon
), unpriced as materialized (
  select u.id, u.created_at, m.adjusts_usage_id, m.correction_number
  from microdollar_usage_metadata as m
  join microdollar_usage as u on u.id = m.id
  where m.unpriced
), pricing as materialized (
  select o.id, o.created_at as priced_at, u.created_at
  from unpriced as o
  join microdollar_usage_metadata as m on ${closesUnpriced('m', 'o')}
  join microdollar_usage as u on u.id = m.id
)
select kind, (at at time zone 'UTC')::date::text as day, count(*) as rows
from (
  select 'unpriced' as kind, o.created_at as at
  from unpriced as o, bound as b
  where o.created_at < b.horizon
    and o.id not in (select id from pricing)
  union all
  select 'prices_later_usage', p.created_at
  from pricing as p, bound as b
  where p.created_at < b.horizon
    and p.priced_at >= b.horizon
  union all
  select 'request_in_flight', i.created_at
  from gateway_intents as i, bound as b
  where i.created_at < b.horizon
  union all
  select 'request_in_flight', r.created_at
  from gateway_responses as r, bound as b
  where r.created_at < b.horizon
    and r.settled_at is null
) as blocked
group by 1, 2
order by 2, 1`,
    values: [until],
  };
}

/** Marks a day as archived once it has no raw row left; no row comes back while it has. */
export function markArchivedStatement(day: string): Statement {
  return {
    name: 'microdollar_mark_archived',
    text: `/* microdollar.markArchived */
insert into rollup_coverage as c (rollup, period, state, raw_rows, raw_cost_microdollars,
  built_at, verified_at)
select '${DAILY_ROLLUP.name}', $1::date, 'archived', 0, 0, now(), now()
where not exists (
  select from microdollar_usage as s
  where ${withinPeriod(DAILY_ROLLUP, 's.created_at', '$1::date')})
on conflict (rollup, period) do update
set state = 'archived',
  raw_rows = 0,
  raw_cost_microdollars = 0,
  done_until_user = null,
  claimed_by = null,
  claimed_until = null
returning c.period::text as day`,
    values: [day],
  };
}
