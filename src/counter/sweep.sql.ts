import type { Statement } from '../db/statement.js';
import {
  EXA_LOG,
  type Log,
  type PayerScope,
  USAGE_LOG,
  unsettledRows,
} from '../schema/unsettled.js';
import { GENERATION, UNKNOWN_GENERATION } from './position.sql.js';

export interface SweptPageRow {
  /** Last payer of the page; null when there are no more. */
  last_id: string | null;
  payers: number;
  /** Those with unsettled rows, in either log. */
  ids: string[] | null;
  depth: string;
  /** Lowest position of an unsettled row, in either log. */
  lowest: string | null;
  /** Unsettled rows by their own time, where they have one, ms ago. */
  oldest_age_ms: string | null;
}

const tailOf = (log: Log, scope: PayerScope): string => `select count(*) as depth,
      min(m.position) as lowest, min(m.created_at) filter (where isfinite(m.created_at)) as oldest
    from (
      ${unsettledRows(log, scope, 'm.position, m.created_at', 'u')}
    ) as m`;

/**
 * A page of payers, each asked for its tail by one descent of the index. The first page is a text of
 * its own: `$ is null or id > $`, planned once for both, reads every page before it.
 */
function pageText(scope: PayerScope, isFirst: boolean): string {
  return `/* microdollar.sweep ${scope.name} */
with page as materialized (
  select u.id, u.settled_below, u.settled_except, u.exa_settled_below, u.exa_settled_except
  from ${scope.payers} as u${isFirst ? '' : `\n  where u.id > $2::${scope.idType}`}
  order by u.id
  limit $1::integer
), tail as materialized (
  select u.id, m.depth + x.depth as depth, least(m.lowest, x.lowest) as lowest,
    least(m.oldest, x.oldest) as oldest
  from page as u
  cross join lateral (
    ${tailOf(USAGE_LOG, scope)}
  ) as m
  cross join lateral (
    ${tailOf(EXA_LOG, scope)}
  ) as x
  where m.depth + x.depth > 0
)
select (select u.id::text from page as u order by u.id desc limit 1) as last_id,
  (select count(*)::integer from page) as payers,
  (select array_agg(t.id::text) from tail as t) as ids,
  (select coalesce(sum(t.depth), 0) from tail as t) as depth,
  (select min(t.lowest) from tail as t) as lowest,
  (select (extract(epoch from clock_timestamp() - min(t.oldest)) * 1000)::bigint from tail as t)
    as oldest_age_ms`;
}

export function sweepPageStatement(
  scope: PayerScope,
  afterId: string | null,
  limit: number,
): Statement {
  const isFirst = afterId === null;
  return {
    name: `microdollar_sweep_${scope.name}${isFirst ? '' : '_after'}`,
    text: pageText(scope, isFirst),
    values: isFirst ? [limit] : [limit, afterId],
  };
}

/** Ends of transactions at one moment; both null in an unknown cluster (R6). */
export interface EndedRow {
  /** Every transaction below had ended. */
  position: string | null;
  /** None had begun from here on. */
  begun: string | null;
  /** When the settings were last changed, other than by a sweep; µs since the epoch. */
  changed_at: string;
}

/**
 * `begun` is an id of this statement's own, given after its snapshot was taken: the end of a snapshot
 * lies behind the youngest transaction that has ended, and younger ones may be open.
 */
export const ENDED_STATEMENT: Statement = {
  name: 'microdollar_ended_below',
  text: `/* microdollar.endedBelow */
select case when b.base < ${UNKNOWN_GENERATION}
  then b.base + txid_snapshot_xmin(txid_current_snapshot()) end as position,
  case when b.base < ${UNKNOWN_GENERATION}
  then b.base + txid_current() end as begun,
  (
    select (extract(epoch from s.updated_at) * 1000000)::bigint
    from ledger_settings as s
    where s.id = 1
  ) as changed_at
from (select ${GENERATION} as base offset 0) as b`,
  values: [],
};

/**
 * Notes what a whole sweep proved, unless the settings were changed since it began: payers may have
 * come that it did not see (functions/microdollar_note_new_payers.sql). Raises only.
 */
export function noteSweepStatement(
  settledBelow: string,
  endedBelow: string,
  changedAt: string,
): Statement {
  return {
    name: 'microdollar_note_sweep',
    text: `/* microdollar.noteSweep */
update ledger_settings as s
set settled_everywhere_below = case
    when (extract(epoch from s.updated_at) * 1000000)::bigint = $3::bigint
    then greatest(s.settled_everywhere_below, $1::bigint)
    else s.settled_everywhere_below end,
  position_seen = greatest(s.position_seen, $2::bigint),
  swept_at = now()
where s.id = (
  select l.id from ledger_settings as l where l.id = 1 for no key update skip locked
)`,
    values: [settledBelow, endedBelow, changedAt],
  };
}
