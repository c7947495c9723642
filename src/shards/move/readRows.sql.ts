import { GENERATION } from '../../counter/position.sql.js';
import { plainArray, type Statement } from '../../db/statement.js';
import { LOOKUP_NAMES } from '../../schema/lookupNames.js';
import {
  EXA_LOG,
  type Log,
  type PayerScope,
  payerKeySql,
  USAGE_LOG,
} from '../../schema/unsettled.js';
import { isLateFor, isPaidBy } from './payerTables.js';

/** Rows of a log on their way, as JSON text: what passes through is never a JavaScript number. */
export interface RowsPage {
  count: number;
  rows: string;
  /** Of usage: with lookup values in place of the ids of this shard. */
  metadata: string;
  /** Users whose rows they are. */
  users: string;
  /** Exa: months with the allowance that they were made with. */
  months: string;
  /** Of the last row, by the order of the page. */
  last_created_at: string | null;
  last_position: string | null;
  last_id: string | null;
}

/** Where a pass through the history stands. */
export interface HistoryCursor {
  created_at: string;
  id: string;
}

export const START_OF_HISTORY: HistoryCursor = {
  created_at: '-infinity',
  id: '00000000-0000-0000-0000-000000000000',
};

/** An expiry that is written soon may find usage late that was copied before. */
const SOON = `interval '1 hour'`;

const LOOKUPS = LOOKUP_NAMES.map(
  (name) => `'${name}', (select l.${name} from ${name} as l where l.${name}_id = d.${name}_id)`,
).join(',\n        ');
const LOOKUP_IDS = LOOKUP_NAMES.map((name) => `${name}_id`).join(',');

/** What is read of the rows of CTE `page`. */
const answer = (log: Log, scope: PayerScope, order: string): string => {
  const metadata = `(
    select coalesce(jsonb_agg(to_jsonb(d) - '{${LOOKUP_IDS}}'::text[] || jsonb_build_object(
      'lookup_values', coalesce(d.lookup_values, '{}') || jsonb_strip_nulls(jsonb_build_object(
        ${LOOKUPS}
      )))), '[]')
    from microdollar_usage_metadata as d
    where d.id in (select m.id from page as m)
  )::text`;
  const months = `(
    select coalesce(jsonb_agg(jsonb_build_object('kilo_user_id', e.kilo_user_id,
      'organization_id', e.organization_id, 'month', e.month,
      'free_allowance_microdollars', e.free_allowance_microdollars)), '[]')
    from exa_monthly_usage_exact as e
    where ${isPaidBy(scope, 'e')}
      and (e.kilo_user_id, e.month) in (
        select m.kilo_user_id, date_trunc('month', m.created_at at time zone 'UTC')::date
        from page as m)
  )::text`;
  return `select (select count(*)::integer from page) as count,
  (select coalesce(jsonb_agg(to_jsonb(m) order by m.id), '[]') from page as m)::text as rows,
  ${log === USAGE_LOG ? metadata : `'[]'`} as metadata,
  ${log === EXA_LOG ? months : `'[]'`} as months,
  (
    select coalesce(jsonb_agg(jsonb_build_object('id', u.id, 'deleted_at', u.deleted_at)), '[]')
    from kilocode_users as u
    where u.id in (select m.kilo_user_id from page as m)
  )::text as users,
  last.*
from (select) as one
left join lateral (
  select to_json(m.created_at) #>> '{}' as last_created_at, abs(m.position)::text as last_position,
    m.id as last_id
  from page as m
  order by ${order}
  limit 1
) as last on true`;
};

const expiry = (scope: PayerScope): string => `select from credit_expiries as e
        where e.payer_scope = '${scope.name}'
          and e.payer_id = $1::text`;

/**
 * Usage that an expiry may find late is copied last, apart from the rest: at the target too an expiry tells
 * it by its position. $n the position where the move began.
 */
const isLeft = (scope: PayerScope, began: string): string => `exists (
      ${expiry(scope)}
          and m.created_at < e.expires_at
          and e.closed_at is null
          and ((abs(m.position) >= ${began} and e.expires_at <= now() + ${SOON})
            or (${isLateFor('m', 'e')}))
    )`;

const isLate = (scope: PayerScope): string => `exists (
      ${expiry(scope)}
          and ${isLateFor('m', 'e')}
    )`;

/** The next rows by time, of those from before the move. `began`: where it began, as a position. */
export function readHistoryStatement(
  log: Log,
  scope: PayerScope,
  id: string,
  { after, began, limit }: { after: HistoryCursor; began: string; limit: number },
): Statement {
  const left = log === USAGE_LOG ? `\n    and not ${isLeft(scope, '$5::bigint')}` : '';
  return {
    name: `shards_read_history_${log.table}_${scope.name}`,
    text: `/* shards.readHistory */
with page as materialized (
  select m.*
  from ${log.table} as m
  where ${isPaidBy(scope, 'm')}
    and m.created_at >= $2::timestamptz
    and (m.created_at, m.id) > ($2::timestamptz, $3::uuid)
    and (m.position is null or abs(m.position) < $5::bigint)${left}
  order by m.created_at, m.id
  limit $4::integer
)
${answer(log, scope, 'm.created_at desc, m.id desc')}`,
    values: [id, after.created_at, after.id, limit, began],
  };
}

