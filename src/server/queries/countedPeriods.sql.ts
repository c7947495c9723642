import type { Statement } from '../../db/statement.js';
import { periodsCtes } from '../../rollup/periods.sql.js';
import type { Rollup } from '../../schema/rollups.js';

/**
 * CTEs for `with recursive`, ending in `counted` (period): periods that have anything, or were built.
 * A day of the three-month window without either is nobody's work, though a backfill would note it.
 */
export function countedPeriodsCtes(rollup: Rollup): string {
  return `${periodsCtes(rollup)}, counted as materialized (
  select p.period
  from periods as p
  where p.period in (select period from raw_period)
    or p.period in (select period from counter_period)
    or exists (
      select from rollup_coverage as c
      where c.rollup = '${rollup.name}'
        and c.period = p.period
    )
)`;
}

/** These periods, oldest first. */
export function countedPeriodsStatement(rollup: Rollup): Statement {
  return {
    name: 'operations.countedPeriods',
    text: `/* operations.countedPeriods */
with recursive ${countedPeriodsCtes(rollup)}
select c.period::text as period
from counted as c
order by c.period`,
    values: [null, null],
  };
}
