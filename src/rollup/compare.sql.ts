import { COUNTER_LIMIT } from '../counter/marks.sql.js';
import type { Statement } from '../db/statement.js';
import { type Rollup, withinPeriod } from '../schema/rollups.js';
import { isInCounters, lowWater, sameOrganization } from './settled.sql.js';

/**
 * How the raw rows of a chunk are reached:
 * - `period`: every raw row of the period, by the index on created_at
 * - `users`: the next `userLimit` users after `userAfter`, each by (kilo_user_id, created_at);
 *   for periods that are too large for one short statement
 * - `user`: one user alone, the same way
 * Of one user at most `rowLimit` rows are read; who has more is `oversized`, and not compared here.
 */
export type ChunkAccess = 'period' | 'users' | 'user';

export interface Chunk {
  period: string;
  access: ChunkAccess;
  /** Users up to this one are done; null = none. With access `user`: the user. */
  userAfter: string | null;
  /** With access `users`. */
  userLimit: number;
  /** With access `users` and `user`. */
  rowLimit: number;
}

export interface Finding {
  kilo_user_id: string;
  organization_id: string | null;
  counter_id: string | null;
  raw_cost: string;
  archived_cost: string;
  row_total: string;
  unsettled_cost: string;
  /** Reported minus true, microdollars. */
  drift: string;
  raw_rows: string;
  /** Reported minus true number of requests; Exa only, else 0. */
  request_drift: string;
  /** Whether a counter row can hold what is true. */
  fits: boolean;
}

export interface ComparedRow {
  raw_rows: string;
  raw_cost: string;
  keys: string;
  /** Counter rows created by this statement. */
  inserted: string;
  /** Keys without a row whose insert met a rival: look again. */
  conflicts: string;
  /** Keys that are wrong, all of them; `findings` holds the first ones. */
  wrong: string;
  wrong_cost: string;
  findings: Finding[] | null;
  oversized: string[] | null;
  /** Access `users`: the last user of this chunk; null when there are no more. */
  user_until: string | null;
}

/** Findings returned by one statement: bounds the memory of the process. */
const FINDINGS_PER_CHUNK = 500;

/** Whether a counter row can hold it: 64 bits of cost, 32 of requests. */
export function fitsCounter(rollup: Rollup, cost: string, requests: string): string {
  const fits = `abs(${cost}) < ${COUNTER_LIMIT}`;
  return rollup.countsRequests ? `(${fits} and ${requests} <= 2147483647)` : `(${fits})`;
}

const PARAMETERS: Record<ChunkAccess, (chunk: Chunk) => unknown[]> = {
  period: ({ period }) => [period],
  user: ({ period, userAfter, rowLimit }) => [period, userAfter, rowLimit],
  users: ({ period, userAfter, rowLimit, userLimit }) => [period, userAfter, rowLimit, userLimit],
};

/**
 * Compares raw rows with what is reported, by key, in one snapshot and in both directions: a key
 * may have raw rows, a counter row, or both (wrong, missing, orphan).
 *
 * CTEs in reading order:
 *   low_water  see settled.sql.ts
 *   block      access `users`: the next users that have raw rows, by loose index scan
 *   part       sums by key; rows that may be unsettled apart, by position: the one scan of raw rows
 *   oversized  users with more than `rowLimit` rows: left out
 *   raw        sums by key, and which part of them is in the counters
 *   counter    the counter rows of the same users
 *   compared   full join; drift = row + unsettled - raw - archived = row - settled - archived
 *   inserted   `build`: rows that are missing, with the settled total of this same snapshot
 *
 * Why the insert is right without a lock: nobody settles a row of a key without a counter row, or
 * writes it in place; who begins later cannot create that row while this transaction holds the
 * key's shared lock (guard trigger); who created it first makes the insert a conflict, and the
 * key is looked at again.
 */
