import { firstTailPositions } from '../schema/dimensionRollups.js';
import { firstPositions, type Log, type PayerScope } from '../schema/unsettled.js';
import { GENERATION, UNKNOWN_GENERATION } from './position.sql.js';

/**
 * Parameter `number`, of which the planner is told nothing: on a host's own connection, whose
 * `plan_cache_mode` is not ours, it saw arrays of one id, expected ten without seeing them, and
 * therefore planned anew for each call, which took longer than the call.
 */
export const unseen = (number: number, type: string): string => `(select $${number}::${type})`;

/** Columns of a payer that a settle works with. */
const PAYER_COLUMNS = (log: Log): string => `u.id, u.microdollars_used, u.settled_below,
      u.settled_except, u.exa_settled_below, u.exa_settled_except, u.${log.below} as below,
      u.${log.except} as except`;

/** The session's base, the end of snapshot S, and what was open in it, as positions (R1). */
export const SNAPSHOT = `select b.base, b.base + txid_snapshot_xmax(txid_current_snapshot()) as ended_below,
      array(select b.base + r from txid_snapshot_xip(txid_current_snapshot()) as r) as running
    from (select ${GENERATION} as base offset 0) as b`;

/** Position of the oldest transaction that is open in snapshot `s`; its end where none is. */
export const oldestOpen = (s: string): string =>
  `least(${s}.ended_below, (select min(r) from unnest(${s}.running) as r))`;

/**
 * Exceptions of payer `u` under its new mark `b.mark` (R2, R3), given CTE `s` of the snapshot. One is
 * kept until it had ended in S. A transaction that was open in S is a new one only at or above the
 * locked mark: below it, a later snapshot than S saw it end.
 * @param open positions that were open in S, of which those below the new mark count
 */
export const exceptionsOf = (open: string): string => `array(
        select e
        from unnest(u.except) as e
        where e >= (select s.ended_below from s)
          or e = any ((select s.running from s)::bigint[])
        union all
        select r
        from unnest(${open}) as r
        where r >= u.below
          and r < b.mark
      )`;

/**
 * The position of the row after the first `limit` of `rows`; null where there are no more. Rows of
 * one transaction stay together, though they be more.
 */
const positionAfter = (rows: string, limit: string, position = 'm.position'): string => `(
        select greatest(m.position, m.first + 1)
        from (
          select ${position} as position, min(${position}) over () as first
          from (
            ${rows}
          ) as m
        ) as m
        order by m.position
        offset ${limit}
        limit 1
      )`;

/** The same of the unsettled rows of payer `u`: no more than the beginning of its tail is read. */
export const unsettledAfter = (log: Log, scope: PayerScope, limit: string): string =>
  positionAfter(firstPositions(log, scope, 'u', `${limit} + 1`), limit);

/** The same of what a rollup by dimension, or budgets, have not counted, by |position|. */
export const tailAfter = (scope: PayerScope, limit: string): string =>
  positionAfter(firstTailPositions(scope, 'u', `${limit} + 1`), limit, 'abs(m.position)');

/**
 * The head of every settle: which payers, and how far their mark may rise in snapshot S (R1-R4).
 * $1 payers, $2 whether to fold each, $3 how young an open transaction may be and hold the mark,
 * in transaction ids, $4 most rows to fold of a payer, null = all. A transaction's rows are folded
 * together, though they be more.
 *
 *   s        S as positions: `mark`, the oldest open transaction that is young, else the end of S
 *   older    the open ones below the mark, which become exceptions
 *   locked   payers to fold whose row was free. Mark and exceptions are those of the locked version,
 *            which may be newer than S
 *   payer    the same with their new mark and exceptions, and the others as S shows them
 *
 * No fold in a cluster that the ledger does not know (R6).
 */
export function payerMarks(log: Log, scope: PayerScope): string {
  return `s as materialized (
  select x.base, x.ended_below, x.running,
    coalesce((select min(r) from unnest(x.running) as r where r >= x.ended_below - $3::bigint),
      x.ended_below) as mark
  from (
    ${SNAPSHOT}
    offset 0
  ) as x
), older as materialized (
  select array(select r from s, unnest(s.running) as r where r < s.mark) as running
), locked as materialized (
  select u.*
  from unnest(${unseen(1, `${scope.idType}[]`)}, ${unseen(2, 'boolean[]')}) as t(id, is_folded)
  cross join lateral (
    select ${PAYER_COLUMNS(log)}
    from ${scope.payers} as u
    where u.id = t.id
      and t.is_folded
      and (select s.base from s) < ${UNKNOWN_GENERATION}
    for no key update of u skip locked
  ) as u
), payer as materialized (
  select u.*, greatest(u.below, b.mark) as new_below,
    case when u.except = '{}' and (select o.running from older as o) = '{}' then '{}'
      else ${exceptionsOf('(select o.running from older as o)::bigint[]')} end as new_except
  from locked as u
  cross join lateral (
    select case when ${unseen(4, 'integer')} is null then (select s.mark from s)
      else least((select s.mark from s),
        ${unsettledAfter(log, scope, unseen(4, 'integer'))}) end as mark
  ) as b
  union all
  select u.*, 0, '{}'
  from unnest(${unseen(1, `${scope.idType}[]`)}) as t(id)
  cross join lateral (
    select ${PAYER_COLUMNS(log)}
    from ${scope.payers} as u
    where u.id = t.id
    limit 1
  ) as u
  where t.id <> all (array(select l.id from locked as l))
)`;
}

/** Rows `m` of payer `u` that this settle moves, given the payer's columns above. */
export const SETTLES = 'm.position < u.new_below and m.position <> all (u.new_except)';

/** Counter rows hold 64 bits: what would pass this is left unsettled, and stays exact. */
export const COUNTER_LIMIT = '9200000000000000000';
