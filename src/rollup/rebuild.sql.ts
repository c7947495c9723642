import { plainArray, type Statement } from '../db/statement.js';
import { type Rollup, withinPeriod } from '../schema/rollups.js';
import { fitsCounter } from './compare.sql.js';
import { isInCounters, lowWater } from './settled.sql.js';
import type { SliceSum } from './slices.sql.js';

export interface LockedCounterRow {
  id: string;
  kilo_user_id: string;
  organization_id: string | null;
  period: string;
}

/** Locks counter rows by id where they are free; what is locked by others is left for later. */
export function lockCountersStatement(rollup: Rollup, ids: readonly string[]): Statement {
  return {
    name: `microdollar_lock_${rollup.name}`,
    text: `/* microdollar.lockCounters */
select c.id, c.kilo_user_id, c.organization_id, c.${rollup.periodColumn}::text as period
from ${rollup.name} as c
where c.id = any($1::uuid[])
order by c.id
for no key update skip locked`,
    values: [plainArray(ids)],
  };
}

export interface RebuiltRow extends LockedCounterRow {
  /** Reported totals, row and unsettled rows, microdollars. */
  before: string;
  after: string;
}

/**
 * Sets locked counter rows to archived + sum of what is settled of their raw rows. Must be a new
 * statement after the lock, so that its snapshot has everything that was committed before. While
 * the row is locked nobody settles a row of the key, nor writes one in place: what others append
 * stays unsettled, so is no part of the sum. Rows that are right already are not written, and
 * none is set to what it cannot hold.
 */
export function rebuildCountersStatement(rollup: Rollup, lockedIds: readonly string[]): Statement {
  return {
    name: `microdollar_rebuild_${rollup.name}`,
    text: `/* microdollar.rebuildCounters */
with ${lowWater(rollup.log)}, truth as materialized (
  select c.id, r.cost, r.settled_cost, r.settled_requests
  from ${rollup.name} as c
  cross join lateral (
    select coalesce(sum(s.cost), 0) as cost,
      coalesce(sum(s.cost) filter (where s.is_settled), 0) as settled_cost,
      count(*) filter (where s.is_settled and s.cost <> 0) as settled_requests
    from (
      select s.cost, ${isInCounters(rollup.log, 's')} as is_settled
      from ${rollup.source} as s
      where s.kilo_user_id = c.kilo_user_id
        and s.organization_id is not distinct from c.organization_id
        and ${withinPeriod(rollup, 's.created_at', `c.${rollup.periodColumn}`)}
    ) as s
  ) as r
  where c.id = any($1::uuid[])
)
${updateFromTruth(rollup)}`,
    values: [plainArray(lockedIds)],
  };
}

/** The same for one row, from sums that were taken in the snapshot of its lock. */
export function setCounterStatement(
  rollup: Rollup,
  id: string,
  sum: SliceSum | undefined,
): Statement {
  return {
    name: `microdollar_set_${rollup.name}`,
    text: `/* microdollar.setCounter */
with truth as materialized (
  select $1::uuid as id, $2::numeric as cost, $3::numeric as settled_cost,
    $4::bigint as settled_requests
)
${updateFromTruth(rollup)}`,
    values: [id, sum?.cost ?? '0', sum?.settled_cost ?? '0', sum?.settled_requests ?? '0'],
  };
}

/** `truth`: id, cost of all raw rows, cost and number of requests of the settled ones. */
function updateFromTruth(rollup: Rollup): string {
  const total = `(${rollup.archivedCost} + t.settled_cost)`;
  const charged = `greatest(0, ${total} - c.free_allowance_microdollars)`;
  const exa = rollup.countsRequests;
  return `update ${rollup.name} as c
set total_cost_microdollars = ${total},${
    exa
      ? `
  request_count = t.settled_requests,
  total_charged_microdollars = ${charged},`
      : ''
  }
  updated_at = now()
from truth as t
join ${rollup.name} as old on old.id = t.id
where c.id = t.id
  and ${fitsCounter(rollup, total, 't.settled_requests')}
  and (c.total_cost_microdollars <> ${total}${
    exa
      ? `
    or c.request_count <> t.settled_requests
    or c.total_charged_microdollars <> ${charged}`
      : ''
  })
returning c.id, c.kilo_user_id, c.organization_id, c.${rollup.periodColumn}::text as period,
  old.total_cost_microdollars + t.cost - t.settled_cost as before,
  ${rollup.archivedCost} + t.cost as after`;
}

export interface Correction {
  kilo_user_id: string | null;
  organization_id: string | null;
  period: string | null;
  before: string;
  after: string;
}

/** Writes corrections into the audit table. */
export function auditStatement(
  counter: string,
  rows: readonly Correction[],
  causes: readonly string[],
): Statement {
  return {
    name: 'microdollar_audit',
    text: `/* microdollar.auditRepairs */
insert into rollup_repairs (counter, kilo_user_id, organization_id, period,
  before_microdollars, after_microdollars, cause)
select $1::text, r.kilo_user_id, r.organization_id, r.period, r.before, r.after, r.cause
from json_to_recordset($2::json) as r(kilo_user_id text, organization_id uuid, period date,
  before numeric, after numeric, cause text)`,
    values: [
      counter,
      JSON.stringify(rows.map((row, index) => ({ ...row, cause: causes[index] ?? 'unknown' }))),
    ],
  };
}