export function compareStatement(rollup: Rollup, chunk: Chunk, build: boolean): Statement {
  const { access } = chunk;
  return {
    name: `microdollar_compare_${rollup.name}_${access}_${build ? 'build' : 'verify'}`,
    // Blocks beside writers are short: to plan each is a third of what it costs.
    plannedOnce: access === 'users',
    text: `/* microdollar.${build ? 'backfill' : 'verify'} */
with recursive ${lowWater(rollup.log)},
${access === 'users' ? `${blockCtes(rollup)}, ` : ''}part as materialized (
  ${access === 'users' ? partsOfBlock(rollup) : partsOf(rollup, access)}
), oversized as materialized (
  ${access === 'period' ? 'select null::text as kilo_user_id where false' : OVERSIZED}
), raw as materialized (
  select p.kilo_user_id, p.organization_id, sum(p.cost) as cost, sum(p.row_count) as row_count,
    coalesce(sum(p.cost) filter (where p.is_settled), 0) as settled_cost,
    coalesce(sum(p.requests) filter (where p.is_settled), 0) as settled_requests
  from (select p.*, ${isInCounters(rollup.log, 'p')} as is_settled from part as p) as p
  where p.kilo_user_id not in (select o.kilo_user_id from oversized as o)
  group by p.kilo_user_id, p.organization_id
), counter as materialized (
  ${counterRows(rollup)}
  where c.${rollup.periodColumn} = $1::date
    and ${userRange('c', access)}
    and c.kilo_user_id not in (select o.kilo_user_id from oversized as o)
), ${comparedCte(rollup)}, inserted as (
  ${build ? insertMissing(rollup) : 'select null as id where false'}
), wrong as materialized (
  select *
  from compared
  where (drift <> 0 or request_drift <> 0 or is_mischarged)
    ${build ? 'and (id is not null or not fits)' : ''}
)
select (select coalesce(sum(raw_rows), 0) from compared) as raw_rows,
  (select coalesce(sum(raw_cost), 0) from compared) as raw_cost,
  (select count(*) from compared) as keys,
  (select count(*) from inserted) as inserted,
  ${build ? CONFLICTS : '0'} as conflicts,
  ${findingsColumns()},
  (select array_agg(o.kilo_user_id) from oversized as o) as oversized,
  ${access === 'users' ? '(select until_user from block_end)' : 'null::text'} as user_until`,
    values: PARAMETERS[access](chunk),
  };
}

/** Adopted months: their charged part was decided request by request. */
const MISCHARGED = `c.total_charged_microdollars
      <> greatest(0, c.total_cost_microdollars - c.free_allowance_microdollars)`;

/** Counter rows `c`, without a condition. */
export function counterRows(rollup: Rollup): string {
  const requests = rollup.countsRequests;
  return `select c.id, c.kilo_user_id, c.organization_id, c.total_cost_microdollars as total,
    ${rollup.archivedCost} as archived, ${requests ? 'c.request_count' : '0'} as requests,
    ${requests ? MISCHARGED : 'false'} as is_mischarged
  from ${rollup.name} as c`;
}

/** `compared`, of `raw` and `counter`. */
export function comparedCte(rollup: Rollup): string {
  const requestDrift = rollup.countsRequests
    ? 'coalesce(c.requests, 0) - coalesce(r.settled_requests, 0)'
    : '0';
  return `compared as materialized (
  select coalesce(r.kilo_user_id, c.kilo_user_id) as kilo_user_id,
    coalesce(r.organization_id, c.organization_id) as organization_id,
    c.id, coalesce(r.cost, 0) as raw_cost, coalesce(r.row_count, 0) as raw_rows,
    coalesce(c.archived, 0) as archived, coalesce(c.total, 0) as total,
    coalesce(r.cost, 0) - coalesce(r.settled_cost, 0) as unsettled_cost,
    coalesce(c.total, 0) - coalesce(r.settled_cost, 0) - coalesce(c.archived, 0) as drift,
    ${requestDrift} as request_drift, coalesce(c.is_mischarged, false) as is_mischarged,
    coalesce(r.settled_requests, 0) as settled_requests,
    ${fitsCounter(
      rollup,
      'coalesce(r.settled_cost, 0) + coalesce(c.archived, 0)',
      'coalesce(r.settled_requests, 0)',
    )} as fits
  from raw as r
  full join counter as c
    on c.kilo_user_id = r.kilo_user_id
    and ${sameOrganization('c', 'r')}
)`;
}

/** What was found, of `wrong`. */
export function findingsColumns(): string {
  return `(select count(*) from wrong) as wrong,
  (select coalesce(sum(abs(drift)), 0) from wrong) as wrong_cost,
  (select json_agg(w) from (
    select kilo_user_id, organization_id, id as counter_id, raw_cost::text,
      archived::text as archived_cost, total::text as row_total, unsettled_cost::text,
      drift::text, raw_rows::text, request_drift::text, fits
    from wrong
    order by fits desc, kilo_user_id, organization_id
    limit ${FINDINGS_PER_CHUNK}
  ) as w) as findings`;
}

