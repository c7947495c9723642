import type { Statement } from '../db/statement.js';
import { type Rollup, withinPeriod } from '../schema/rollups.js';

/**
 * How the raw rows of a chunk are reached:
 * - `period`: every raw row of the period, by the index on created_at; users (after, until]
 * - `users`: the next `userLimit` users after `userAfter`, each by (kilo_user_id, created_at);
 *   for periods that are too large for one short transaction
 * - `user`: one user alone, the same way
 */
export type ChunkAccess = 'period' | 'users' | 'user';

export interface Chunk {
  period: string;
  access: ChunkAccess;
  /** Users up to this one are done; null = none. With access `user`: the user. */
  userAfter: string | null;
  /** With access `users`. */
  userLimit: number;
}

export interface Finding {
  kilo_user_id: string;
  organization_id: string | null;
  counter_id: string | null;
  raw_cost: string;
  archived_cost: string;
  row_total: string;
  pending_cost: string;
  /** Reported minus true, microdollars. */
  drift: string;
  raw_rows: string;
  /** Reported minus true number of requests; Exa only, else 0. */
  request_drift: string;
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
  /** Access `users`: the last user of this chunk; null when there are no more. */
  user_until: string | null;
}

/** Findings returned by one statement: bounds the memory of the process. */
export const FINDINGS_PER_CHUNK = 500;

/** Parameters of a statement: period, user, limit. */
const PARAMETERS: Record<ChunkAccess, number> = { period: 1, user: 2, users: 3 };

/** Rows that were missing and could not be inserted: someone else came first. */
const CONFLICTS = `(
    select count(*) from compared where id is null and (drift <> 0 or request_drift <> 0)
  ) - (select count(*) from inserted)`;

/** Adopted months: their charged part was decided request by request. */
const MISCHARGED = `c.total_charged_microdollars
      <> greatest(0, c.total_cost_microdollars - c.free_allowance_microdollars)`;

const NO_ORGANIZATION = `'00000000-0000-0000-0000-000000000000'::uuid`;

/**
 * Compares raw rows with what is reported, by key, in one snapshot and in both directions: a key
 * may have raw rows, a counter row, pending rows, or any of them (wrong, missing, orphan).
 *
 * CTEs in reading order:
 *   block     access `users`: the next users that have raw rows, by loose index scan
 *   raw       sums by key
 *   counter, pending   what is reported
 *   compared  full join; drift = row + pending - raw - archived
 *   inserted  `build`: rows that are missing, with total = raw - pending of this same snapshot
 *
 * Why the insert is right without a lock: pending rows of a key without a row are not drained; a
 * writer that begins later sees no row and, while this transaction holds the key's shared lock
 * (guard trigger), cannot create it, so it appends; one that created the row first makes the
 * insert a conflict, and the key is looked at again.
 */
