import { plainArray, type Statement, textArray } from '../db/statement.js';

export interface PendingPayerRow {
  kilo_user_id: string | null;
  organization_id: string | null;
  /** Pending rows. */
  depth: string;
  oldest_xid: string;
  oldest_age_ms: string;
  /** Pending rows of every payer from `fromXid` on, also of those past the limit. */
  total_depth: string;
  /** Every transaction below this has ended, in this statement's snapshot. */
  snapshot_xmin: string;
}

/**
 * Payers with pending rows, oldest first. `fromXid` skips what earlier passes saw drained, so that
 * a pass stays cheap while an old snapshot keeps dead rows from being vacuumed. `offset` skips
 * payers that this pass could not drain, which stay first in line.
 */
export function findPendingPayersStatement(fromXid: string, limit: number, offset = 0): Statement {
  return {
    name: 'microdollar_find_pending_payers',
    text: `/* microdollar.findPendingPayers */
select case when p.organization_id is null then p.kilo_user_id end as kilo_user_id,
  p.organization_id::text as organization_id,
  count(*) as depth,
  min(p.xid)::text as oldest_xid,
  greatest(0, extract(epoch from clock_timestamp() - min(p.created_at)) * 1000)::bigint
    as oldest_age_ms,
  sum(count(*)) over () as total_depth,
  pg_snapshot_xmin(pg_current_snapshot())::text as snapshot_xmin
from microdollar_usage_pending as p
where p.xid >= $1::xid8
group by 1, 2
order by min(p.xid), 1, 2
limit $2::integer
offset $3::integer`,
    values: [fromXid, limit, offset],
  };
}

/** Each takes an advisory lock, and the shared lock table is finite; the rest waits a pass. */
const KEYS_PER_STATEMENT = 512;

/**
 * Creates the missing counter rows of payers with pending rows, at zero, in a transaction of its
 * own: rule 1. Never waits: a key that another transaction is creating is left for later.
 */
export function openCountersStatement(
  kiloUserIds: readonly string[],
  organizationIds: readonly string[],
  limit: number,
): Statement {
  return {
    name: 'microdollar_open_counters',
    text: `/* microdollar.openCounters */
with pending as materialized (
  select p.*
  from unnest($1::text[]) as t(id)
  join kilocode_users as u on u.id = t.id
  cross join lateral (
    select kilo_user_id, organization_id, usage_date, exa_month, free_allowance_microdollars, xid
    from microdollar_usage_pending
    where (kilo_user_id, xid) >= (t.id, u.pending_floor)
      and kilo_user_id <= t.id
      and organization_id is null
    order by kilo_user_id, xid
    limit $3::integer
  ) as p
  union all
  select p.*
  from unnest($2::uuid[]) as t(id)
  join organizations as o on o.id = t.id
  cross join lateral (
    select kilo_user_id, organization_id, usage_date, exa_month, free_allowance_microdollars, xid
    from microdollar_usage_pending
    where (organization_id, xid) >= (t.id, o.pending_floor)
      and organization_id <= t.id
    order by organization_id, xid
    limit $3::integer
  ) as p
), daily_key as materialized (
  select distinct kilo_user_id, organization_id, usage_date
  from pending
  where usage_date is not null
  limit ${KEYS_PER_STATEMENT}
), exa_key as materialized (
  select distinct on (kilo_user_id, organization_id, exa_month)
    kilo_user_id, organization_id, exa_month, free_allowance_microdollars
  from pending
  where exa_month is not null
  order by kilo_user_id, organization_id, exa_month, xid
  limit ${KEYS_PER_STATEMENT}
)
select (
  select count(*) filter (
    where microdollar_open_daily(k.kilo_user_id, k.organization_id, k.usage_date, 0))
  from daily_key as k
) + (
  select count(*) filter (where microdollar_open_exa_month(
    k.kilo_user_id, k.organization_id, k.exa_month, k.free_allowance_microdollars))
  from exa_key as k
) as opened`,
    values: [textArray(kiloUserIds), plainArray(organizationIds), limit],
  };
}

export interface DrainedRow {
  /** Pending rows moved into their counter rows. */
  drained: string;
  /** Pending rows seen but left: their counter row is missing, or locked by someone else. */
  left: string;
  /** Payers that they, or a locked payer row, belong to. */
  left_payers: string;
}

