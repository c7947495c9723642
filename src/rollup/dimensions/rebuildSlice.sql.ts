import { type Statement, textArray } from '../../db/statement.js';
import {
  counterId,
  type DimensionRollup,
  isCounted,
  isOfPayer,
  keyAndSums,
  keyColumns,
  keyPlaces,
  labelOf,
  lockedMarks,
  METRIC_NAMES,
  markedPayers,
  sourceColumns,
} from '../../schema/dimensionRollups.js';
import type { PayerScope } from '../../schema/unsettled.js';
import {
  isOfSliceUser,
  SLICE_FROM,
  SLICE_UNTIL,
  type Slice,
  sliceLabelOf,
  sliceValues,
} from './compareSlice.sql.js';
import { isComparable } from './days.sql.js';

/** Locks the marks of payers where they are free: the lock of all their counter rows. */
export function lockMarksStatement(
  rollup: DimensionRollup,
  scope: PayerScope,
  ids: readonly string[],
): Statement {
  return {
    name: `microdollar_lock_marks_${labelOf(rollup)}_${scope.name}`,
    text: `/* microdollar.lockMarks */
select u.payer_id as id
from (
  ${lockedMarks(rollup, scope)}
) as u`,
    values: [textArray(ids)],
  };
}

export interface RebuiltPayerRow {
  kilo_user_id: string;
  organization_id: string | null;
  /** Cost of the slice in the counter rows of the user, microdollars. */
  before: string;
  after: string;
  period: string;
  /** Counter rows written or deleted. */
  changed: string;
}

/**
 * Sets the counter rows of locked payers in a slice to what is counted of their raw rows. A new
 * statement after the lock, so that its snapshot has everything that was committed before: nobody
 * folds meanwhile, and what is appended stays behind the mark. Counter rows without raw rows are
 * deleted: nothing else is known of them. A row for each user that changed. Nothing is changed of a day
 * that the archive is at by then, in the same snapshot: its raw rows may be gone.
 */
export function rebuildSliceStatement(
  rollup: DimensionRollup,
  scope: PayerScope,
  lockedIds: readonly string[],
  slice: Slice,
  evenBelowHorizon = false,
): Statement {
  const columns = [...keyColumns(rollup), ...METRIC_NAMES];
  const own = (row: string) =>
    `${isOfPayer(scope, row, 'u.id')} and ${isOfSliceUser(slice, row)}
        and ${row}.${row === 'm' ? 'created_at' : 'period_start'} between ${SLICE_FROM}
          and ${SLICE_UNTIL}`;
  return {
    name: `microdollar_rebuild_${labelOf(rollup)}_${scope.name}${sliceLabelOf(slice)}`,
    text: `/* microdollar.rebuildDimensions */
with payer as materialized (
  ${markedPayers(rollup, scope)}
  where ${isComparable(`'${rollup.name}'`, '$2::date', evenBelowHorizon)}
), truth as materialized (
  select ${counterId(rollup, 't')} as id, t.*
  from (
    select ${keyAndSums(rollup)}
    from payer as u
    cross join lateral (
      select ${sourceColumns(rollup)}
      from microdollar_usage as m
      where ${own('m')}
        and ${isCounted('u')}
    ) as m
    group by ${keyPlaces(rollup)}
  ) as t
), old as materialized (
  select c.*
  from payer as u
  cross join lateral (
    select c.*
    from ${rollup.name} as c
    where ${own('c')}
  ) as c
), deleted as (
  delete from ${rollup.name} as c
  where c.id = any (array(select o.id from old as o where o.id not in (select t.id from truth as t)))
  returning c.kilo_user_id, c.organization_id
), written as (
  insert into ${rollup.name} as c (id, ${columns.join(', ')})
  select t.id, ${columns.map((name) => `t.${name}`).join(', ')}
  from truth as t
  order by t.kilo_user_id, t.period_start
  on conflict (id) do update
  set ${columns.map((name) => `${name} = excluded.${name}`).join(',\n    ')}
  where (${columns.map((name) => `c.${name}`).join(', ')})
    is distinct from (${columns.map((name) => `excluded.${name}`).join(', ')})
  returning c.kilo_user_id, c.organization_id
), part as (
  select kilo_user_id, organization_id, 1 as changed, 0 as before, 0 as after
  from (table deleted union all table written) as c
  union all
  select kilo_user_id, organization_id, 0, cost_microdollars, 0 from old
  union all
  select kilo_user_id, organization_id, 0, 0, cost_microdollars from truth
)
select p.kilo_user_id, p.organization_id, sum(p.changed) as changed, $2::date::text as period,
  sum(p.before) as before, sum(p.after) as after
from part as p
group by p.kilo_user_id, p.organization_id
having sum(p.changed) > 0`,
    values: [textArray(lockedIds), ...sliceValues(slice)],
  };
}