/** Users with raw rows, one index descent each; `block_end` is null in the last block. */
function blockCtes(rollup: Rollup): string {
  return `block as (
  select (
    select s.kilo_user_id from ${rollup.source} as s
    where s.kilo_user_id > coalesce($2::text, '')
    order by s.kilo_user_id limit 1
  ) as kilo_user_id, 1 as place
  union all
  select (
    select s.kilo_user_id from ${rollup.source} as s
    where s.kilo_user_id > b.kilo_user_id
    order by s.kilo_user_id limit 1
  ), b.place + 1
  from block as b
  where b.kilo_user_id is not null
    and b.place < $4::integer
), block_end as materialized (
  select case when count(kilo_user_id) = $4::integer then max(kilo_user_id) end as until_user
  from block
)`;
}

/** Rows below the low-water mark are one part of their key, the others one a position, or none. */
export const POSITION = `case when s.position < (select w.position from low_water as w)
      then -1 else s.position end`;
export const SUMS = `sum(s.cost) as cost, count(*) as row_count,
    count(*) filter (where s.cost <> 0) as requests`;
const OVERSIZED = `select p.kilo_user_id
  from part as p
  group by p.kilo_user_id
  having sum(p.row_count) > $3::integer`;

function partsOf(rollup: Rollup, access: 'period' | 'user'): string {
  const rows =
    access === 'period'
      ? `${rollup.source} as s
  where ${withinPeriod(rollup, 's.created_at', '$1::date')}`
      : `(
    select s.kilo_user_id, s.organization_id, s.position, s.cost
    from ${rollup.source} as s
    where s.kilo_user_id = $2::text
      and ${withinPeriod(rollup, 's.created_at', '$1::date')}
    limit $3::integer + 1
  ) as s`;
  return `select s.kilo_user_id, s.organization_id, ${POSITION} as position,
    ${SUMS}
  from ${rows}
  group by 1, 2, 3`;
}

function partsOfBlock(rollup: Rollup): string {
  return `select b.kilo_user_id, s.organization_id, s.position, s.cost, s.row_count, s.requests
  from block as b
  cross join lateral (
    select s.organization_id, ${POSITION} as position,
    ${SUMS}
    from (
      select s.organization_id, s.position, s.cost
      from ${rollup.source} as s
      where s.kilo_user_id = b.kilo_user_id
        and ${withinPeriod(rollup, 's.created_at', '$1::date')}
      limit $3::integer + 1
    ) as s
    group by 1, 2
  ) as s
  where b.kilo_user_id is not null`;
}

/** Counter rows between the blocks' users belong to a block too: orphans. */
function userRange(alias: string, access: ChunkAccess): string {
  if (access === 'period') return 'true';
  if (access === 'user') return `${alias}.kilo_user_id = $2::text`;
  return `${alias}.kilo_user_id > coalesce($2::text, '')
    and ((select until_user from block_end) is null
      or ${alias}.kilo_user_id <= (select until_user from block_end))`;
}

const IS_MISSING = 'id is null and fits and (drift <> 0 or request_drift <> 0)';

/** Rows that were missing and could not be inserted: someone else came first. */
const CONFLICTS = `(
    select count(*) from compared where ${IS_MISSING}
  ) - (select count(*) from inserted)`;

/** In the order of keys: two backfills that insert the same ones cannot wait in a circle. */
function insertMissing(rollup: Rollup): string {
  const from = `from compared
  where ${IS_MISSING}
  order by kilo_user_id, organization_id
  on conflict do nothing
  returning id`;
  if (!rollup.countsRequests) {
    return `insert into microdollar_usage_daily
    (kilo_user_id, organization_id, usage_date, total_cost_microdollars)
  select kilo_user_id, organization_id, $1::date, -drift
  ${from}`;
  }
  return `insert into exa_monthly_usage (kilo_user_id, organization_id, month,
    total_cost_microdollars, total_charged_microdollars, request_count,
    free_allowance_microdollars)
  select kilo_user_id, organization_id, $1::date, -drift, greatest(0, -drift - ${ALLOWANCE}),
    settled_requests, ${ALLOWANCE}
  ${from}`;
}

/** The month's row is made here, so with the allowance of the settings. */
const ALLOWANCE = `(select s.exa_free_allowance_microdollars from ledger_settings as s)`;
