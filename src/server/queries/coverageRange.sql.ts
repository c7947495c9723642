import type { Statement } from '../../db/statement.js';

export interface CoverageRangeRow {
  /** First UTC day with raw usage or coverage; null on a new ledger. */
  first: string | null;
  today: string;
}

/** Which days the calendar shows; by index on both sides. */
export function coverageRangeStatement(rollup: string): Statement {
  return {
    name: 'operations.coverageRange',
    text: `/* operations.coverageRange */
select least(
    (select (u.created_at at time zone 'UTC')::date
      from microdollar_usage as u
      order by u.created_at
      limit 1),
    (select min(c.period) from rollup_coverage as c where c.rollup = $1::text)
  )::text as first,
  (now() at time zone 'UTC')::date::text as today`,
    values: [rollup],
  };
}
