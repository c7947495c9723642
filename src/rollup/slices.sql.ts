import type { Statement } from '../db/statement.js';
import { plainArray } from '../db/statement.js';
import { lastInstantOf, type Rollup, withinPeriod } from '../schema/rollups.js';
import { comparedCte, counterRows, findingsColumns, POSITION, SUMS } from './compare.sql.js';
import { isInCounters, lowWater } from './settled.sql.js';

/** A part of one user's rows of a period: after `after` (null = from the start) until `until`. */
export interface Slice {
  period: string;
  kiloUserId: string;
  /** Instants as the database prints them. */
  after: string | null;
  /** Inclusive; null = until the end of the period. */
  until: string | null;
}

/** Rows `s` of the user, behind the start of the slice; by (kilo_user_id, created_at). */
function rowsAfter(rollup: Rollup, after: string | null): string {
  return `s.kilo_user_id = $2::text
    and ${
      after === null
        ? withinPeriod(rollup, 's.created_at', '$1::date')
        : `s.created_at > $3::timestamptz
    and s.created_at <= ${lastInstantOf(rollup, '$1::date')}`
    }`;
}

/** Where the next slice ends: the instant of its last row; no row when few are left. */
export function sliceEndStatement(rollup: Rollup, slice: Slice, rows: number): Statement {
  const values = [slice.period, slice.kiloUserId, ...(slice.after === null ? [] : [slice.after])];
  return {
    name: `microdollar_slice_end_${rollup.name}`,
    text: `/* microdollar.sliceEnd */
select s.created_at::text as until
from ${rollup.source} as s
where ${rowsAfter(rollup, slice.after)}
order by s.created_at
offset $${values.length + 1}::integer
limit 1`,
    values: [...values, rows - 1],
  };
}

/** Sums of rows by organization, null = personal. */
export interface SliceSum {
  organization_id: string | null;
  cost: string;
  row_count: string;
  settled_cost: string;
  settled_requests: string;
}

export function sumSliceStatement(rollup: Rollup, slice: Slice): Statement {
  const values = [slice.period, slice.kiloUserId, ...(slice.after === null ? [] : [slice.after])];
  const until =
    slice.until === null ? '' : `and s.created_at <= $${values.length + 1}::timestamptz`;
  return {
    name: `microdollar_sum_slice_${rollup.name}`,
    text: `/* microdollar.sumSlice */
with ${lowWater(rollup.log)}, part as materialized (
  select s.kilo_user_id, s.organization_id, ${POSITION} as position,
    ${SUMS}
  from ${rollup.source} as s
  where ${rowsAfter(rollup, slice.after)}
    ${until}
  group by 1, 2, 3
)
select p.organization_id, sum(p.cost) as cost, sum(p.row_count) as row_count,
  coalesce(sum(p.cost) filter (where p.is_settled), 0) as settled_cost,
  coalesce(sum(p.requests) filter (where p.is_settled), 0) as settled_requests
from (select p.*, ${isInCounters(rollup.log, 'p')} as is_settled from part as p) as p
group by p.organization_id`,
    values: slice.until === null ? values : [...values, slice.until],
  };
}

/** Compares sums with the counter rows of their user, in the snapshot that they are of. */
export function compareSumsStatement(
  rollup: Rollup,
  period: string,
  kiloUserId: string,
  sums: readonly SliceSum[],
): Statement {
  return {
    name: `microdollar_compare_sums_${rollup.name}`,
    text: `/* microdollar.compareSums */
with raw as materialized (
  select $2::text as kilo_user_id, r.*
  from unnest($3::uuid[], $4::numeric[], $5::bigint[], $6::numeric[], $7::bigint[])
    as r(organization_id, cost, row_count, settled_cost, settled_requests)
), counter as materialized (
  ${counterRows(rollup)}
  where c.${rollup.periodColumn} = $1::date
    and c.kilo_user_id = $2::text
), ${comparedCte(rollup)}, wrong as materialized (
  select *
  from compared
  where drift <> 0
    or request_drift <> 0
    or is_mischarged
)
select (select coalesce(sum(raw_rows), 0) from compared) as raw_rows,
  (select coalesce(sum(raw_cost), 0) from compared) as raw_cost,
  (select count(*) from compared) as keys,
  0 as inserted, 0 as conflicts,
  ${findingsColumns()},
  null::text[] as oversized, null::text as user_until`,
    values: [
      period,
      kiloUserId,
      plainArray(sums.map((sum) => sum.organization_id)),
      plainArray(sums.map((sum) => sum.cost)),
      plainArray(sums.map((sum) => sum.row_count)),
      plainArray(sums.map((sum) => sum.settled_cost)),
      plainArray(sums.map((sum) => sum.settled_requests)),
    ],
  };
}