export function compareStatement(rollup: Rollup, chunk: Chunk, build: boolean): Statement {
  const { access } = chunk;
  const users = access === 'users';
  const requests = rollup.countsRequests;
  return {
    name: `microdollar_compare_${rollup.name}_${access}_${build ? 'build' : 'verify'}`,
    text: `/* microdollar.${build ? 'backfill' : 'verify'} */
with recursive ${users ? blockCtes(rollup) : ''}raw as materialized (
  ${users ? rawByBlock(rollup) : rawByPeriod(rollup, access === 'user')}
), counter as materialized (
  select c.id, c.kilo_user_id, c.organization_id, c.total_cost_microdollars as total,
    ${rollup.archivedCost} as archived, ${requests ? 'c.request_count' : '0'} as requests,
    ${requests ? MISCHARGED : 'false'} as is_mischarged
  from ${rollup.name} as c
  where c.${rollup.periodColumn} = $1::date
    and ${userRange('c', access)}
), pending as materialized (
  select p.kilo_user_id, p.organization_id, sum(p.cost_microdollars) as cost,
    sum(p.request_count) as requests,
    (array_agg(p.free_allowance_microdollars order by p.xid))[1] as free_allowance
  from microdollar_usage_pending as p
  where p.${rollup.pendingColumn} = $1::date
    and ${userRange('p', access)}
  group by p.kilo_user_id, p.organization_id
), compared as materialized (
  select coalesce(r.kilo_user_id, c.kilo_user_id, p.kilo_user_id) as kilo_user_id,
    coalesce(r.organization_id, c.organization_id, p.organization_id) as organization_id,
    c.id, coalesce(r.cost, 0) as raw_cost, coalesce(r.row_count, 0) as raw_rows,
    coalesce(c.archived, 0) as archived, coalesce(c.total, 0) as total,
    coalesce(p.cost, 0) as pending_cost, p.free_allowance,
    coalesce(c.total, 0) + coalesce(p.cost, 0) - coalesce(r.cost, 0) - coalesce(c.archived, 0)
      as drift,
    ${requests ? 'coalesce(c.requests, 0) + coalesce(p.requests, 0) - coalesce(r.requests, 0)' : '0'}
      as request_drift,
    coalesce(c.is_mischarged, false) as is_mischarged,
    coalesce(r.requests, 0) - coalesce(p.requests, 0) as missing_requests
  from raw as r
  full join counter as c
    on c.kilo_user_id = r.kilo_user_id
    and coalesce(c.organization_id, ${NO_ORGANIZATION})
      = coalesce(r.organization_id, ${NO_ORGANIZATION})
  full join pending as p
    on p.kilo_user_id = coalesce(r.kilo_user_id, c.kilo_user_id)
    and coalesce(p.organization_id, ${NO_ORGANIZATION})
      = coalesce(r.organization_id, c.organization_id, ${NO_ORGANIZATION})
), inserted as (
  ${build ? insertMissing(rollup) : 'select null as id where false'}
), wrong as materialized (
  select *
  from compared
  where (drift <> 0 or request_drift <> 0 or is_mischarged)
    ${build ? 'and id is not null' : ''}
)
select (select coalesce(sum(raw_rows), 0) from compared) as raw_rows,
  (select coalesce(sum(raw_cost), 0) from compared) as raw_cost,
  (select count(*) from compared) as keys,
  (select count(*) from inserted) as inserted,
  ${build ? CONFLICTS : '0'} as conflicts,
  (select count(*) from wrong) as wrong,
  (select coalesce(sum(abs(drift)), 0) from wrong) as wrong_cost,
  (select json_agg(w) from (
    select kilo_user_id, organization_id, id as counter_id, raw_cost::text,
      archived::text as archived_cost, total::text as row_total, pending_cost::text,
      drift::text, raw_rows::text, request_drift::text
    from wrong
    order by kilo_user_id, organization_id
    limit ${FINDINGS_PER_CHUNK}
  ) as w) as findings,
  ${users ? '(select until_user from block_end)' : 'null::text'} as user_until`,
    values: [chunk.period, chunk.userAfter, chunk.userLimit].slice(0, PARAMETERS[access]),
  };
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
    and b.place < $3::integer
), block_end as materialized (
  select case when count(kilo_user_id) = $3::integer then max(kilo_user_id) end as until_user
  from block
), `;
}

function rawByPeriod(rollup: Rollup, ofUser: boolean): string {
  return `select s.kilo_user_id, s.organization_id, sum(s.cost) as cost, count(*) as row_count,
    count(*) filter (where s.cost <> 0) as requests
  from ${rollup.source} as s
  where ${withinPeriod(rollup, 's.created_at', '$1::date')}
    ${ofUser ? 'and s.kilo_user_id = $2::text' : ''}
  group by s.kilo_user_id, s.organization_id`;
}

function rawByBlock(rollup: Rollup): string {
  return `select b.kilo_user_id, s.organization_id, s.cost, s.row_count, s.requests
  from block as b
  cross join lateral (
    select s.organization_id, sum(s.cost) as cost, count(*) as row_count,
      count(*) filter (where s.cost <> 0) as requests
    from ${rollup.source} as s
    where s.kilo_user_id = b.kilo_user_id
      and ${withinPeriod(rollup, 's.created_at', '$1::date')}
    group by s.organization_id
  ) as s
  where b.kilo_user_id is not null`;
}

/** Counter and pending rows between the blocks' users belong to a block too: orphans. */
function userRange(alias: string, access: ChunkAccess): string {
  if (access === 'period') return 'true';
  if (access === 'user') return `${alias}.kilo_user_id = $2::text`;
  return `${alias}.kilo_user_id > coalesce($2::text, '')
    and ((select until_user from block_end) is null
      or ${alias}.kilo_user_id <= (select until_user from block_end))`;
}

function insertMissing(rollup: Rollup): string {
  if (rollup.name === 'exa_monthly_usage') {
    // The allowance is that of the month's first request; where its row is lost, the earliest
    // pending one, else the default. Balances are proven apart (verify --balances).
    return `insert into exa_monthly_usage (kilo_user_id, organization_id, month,
    total_cost_microdollars, total_charged_microdollars, request_count,
    free_allowance_microdollars)
  select kilo_user_id, organization_id, $1::date, -drift,
    greatest(0, -drift - coalesce(free_allowance, 10000000)), missing_requests,
    coalesce(free_allowance, 10000000)
  from compared
  where id is null
    and (drift <> 0 or request_drift <> 0)
  on conflict do nothing
  returning id`;
  }
  return `insert into microdollar_usage_daily
    (kilo_user_id, organization_id, usage_date, total_cost_microdollars)
  select kilo_user_id, organization_id, $1::date, -drift
  from compared
  where id is null
    and drift <> 0
  order by kilo_user_id
  on conflict do nothing
  returning id`;
}