export interface RecentCursor {
  position: string;
  id: string;
}

/** Positions of a pass; `began` where the move began. */
export interface RecentRange {
  /** Everything below has ended, so this is all of it. */
  until: string;
  began: string;
}

/**
 * Rows after a position, in the order of their positions: those from after the beginning of the move have
 * one, but for other programs'. Without a range everything, under the fence: nobody writes any more, and
 * late usage alone is left.
 */
export function readRecentStatement(
  log: Log,
  scope: PayerScope,
  id: string,
  { after, range, limit }: { after: RecentCursor; range: RecentRange | null; limit: number },
): Statement {
  const isFenced = range === null;
  const left =
    log === EXA_LOG
      ? ''
      : `\n    and not ${isFenced ? isLate(scope) : isLeft(scope, '$6::bigint')}`;
  const rows = (bounds: string): string => `select m.*
    from ${log.table} as m
    where ${payerKeySql('m')} = ${scope.keyOf('k')}
      and ${scope.owns('m', 'k')}
      and m.position is not null
      and ${bounds}`;
  return {
    name: `shards_read_recent_${log.table}_${scope.name}${isFenced ? '_fenced' : ''}`,
    text: `/* shards.readRecent */
with page as materialized (
  select m.*
  from (select $1::${scope.idType} as id) as k
  cross join lateral (
    ${rows(`m.position >= $2::bigint${isFenced ? '' : ' and m.position < $5::bigint'}`)}
    union all
    ${rows(`m.position <= -$2::bigint${isFenced ? '' : ' and m.position > -$5::bigint'}`)}
  ) as m
  where (abs(m.position), m.id) > ($2::bigint, $3::uuid)${left}${
    isFenced ? '' : '\n    and $6::bigint is not null'
  }
  order by abs(m.position), m.id
  limit $4::integer
)
${answer(log, scope, 'abs(m.position) desc, m.id desc')}`,
    values: [id, after.position, after.id, limit, ...(range ? [range.until, range.began] : [])],
  };
}

/** Rows by their ids, whatever else is true of them. */
export function readByIdStatement(
  log: Log,
  scope: PayerScope,
  id: string,
  ids: readonly string[],
): Statement {
  return {
    name: `shards_read_by_id_${log.table}_${scope.name}`,
    text: `/* shards.readById */
with page as materialized (
  select m.*
  from ${log.table} as m
  where m.id = any ($2::uuid[])
    and ${isPaidBy(scope, 'm')}
)
${answer(log, scope, 'm.id desc')}`,
    values: [id, plainArray(ids)],
  };
}

/** One row where an expiry may have kept usage from being copied (`isLeft`). */
export function findExpiriesStatement(scope: PayerScope, id: string): Statement {
  return {
    name: `shards_find_expiries_${scope.name}`,
    text: `/* shards.findExpiries */
${expiry(scope)}
          and e.closed_at is null
          and e.expires_at <= now() + ${SOON}
limit 1`,
    values: [id],
  };
}

/** Late usage, those together that the same expiries find late. Rows of `ids`. */
export function readLateStatement(scope: PayerScope, id: string): Statement {
  return {
    name: `shards_read_late_${scope.name}`,
    text: `/* shards.readLate */
select array_agg(late.id) as ids
from (
  select m.id, array_agg(e.grant_id order by e.grant_id) as grants
  from credit_expiries as e
  join microdollar_usage as m
    on ${isPaidBy(scope, 'm')}
    and ${isLateFor('m', 'e')}
  where e.payer_scope = '${scope.name}'
    and e.payer_id = $1::text
  group by m.id
) as late
group by late.grants`,
    values: [id],
  };
}

/** Users with usage that the payer paid, by its counters, who are deleted. */
export function deletedUsersStatement(scope: PayerScope, id: string): Statement {
  return {
    name: `shards_deleted_users_${scope.name}`,
    text: `/* shards.deletedUsers */
select u.id
from kilocode_users as u
where u.deleted_at is not null
  and u.id in (
    select r.kilo_user_id from microdollar_usage_daily as r where ${isPaidBy(scope)}
    union
    select r.kilo_user_id
    from microdollar_usage_daily_by_dimension as r
    where ${isPaidBy(scope)}
    union
    select r.kilo_user_id from exa_monthly_usage as r where ${isPaidBy(scope)}
  )
order by u.id`,
    values: [id],
  };
}

/** Below it every transaction has ended: what is not seen from now on lies there, or above. */
export const OLDEST_POSITION: Statement = {
  name: 'shards_oldest_position',
  text: `/* shards.oldestPosition */
select (b.base + txid_snapshot_xmin(txid_current_snapshot()))::text as position
from (select ${GENERATION} as base offset 0) as b`,
  values: [],
};
