import { plainArray, type Statement } from '../../db/statement.js';
import { type DimensionRollup, labelOf } from '../../schema/dimensionRollups.js';
import { DAILY_ROLLUP } from '../../schema/rollups.js';
import { periodsCtes } from '../periods.sql.js';

/** Days below are archived, or being so: their raw rows are gone, and their counter rows stay. */
const ARCHIVED_BELOW = `(select coalesce((s.archive_horizon at time zone 'UTC')::date, '-infinity')
    from ledger_settings as s)`;

/**
 * Whether day `day` still has its raw rows, all of them. The archive raises its horizon and freezes a day
 * before it deletes the first: a snapshot that shows neither shows every row.
 * @param evenBelowHorizon for the archive itself, which proves the day before it freezes it
 */
export const isComparable = (rollup: string, day: string, evenBelowHorizon = false): string =>
  `(${evenBelowHorizon ? '' : `${day} >= ${ARCHIVED_BELOW} and `}not exists (
    select from rollup_coverage as c
    where c.rollup = ${rollup} and c.period = ${day} and c.state = 'archived'
  ))`;

/** Whether the day may be compared with raw rows. */
export function isComparableStatement(rollup: DimensionRollup, day: string): Statement {
  return {
    name: 'microdollar_is_day_comparable',
    text: `/* microdollar.isDayComparable */
select ${isComparable('$1::text', '$2::date')} as comparable`,
    values: [rollup.name, day],
    plannedOnce: true,
  };
}

/** CTEs that end in `days`: those with raw rows, daily rows or counter rows, and of the window. */
const daysCtes = (rollup: DimensionRollup) => `${periodsCtes(DAILY_ROLLUP)}, counter_day as (
  select (
    select (c.period_start at time zone 'UTC')::date from ${rollup.name} as c
    order by c.period_start limit 1
  ) as day
  union all
  select (
    select (c.period_start at time zone 'UTC')::date from ${rollup.name} as c
    where c.period_start >= (d.day + 1)::timestamp at time zone 'UTC'
    order by c.period_start limit 1
  )
  from counter_day as d
  where isfinite(d.day)
), days as materialized (
  select p.period as day, bool_and(p.is_empty) as is_empty
  from (
    select period, is_empty from periods
    union all
    select d.day, false from counter_day as d, bounds as b where d.day between b.first and b.last
  ) as p
  where p.period >= ${ARCHIVED_BELOW}
  group by p.period
)`;

/** UTC days that may be compared, oldest first; `is_empty`: and have nothing, nor anything known. */
export function listDaysStatement(
  rollup: DimensionRollup,
  from: string | null,
  until: string | null,
): Statement {
  return {
    name: `microdollar_list_days_${labelOf(rollup)}`,
    text: `/* microdollar.listDays */
with recursive ${daysCtes(rollup)}
select d.day::text as period, now()::text as began_at,
  d.is_empty and not exists (
    select from rollup_coverage as c
    where c.rollup = '${rollup.name}'
      and c.period = d.day
      and (c.drift_keys > 0 or c.state = 'archived')
  ) as is_empty
from days as d
order by d.day`,
    values: [from, until],
  };
}

/** Days that nothing is known of, and those that were built, proven or folded from their beginning. */
export function planDaysStatement(
  rollup: DimensionRollup,
  from: string | null,
  until: string | null,
): Statement {
  const isKnown = `(coalesce(c.state, 'unbuilt') <> 'unbuilt'
    or (s.installed_empty and d.day::timestamp at time zone 'UTC' > r.started_at))`;
  return {
    name: `microdollar_plan_days_${labelOf(rollup)}`,
    text: `/* microdollar.planDays */
with recursive ${daysCtes(rollup)}
select min(d.day)::text as first, max(d.day)::text as last,
  count(*) filter (where ${isKnown} is not true) as to_build,
  count(*) filter (where ${isKnown}) as to_check
from days as d
cross join ledger_settings as s
left join rollup_starts as r on r.rollup = '${rollup.name}'
left join rollup_coverage as c
  on c.rollup = '${rollup.name}'
  and c.period = d.day`,
    values: [from, until],
  };
}

/** How old the verification of today and yesterday may grow: well within the lease. */
const RENEW_SECONDS = 150;

/**
 * The day that the background should verify next, if any: today and yesterday while their lease is
 * old; then days that were built or verified, or that the rollup was folded from the log for from
 * their beginning, and were not looked at after their end; then any not looked at for a day.
 */
export function nextDayStatement(rollup: DimensionRollup, except: readonly string[]): Statement {
  return {
    name: `microdollar_next_day_${labelOf(rollup)}`,
    text: `/* microdollar.nextDay */
with today as (
  select (now() at time zone 'UTC')::date as day
), known as (
  select coalesce(c.period, p::date) as day, c.state, c.verified_at, coalesce(c.drift_keys, 0) as drift
  from today as t
  cross join generate_series((t.day - interval '3 months'), t.day::timestamp, interval '1 day') as p
  full join (
    select * from rollup_coverage where rollup = '${rollup.name}'
  ) as c on c.period = p::date
)
select k.day::text as day
from known as k, today as t, ledger_settings as s, rollup_starts as r
where r.rollup = '${rollup.name}'
  and k.drift = 0
  and k.day between ${ARCHIVED_BELOW} and t.day
  and k.day <> all ($1::date[])
  and (k.state in ('built', 'verified')
    or (k.state is null or k.state = 'unbuilt')
      and s.installed_empty
      and k.day::timestamp at time zone 'UTC' > r.started_at)
  and (k.verified_at is null
    or k.verified_at < (k.day + 1)::timestamp at time zone 'UTC' and k.day < t.day - 1
    or k.verified_at < now() - interval '${RENEW_SECONDS} seconds' and k.day >= t.day - 1
    or k.verified_at < now() - interval '1 day')
order by k.day >= t.day - 1 desc, k.verified_at nulls first, k.day desc
limit 1`,
    values: [plainArray(except)],
  };
}

/** A day whose raw rows are about to be deleted: from here on its counter rows are the truth. */
export function freezeDayStatement(rollup: DimensionRollup, day: string): Statement {
  return {
    name: 'microdollar_freeze_day',
    text: `/* microdollar.freezeDay */
update rollup_coverage
set state = 'archived'
where rollup = $1::text
  and period = $2::date
  and state in ('verified', 'archived')
  and drift_keys = 0
returning period`,
    values: [rollup.name, day],
  };
}

/** Drift of a part of a day: the day counts as wrong, and what is known of its whole is no less. */
export function noteDriftStatement(
  rollup: DimensionRollup,
  day: string,
  keys: number,
  microdollars: string,
): Statement {
  return {
    name: 'microdollar_note_day_drift',
    text: `/* microdollar.noteDayDrift */
insert into rollup_coverage as c (rollup, period, drift_keys, drift_microdollars)
values ($1::text, $2::date, $3::integer, $4::numeric)
on conflict (rollup, period) do update
set state = case when c.state = 'verified' then 'built' else c.state end,
  drift_keys = greatest(c.drift_keys, excluded.drift_keys),
  drift_microdollars = greatest(c.drift_microdollars, excluded.drift_microdollars),
  verified_at = null
where c.state <> 'archived'`,
    values: [rollup.name, day, keys, microdollars],
  };
}