/**
 * Moves pending rows of payers into their counter rows.
 *
 * CTEs in reading order:
 *   user_lock, organization_lock   payers whose row could be locked at once (rule 1: only the
 *             holder of that lock deletes the payer's pending rows)
 *   batch     their oldest pending rows, a bounded number per payer, from the floor on: as a
 *             range of (payer, xid), which only one index fits (migration 0007)
 *   counter_key   the same by counter row, with their places (ctid: pending rows never move)
 *   locked_key    + the counter row, where it exists and could be locked at once
 *   drained   those rows, deleted; all amounts derive from this RETURNING, for a row of the
 *             snapshot may have been drained by another fold before the payer's lock was had
 *   daily_updated, exa_updated     counter rows; Exa's charged part follows from the new total
 *   user_updated, organization_updated   balances, and the floor: nothing of the payer is pending
 *             below it. A row with xid < xmin of this snapshot is visible to it, so it is
 *             in `batch` unless cut off by the limit, which lowers the floor as left rows do
 * Rows are updated by an array of ids, which only their index can serve: a join, planned while the
 * tables were small, may read a whole index for each row. The arrays are uncorrelated
 * subqueries: those are not run again for a row that moved on since the snapshot (EvalPlanQual).
 * Locks are only taken where they are free, so a fold neither waits nor deadlocks.
 */
