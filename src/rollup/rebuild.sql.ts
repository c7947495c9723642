import { plainArray, type Statement } from '../db/statement.js';
import { type Rollup, withinPeriod } from '../schema/rollups.js';

/** Locks counter rows by id where they are free; what is locked by others is left for later. */
export function lockCountersStatement(rollup: Rollup, ids: readonly string[]): Statement {
  return {
    name: `microdollar_lock_${rollup.name}`,
    text: `/* microdollar.lockCounters */
select c.id
from ${rollup.name} as c
where c.id = any($1::uuid[])
order by c.id
for no key update skip locked`,
    values: [plainArray(ids)],
  };
}

export interface RebuiltRow {
  id: string;
  kilo_user_id: string;
  organization_id: string | null;
  period: string;
  before: string;
  after: string;
}

/**
 * Sets locked counter rows to archived + sum(raw) - sum(pending). Must be a new statement after the
 * lock, so that its snapshot has everything that was committed before; while the row is locked,
 * writers append raw and pending in one commit, which leaves the difference as it is, and
 * nobody drains pending rows of the key. Rows that are right already are not written.
 */
export function rebuildCountersStatement(rollup: Rollup, lockedIds: readonly string[]): Statement {
  const truth = (column: 'cost' | 'requests') => `(
    select coalesce(${column === 'cost' ? 'sum(s.cost)' : 'count(*) filter (where s.cost <> 0)'}, 0)
    from ${rollup.source} as s
    where s.kilo_user_id = c.kilo_user_id
      and s.organization_id is not distinct from c.organization_id
      and ${withinPeriod(rollup, 's.created_at', `c.${rollup.periodColumn}`)}
  )`;
  const pending = (column: string) => `(
    select coalesce(sum(p.${column}), 0)
    from microdollar_usage_pending as p
    where p.kilo_user_id = c.kilo_user_id
      and p.organization_id is not distinct from c.organization_id
      and p.${rollup.pendingColumn} = c.${rollup.periodColumn}
  )`;
  const exa = rollup.countsRequests;
  return {
    name: `microdollar_rebuild_${rollup.name}`,
    text: `/* microdollar.rebuildCounters */
with truth as materialized (
  select c.id, c.total_cost_microdollars as before,
    ${rollup.archivedCost} + ${truth('cost')} - ${pending('cost_microdollars')} as after,
    ${pending('cost_microdollars')} as pending,
    ${exa ? `${truth('requests')} - ${pending('request_count')}` : '0'} as requests
  from ${rollup.name} as c
  where c.id = any($1::uuid[])
)
update ${rollup.name} as c
set total_cost_microdollars = t.after,
  ${
    exa
      ? `request_count = t.requests,
  total_charged_microdollars = greatest(0, t.after - c.free_allowance_microdollars),`
      : ''
  }
  updated_at = now()
from truth as t
where c.id = t.id
  and (c.total_cost_microdollars <> t.after
    ${
      exa
        ? `or c.request_count <> t.requests
    or c.total_charged_microdollars <> greatest(0, t.after - c.free_allowance_microdollars)`
        : ''
    })
returning c.id, c.kilo_user_id, c.organization_id, c.${rollup.periodColumn}::text as period,
  t.before + t.pending as before, t.after + t.pending as after`,
    values: [plainArray(lockedIds)],
  };
}

/** Writes corrections into the audit table. */
export function auditStatement(
  counter: string,
  rows: readonly (Omit<RebuiltRow, 'id' | 'kilo_user_id' | 'period'> & {
    kilo_user_id: string | null;
    period: string | null;
  })[],
  causes: readonly string[],
): Statement {
  return {
    name: 'microdollar_audit',
    text: `/* microdollar.auditRepairs */
insert into rollup_repairs (counter, kilo_user_id, organization_id, period,
  before_microdollars, after_microdollars, cause)
select $1::text, r.kilo_user_id, r.organization_id, r.period, r.before, r.after, r.cause
from json_to_recordset($2::json) as r(kilo_user_id text, organization_id uuid, period date,
  before bigint, after bigint, cause text)`,
    values: [
      counter,
      JSON.stringify(rows.map((row, index) => ({ ...row, cause: causes[index] ?? 'unknown' }))),
    ],
  };
}
