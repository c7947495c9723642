import type { Statement } from '../db/statement.js';
import { lastInstantOf, periodOf, type Rollup, threeMonthWindow } from '../schema/rollups.js';

/** The last period that has a next one: beyond it PostgreSQL knows no instants. */
const LAST_PERIOD: Record<Rollup['grain'], string> = { day: '294276-12-31', month: '294276-12-01' };
const LAST_INSTANT = `timestamptz '294276-12-31 23:59:59.999999+00'`;

/**
 * CTEs for `with recursive`, ending in `periods` (period, ascending by nothing): every period that
 * has anything, each found by one index descent, so that an old row costs one period and not
 * every day since. $1 and $2: UTC days, inclusive; null = no bound.
 *
 *   bounds          first days of the periods of $1 and $2
 *   raw_period      periods of raw rows
 *   counter_period  periods of counter rows
 *   periods         both, those of the coverage table, and the three-month window: reads use its
 *                   days whether there is usage or not; `is_empty`: nothing in this snapshot, and
 *                   nothing known to be wrong
 */
export function periodsCtes(rollup: Rollup): string {
  const { grain, source, name, periodColumn } = rollup;
  const window = threeMonthWindow();
  const first = (day: string) => `date_trunc('${grain}', ${day}::timestamp)::date`;
  const endOf = `case when isfinite(p.period) and p.period >= date '${LAST_PERIOD[grain]}'
      then ${LAST_INSTANT} else ${lastInstantOf(rollup, 'p.period')} end`;
  return `bounds as materialized (
  select coalesce(${first('$1::date')}, '-infinity') as first,
    coalesce(${first('$2::date')}, 'infinity') as last
), raw_period as (
  select (
    select ${periodOf(rollup, 's.created_at')}
    from ${source} as s
    where s.created_at >= b.first::timestamp at time zone 'UTC'
    order by s.created_at
    limit 1
  ) as period
  from bounds as b
  union all
  select (
    select ${periodOf(rollup, 's.created_at')}
    from ${source} as s
    where s.created_at > ${endOf}
    order by s.created_at
    limit 1
  )
  from raw_period as p, bounds as b
  where p.period <= b.last
), counter_period as (
  select (
    select c.${periodColumn} from ${name} as c
    where c.${periodColumn} >= b.first order by c.${periodColumn} limit 1
  ) as period
  from bounds as b
  union all
  select (
    select c.${periodColumn} from ${name} as c
    where c.${periodColumn} > p.period order by c.${periodColumn} limit 1
  )
  from counter_period as p, bounds as b
  where p.period <= b.last
), periods as materialized (
  select p.period, bool_and(p.is_empty) as is_empty
  from (
    select period, false as is_empty from raw_period
    union all
    select period, false from counter_period
    union all
    select c.period, c.drift_keys = 0 from rollup_coverage as c where c.rollup = '${name}'
    union all
    select w::date, true
    from generate_series(${first(window.from)}::timestamp, ${window.until}::timestamp,
      interval '1 ${grain}') as w
  ) as p, bounds as b
  where p.period between b.first and b.last
  group by p.period
)`;
}

export interface ListedPeriod {
  period: string;
  is_empty: boolean;
  /** Before the snapshot. */
  began_at: string;
}

/** Periods that have anything, or should be looked at all the same, oldest first. */
export function listPeriodsStatement(
  rollup: Rollup,
  from: string | null,
  until: string | null,
): Statement {
  return {
    name: `microdollar_list_periods_${rollup.name}`,
    text: `/* microdollar.listPeriods */
with recursive ${periodsCtes(rollup)}
select p.period::text as period, p.is_empty, now()::text as began_at
from periods as p
order by p.period`,
    values: [from, until],
  };
}

/** Today, UTC, by the server's clock. */
export function todayStatement(): Statement {
  return {
    name: 'microdollar_today',
    text: `/* microdollar.today */
select (now() at time zone 'UTC')::date::text as today`,
    values: [],
  };
}