export function drainStatement(
  kiloUserIds: readonly string[],
  organizationIds: readonly string[],
  limit: number,
): Statement {
  return {
    name: 'microdollar_drain',
    text: `/* microdollar.drain */
with user_lock as materialized (
  select u.*
  from unnest($1::text[]) as t(id)
  cross join lateral (
    select u.id, u.pending_floor
    from kilocode_users as u
    where u.id = t.id
    for no key update of u skip locked
  ) as u
), organization_lock as materialized (
  select o.*
  from unnest($2::uuid[]) as t(id)
  cross join lateral (
    select o.id, o.pending_floor
    from organizations as o
    where o.id = t.id
    for no key update of o skip locked
  ) as o
), batch as materialized (
  select p.*
  from user_lock as u
  cross join lateral (
    select p.ctid as place, p.xid, p.kilo_user_id, p.organization_id, p.usage_date, p.exa_month
    from microdollar_usage_pending as p
    where (p.kilo_user_id, p.xid) >= (u.id, u.pending_floor)
      and p.kilo_user_id <= u.id
      and p.organization_id is null
    order by p.kilo_user_id, p.xid
    limit $3::integer
  ) as p
  union all
  select p.*
  from organization_lock as o
  cross join lateral (
    select p.ctid as place, p.xid, p.kilo_user_id, p.organization_id, p.usage_date, p.exa_month
    from microdollar_usage_pending as p
    where (p.organization_id, p.xid) >= (o.id, o.pending_floor)
      and p.organization_id <= o.id
    order by p.organization_id, p.xid
    limit $3::integer
  ) as p
), counter_key as materialized (
  select kilo_user_id, organization_id, usage_date, exa_month, array_agg(place) as places,
    count(*) as depth, min(xid) as min_xid, max(xid) as max_xid
  from batch
  group by 1, 2, 3, 4
), locked_key as materialized (
  select k.*, coalesce(du.id, dorg.id, eu.id, eorg.id) as counter_id,
    coalesce(eu.charged, eorg.charged) as charged
  from counter_key as k
  left join lateral (
    select d.id
    from microdollar_usage_daily as d
    where k.organization_id is null
      and d.kilo_user_id = k.kilo_user_id
      and d.organization_id is null
      and d.usage_date = k.usage_date
    for no key update of d skip locked
  ) as du on true
  left join lateral (
    select d.id
    from microdollar_usage_daily as d
    where d.kilo_user_id = k.kilo_user_id
      and d.organization_id = k.organization_id
      and d.usage_date = k.usage_date
    for no key update of d skip locked
  ) as dorg on true
  left join lateral (
    select e.id, e.total_charged_microdollars as charged
    from exa_monthly_usage as e
    where k.organization_id is null
      and e.kilo_user_id = k.kilo_user_id
      and e.organization_id is null
      and e.month = k.exa_month
    for no key update of e skip locked
  ) as eu on true
  left join lateral (
    select e.id, e.total_charged_microdollars as charged
    from exa_monthly_usage as e
    where e.kilo_user_id = k.kilo_user_id
      and e.organization_id = k.organization_id
      and e.month = k.exa_month
    for no key update of e skip locked
  ) as eorg on true
), drained as (
  delete from microdollar_usage_pending as p
  using (
    select k.counter_id, k.charged, unnest(k.places) as place
    from locked_key as k
    where k.counter_id is not null
  ) as t
  where p.ctid = t.place
  returning t.counter_id, t.charged, p.kilo_user_id, p.organization_id, p.usage_date,
    p.cost_microdollars, p.request_count
), daily_sum as materialized (
  select array_agg(counter_id) as ids, array_agg(cost) as costs
  from (
    select counter_id, sum(cost_microdollars)::bigint as cost
    from drained
    where usage_date is not null
    group by counter_id
  ) as s
), daily_updated as (
  update microdollar_usage_daily as d
  set total_cost_microdollars = d.total_cost_microdollars
      + ((select costs from daily_sum)::bigint[])[
      array_position((select ids from daily_sum)::uuid[], d.id)],
    updated_at = now()
  where d.id = any ((select ids from daily_sum)::uuid[])
), exa_updated as (
  update exa_monthly_usage as e
  set total_cost_microdollars = e.total_cost_microdollars + s.cost,
    total_charged_microdollars = greatest(0,
      e.total_cost_microdollars + s.cost - e.free_allowance_microdollars),
    request_count = e.request_count + s.requests,
    updated_at = now()
  from (
    select counter_id, charged, sum(cost_microdollars)::bigint as cost,
      sum(request_count)::integer as requests
    from drained
    where usage_date is null
    group by counter_id, charged
  ) as s
  where e.id = s.counter_id
  returning e.kilo_user_id, e.organization_id,
    e.total_charged_microdollars - s.charged as cost_microdollars
), balance_delta as materialized (
  select kilo_user_id, organization_id, cost_microdollars
  from drained
  where usage_date is not null
  union all
  select kilo_user_id, organization_id, cost_microdollars
  from exa_updated
), user_floor as materialized (
  select kilo_user_id,
    least(
      pg_snapshot_xmin(pg_current_snapshot()),
      min(min_xid) filter (where counter_id is null),
      case when sum(depth) >= $3::integer then max(max_xid) end) as floor
  from locked_key
  where organization_id is null
  group by kilo_user_id
), organization_floor as materialized (
  select organization_id,
    least(
      pg_snapshot_xmin(pg_current_snapshot()),
      min(min_xid) filter (where counter_id is null),
      case when sum(depth) >= $3::integer then max(max_xid) end) as floor
  from locked_key
  where organization_id is not null
  group by organization_id
), user_sum as materialized (
  select array_agg(f.kilo_user_id) as ids, array_agg(coalesce(s.cost, 0)::bigint) as costs,
    array_agg(f.floor) as floors
  from user_floor as f
  left join (
    select kilo_user_id, sum(cost_microdollars)::bigint as cost
    from balance_delta
    where organization_id is null
    group by kilo_user_id
  ) as s on s.kilo_user_id = f.kilo_user_id
), user_updated as (
  update kilocode_users as u
  set microdollars_used = u.microdollars_used + ((select costs from user_sum)::bigint[])[
      array_position((select ids from user_sum)::text[], u.id)],
    pending_floor = greatest(u.pending_floor, ((select floors from user_sum)::xid8[])[
      array_position((select ids from user_sum)::text[], u.id)])
  where u.id = any ((select ids from user_sum)::text[])
), organization_sum as materialized (
  select array_agg(f.organization_id) as ids, array_agg(coalesce(s.cost, 0)::bigint) as costs,
    array_agg(f.floor) as floors
  from organization_floor as f
  left join (
    select organization_id, sum(cost_microdollars)::bigint as cost
    from balance_delta
    where organization_id is not null
    group by organization_id
  ) as s on s.organization_id = f.organization_id
), organization_updated as (
  update organizations as o
  set microdollars_used = o.microdollars_used + ((select costs from organization_sum)::bigint[])[
      array_position((select ids from organization_sum)::uuid[], o.id)],
    pending_floor = greatest(o.pending_floor, ((select floors from organization_sum)::xid8[])[
      array_position((select ids from organization_sum)::uuid[], o.id)])
  where o.id = any ((select ids from organization_sum)::uuid[])
)
select (select count(*) from drained) as drained,
  (select coalesce(sum(depth), 0) from locked_key where counter_id is null)
    + cardinality($1::text[]) - (select count(*) from user_lock)
    + cardinality($2::uuid[]) - (select count(*) from organization_lock) as left,
  (select count(distinct coalesce(organization_id::text, kilo_user_id))
    from locked_key where counter_id is null)
    + cardinality($1::text[]) - (select count(*) from user_lock)
    + cardinality($2::uuid[]) - (select count(*) from organization_lock) as left_payers`,
    values: [textArray(kiloUserIds), plainArray(organizationIds), limit],
  };
}
