import type { Statement } from '../db/statement.js';
import { QUARTER_HOURLY } from '../schema/dimensionRollups.js';
import { type ExportFilter, filterValues, whose } from './exportRows.sql.js';

/** What a day had that is in files and no longer in the table. */
export interface ArchivedDayRow {
  /** UTC day. */
  day: string;
  rows: string;
  cost: string;
}

/**
 * Days of the range, oldest first, that were archived, wholly or in part, with what their files must
 * hold. Counter rows of archived days are frozen (src/rollup/archive), so they tell it exactly: those of
 * the quarters, for a rollup that came later has nothing of days that were archived before it.
 *
 * CTEs in reading order:
 *   frozen    archived days
 *   counted   what they had
 *   raw       what of it is in the table yet
 */
export function archivedDaysStatement(filter: ExportFilter): Statement {
  return {
    name: 'export_archived_days',
    text: `
      with frozen as materialized (
        select c.period as day,
          c.period::timestamp at time zone 'UTC' as starts_at,
          (c.period + 1)::timestamp at time zone 'UTC' as ends_at
        from rollup_coverage as c
        where c.rollup = '${QUARTER_HOURLY.name}'
          and c.state = 'archived'
          and c.period between $1::date and $2::date
      ), counted as (
        select f.day, sum(d.requests) as rows, sum(d.cost_microdollars) as cost
        from frozen as f
        join ${QUARTER_HOURLY.name} as d
          on d.period_start >= f.starts_at and d.period_start < f.ends_at ${whose(filter, 'd')}
        group by f.day
      ), raw as (
        select f.day, count(*) as rows, sum(m.cost) as cost
        from frozen as f
        join microdollar_usage as m
          on m.created_at >= f.starts_at and m.created_at < f.ends_at ${whose(filter, 'm')}
        group by f.day
      )
      select c.day::text as day, (c.rows - coalesce(r.rows, 0))::text as rows,
        (c.cost - coalesce(r.cost, 0))::text as cost
      from counted as c
      left join raw as r on r.day = c.day
      where c.rows > coalesce(r.rows, 0)
      order by c.day`,
    values: filterValues(filter),
  };
}

/** Which of these rows are in the table. */
export function rowsInTableStatement(ids: readonly string[]): Statement {
  return {
    name: 'export_rows_in_table',
    text: 'select m.id from microdollar_usage as m where m.id = any ($1::uuid[])',
    values: [`{${ids.join()}}`],
  };
}
