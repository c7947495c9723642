import { type Statement, textArray } from '../db/statement.js';
import {
  counterId,
  type DimensionRollup,
  keyAndSums,
  keyColumns,
  labelOf,
  lockedMarks,
  METRIC_NAMES,
  markColumns,
  sourceColumns,
  startOf,
  tailRows,
  tailRowsBelow,
} from '../schema/dimensionRollups.js';
import type { PayerScope } from '../schema/unsettled.js';
import { exceptionsOf, SNAPSHOT, tailAfter } from './marks.sql.js';
import { GENERATION, UNKNOWN_GENERATION } from './position.sql.js';

/**
 * Starts a rollup, once: what had ended is history, the rest is folded from the log. Not in a cluster
 * that the ledger does not know (R6), for its positions lie above every later mark.
 */
export function startRollupStatement(rollup: DimensionRollup): Statement {
  return {
    name: `microdollar_start_${labelOf(rollup)}`,
    text: `/* microdollar.startRollup */
insert into rollup_starts (rollup, position, started_at)
select '${rollup.name}', b.base + txid_snapshot_xmin(txid_current_snapshot()), now()
from (select ${GENERATION} as base offset 0) as b
where b.base < ${UNKNOWN_GENERATION}
  and not exists (select from rollup_starts as r where r.rollup = '${rollup.name}')
on conflict do nothing`,
    values: [],
  };
}

/** Marks for payers that have none, at the rollup's start. One row: `opened`. */
export function openMarksStatement(
  rollup: DimensionRollup,
  scope: PayerScope,
  ids: readonly string[],
): Statement {
  return {
    name: `microdollar_open_marks_${labelOf(rollup)}_${scope.name}`,
    text: `/* microdollar.openMarks */
with opened as (
  insert into rollup_marks (rollup, payer_scope, payer_id, settled_below)
  select '${rollup.name}', '${scope.name}', t.id, ${startOf(rollup)}
  from unnest($1::text[]) as t(id)
  where exists (select from rollup_starts as r where r.rollup = '${rollup.name}')
  order by t.id
  on conflict do nothing
  returning payer_id
)
select count(*)::integer as opened from opened`,
    values: [textArray(ids)],
  };
}

const ofPayer = (name: string): string =>
  `((select x.${name} from new_mark as x))[
      array_position((select x.ids from new_mark as x), k.payer_id)]`;

export interface FoldedRow {
  id: string;
  /** Rows of the log counted by this statement. */
  folded: string;
  /** The mark stopped before the end: there may be more. */
  has_more: boolean;
}

/**
 * Folds the tails of payers into the counter rows of a rollup and raises their marks, in one
 * statement. The payer's mark is the lock of all its counter rows: whoever writes them holds it, so
 * the upsert waits for nobody but a foreign lock, and then fails as a whole: the tails stay (R4).
 * $1 payers, $2 most rows to fold of a payer. New rows of a payer lie side by side, in order of time, as
 * reports read them; by id they would be on a page each.
 *
 *   s        the end of the snapshot, and what was open in it, as positions (R1)
 *   locked   marks that were free, of the locked version
 *   payer    the same with their new mark and exceptions; every open transaction below is one (R3)
 *   part     what had ended, summed by key (R2)
 *   written, marked   counter rows, then marks; these by arrays of their keys, and by nothing else, so
 *            that no statistics can make it a join that reads the table
 */
export function foldStatement(
  rollup: DimensionRollup,
  scope: PayerScope,
  ids: readonly string[],
  rowsPerPayer: number,
): Statement {
  const columns = [...keyColumns(rollup), ...METRIC_NAMES];
  return {
    name: `microdollar_fold_${labelOf(rollup)}_${scope.name}`,
    text: `/* microdollar.foldRollup ${scope.name} */
with s as materialized (
  ${SNAPSHOT}
), locked as materialized (
  select u.*
  from (
    ${lockedMarks(rollup, scope)}
  ) as u
  where (select s.base from s) < ${UNKNOWN_GENERATION}
), payer as materialized (
  select u.*, b.mark < (select s.ended_below from s) as has_more,
    greatest(u.below, b.mark) as new_below,
    ${exceptionsOf('(select s.running from s)::bigint[]')} as new_except
  from locked as u
  cross join lateral (
    select least((select s.ended_below from s),
      ${tailAfter(scope, '$2::integer')}) as mark
    offset 0
  ) as b
), part as materialized (
  select u.id as payer, ${keyAndSums(rollup)}
  from payer as u
  cross join lateral (
    select m.*
    from (
      ${tailRowsBelow(scope, sourceColumns(rollup), 'u', 'u.new_below')}
    ) as m
    where abs(m.position) < u.new_below
      and abs(m.position) <> all (u.new_except)
  ) as m
  group by u.id, ${keyColumns(rollup)
    .map((_, index) => index + 2)
    .join(', ')}
), written as (
  insert into ${rollup.name} as t (id, ${columns.join(', ')})
  select ${counterId(rollup, 'p')}, ${columns.map((name) => `p.${name}`).join(', ')}
  from part as p
  order by p.payer, p.kilo_user_id, p.period_start
  on conflict (id) do update
  set ${METRIC_NAMES.map((name) => `${name} = t.${name} + excluded.${name}`).join(',\n    ')}
), new_mark as materialized (
  select array_agg(u.payer_id) as ids, array_agg(u.new_below) as belows,
    array_agg(u.new_except::text) as excepts
  from payer as u
), marked as (
  update rollup_marks as k
  set settled_below = ${ofPayer('belows')},
    settled_except = ${ofPayer('excepts')}::bigint[]
  where k.rollup = '${rollup.name}'
    and k.payer_scope = '${scope.name}'
    and k.payer_id = any ((select x.ids from new_mark as x)::text[])
)
select u.payer_id as id, u.has_more,
  coalesce((select sum(p.requests) from part as p where p.payer = u.id), 0) as folded
from payer as u`,
    values: [textArray(ids), rowsPerPayer],
  };
}

export interface SweptTailsRow {
  /** Last payer of the page; null when there are no more. */
  last_id: string | null;
  payers: number;
  /** Those with a tail. */
  ids: string[];
}

/**
 * A page of payers, and which of them have rows that are not counted yet. The first page is a text of its
 * own, as of a sweep (sweep.sql.ts). `offset 0`: the mark of a payer is looked up by all of its key. As a
 * join, planned while there are few marks, every mark is read for every payer.
 */
export function sweepTailsStatement(
  rollup: DimensionRollup,
  scope: PayerScope,
  afterId: string | null,
  limit: number,
): Statement {
  const isFirst = afterId === null;
  return {
    name: `microdollar_sweep_${labelOf(rollup)}_${scope.name}${isFirst ? '' : '_after'}`,
    text: `/* microdollar.sweepRollup ${scope.name} */
with page as materialized (
  select u.id
  from ${scope.payers} as u${isFirst ? '' : `\n  where u.id > $2::${scope.idType}`}
  order by u.id
  limit $1::integer
), marked as materialized (
  select u.id, ${markColumns('k', startOf(rollup))}
  from page as u
  left join lateral (
    select k.*
    from rollup_marks as k
    where k.rollup = '${rollup.name}'
      and k.payer_scope = '${scope.name}'
      and k.payer_id = u.id::text
    offset 0
  ) as k on true
)
select (select u.id::text from page as u order by u.id desc limit 1) as last_id,
  (select count(*)::integer from page) as payers,
  array(
    select u.id::text
    from marked as u
    where exists (
      ${tailRows(scope, '1', 'u')}
    )
  ) as ids`,
    values: isFirst ? [limit] : [limit, afterId],
  };
}
