import { oldestOpen, SNAPSHOT } from '../../counter/marks.sql.js';
import { plainArray, type Statement, textArray } from '../../db/statement.js';
import { isBudgeted } from '../../schema/budgeted.js';
import { DIMENSION_ROLLUPS, isRowCounted } from '../../schema/dimensionRollups.js';
import { isKnownToExpiries } from '../../schema/expiries.js';
import { USAGE_LOG } from '../../schema/unsettled.js';
import { isInCounters, lowWater, sameOrganization } from '../settled.sql.js';
import type { ArchivedRow } from './readFile.js';

export interface CounterKey {
  kilo_user_id: string;
  organization_id: string | null;
}

export interface LockedCounter extends CounterKey {
  counter_id: string;
  archived_cost: string;
}

/** Locks the daily rows of keys where they are free; nobody waits, and nobody is waited for. */
export function lockDailyRowsStatement(day: string, keys: readonly CounterKey[]): Statement {
  return {
    name: 'microdollar_lock_archived_keys',
    text: `/* microdollar.lockArchivedKeys */
select d.id as counter_id, d.kilo_user_id, d.organization_id,
  d.archived_cost_microdollars as archived_cost
from unnest($2::text[], $3::uuid[]) as k(kilo_user_id, organization_id)
join microdollar_usage_daily as d
  on d.usage_date = $1::date
  and d.kilo_user_id = k.kilo_user_id
  and d.organization_id is not distinct from k.organization_id
for no key update of d skip locked`,
    values: [
      day,
      textArray(keys.map((key) => key.kilo_user_id)),
      plainArray(keys.map((key) => key.organization_id)),
    ],
  };
}

export interface LockedRows {
  /** Ids that are locked; null: all that were asked for. An answer a row would cost more than its lock. */
  ids: string[] | null;
}

export interface LockedUsage extends LockedRows {
  /** A row whose key, cost or time is not that of the file. */
  different: string | null;
  /**
   * Ids that the counter rows of some rollup, the budgets or expiries do not have yet; once they have one,
   * they always do.
   */
  unsettled: string[];
}

/** Of `locked`, given the ids that were asked for as $1. */
const LOCKED_IDS = `case when (select count(*) from locked) < cardinality($1::uuid[])
    then array(select l.id from locked as l) end as ids`;

/**
 * Locks raw rows where they are free, and compares them with what the file says. After the locks of
 * their daily rows: what is settled by then is in them.
 */
export function lockUsageStatement(rows: readonly ArchivedRow[]): Statement {
  return {
    name: 'microdollar_lock_archived_usage',
    text: `/* microdollar.lockArchivedUsage */
with ${lowWater(USAGE_LOG)}, s as materialized (
  ${SNAPSHOT}
), open as materialized (
  select ${oldestOpen('s')} as position from s
), locked as materialized (
  select u.id, ${isInCounters(USAGE_LOG, 'u')}
      and ${DIMENSION_ROLLUPS.map((rollup) => isRowCounted(rollup, 'u')).join('\n      and ')}
      and ${isBudgeted('u', '(select o.position from open as o)')}
      and ${isKnownToExpiries('u')} as is_settled,
    u.kilo_user_id = f.kilo_user_id
      and u.organization_id is not distinct from f.organization_id
      and u.cost = f.cost
      and u.created_at = f.created_at as is_same
  from unnest($1::uuid[], $2::text[], $3::uuid[], $4::bigint[], $5::timestamptz[])
    as f(id, kilo_user_id, organization_id, cost, created_at)
  join microdollar_usage as u on u.id = f.id
  for update of u skip locked
)
select ${LOCKED_IDS},
  (select l.id from locked as l where not l.is_same limit 1) as different,
  array(select l.id from locked as l where not l.is_settled) as unsettled`,
    values: [
      plainArray(rows.map((row) => row.id)),
      textArray(rows.map((row) => row.kilo_user_id)),
      plainArray(rows.map((row) => row.organization_id)),
      plainArray(rows.map((row) => row.cost)),
      plainArray(rows.map((row) => row.created_at)),
    ],
  };
}

export interface HolderRow {
  payer_scope: 'user' | 'organization';
  payer_id: string;
}

/** Payers with a hold of the id of one of these rows that has not given back what it took. */
export function findHoldersStatement(rows: readonly ArchivedRow[]): Statement {
  return {
    name: 'microdollar_find_holders_of_archived',
    text: `/* microdollar.findHoldersOfArchived */
select distinct h.payer_scope, h.payer_id
from usage_holds as h
where h.id = any ($1::uuid[])
  and h.window_ids <> '{}'`,
    values: [plainArray(rows.map((row) => row.id))],
  };
}

/** Locks metadata where it is free: soft deletion and the fold's housekeeping write it too. */
export function lockMetadataStatement(ids: readonly string[]): Statement {
  return {
    name: 'microdollar_lock_archived_metadata',
    text: `/* microdollar.lockArchivedMetadata */
with locked as materialized (
  select m.id
  from unnest($1::uuid[]) as f(id)
  join microdollar_usage_metadata as m on m.id = f.id
  for update of m skip locked
)
select ${LOCKED_IDS}`,
    values: [plainArray(ids)],
  };
}

/** Which of the ids exist, of those not locked by this transaction. */
export function findRowsStatement(
  table: 'microdollar_usage' | 'microdollar_usage_metadata',
  ids: readonly string[],
): Statement {
  return {
    name: `microdollar_find_${table}`,
    text: `/* microdollar.findArchivedRows */
select t.id
from unnest($1::uuid[]) as f(id)
join ${table} as t on t.id = f.id`,
    values: [plainArray(ids)],
  };
}

export interface MovedRow {
  rows: string;
  cost: string;
  /** What daily rows took over. */
  archived_cost: string;
}

/**
 * Deletes locked, settled raw rows with their metadata and adds their cost to the archived cost of their
 * daily rows. `total_cost_microdollars` includes it already, so no reported amount changes (I2).
 * Must be a statement of its own after the locks, so that its snapshot has all that was committed
 * before them.
 */
export function moveRowsStatement(
  ids: readonly string[],
  counters: readonly LockedCounter[],
): Statement {
  return {
    name: 'microdollar_move_archived_rows',
    text: `/* microdollar.moveArchivedRows */
with deleted as (
  delete from microdollar_usage as u
  using unnest($1::uuid[]) as f(id)
  where u.id = f.id
  returning u.kilo_user_id, u.organization_id, u.cost
), metadata_deleted as (
  delete from microdollar_usage_metadata as m
  using unnest($1::uuid[]) as f(id)
  where m.id = f.id
), moved as materialized (
  select kilo_user_id, organization_id, sum(cost) as cost
  from deleted
  group by kilo_user_id, organization_id
), archived as (
  update microdollar_usage_daily as d
  set archived_cost_microdollars = d.archived_cost_microdollars + t.cost
  from (
    select k.counter_id, m.cost
    from moved as m
    join unnest($2::uuid[], $3::text[], $4::uuid[]) as k(counter_id, kilo_user_id, organization_id)
      on k.kilo_user_id = m.kilo_user_id
      and ${sameOrganization('k', 'm')}
    where m.cost <> 0
  ) as t
  where d.id = t.counter_id
  returning t.cost
)
select (select count(*) from deleted) as rows,
  (select coalesce(sum(cost), 0) from deleted) as cost,
  (select coalesce(sum(cost), 0) from archived) as archived_cost`,
    values: [
      plainArray(ids),
      plainArray(counters.map((counter) => counter.counter_id)),
      textArray(counters.map((counter) => counter.kilo_user_id)),
      plainArray(counters.map((counter) => counter.organization_id)),
    ],
  };
}

/**
 * Daily rows, at zero, for keys whose raw rows cancel out, so that none was ever made: a part of
 * them moved needs a row. A statement, so a transaction, of its own (R8).
 */
export function openDailyRowsStatement(day: string, keys: readonly CounterKey[]): Statement {
  return {
    name: 'microdollar_open_archived_keys',
    text: `/* microdollar.openArchivedKeys */
select microdollar_open_daily(k.kilo_user_id, k.organization_id, $1::date)
from unnest($2::text[], $3::uuid[]) as k(kilo_user_id, organization_id)`,
    values: [
      day,
      textArray(keys.map((key) => key.kilo_user_id)),
      plainArray(keys.map((key) => key.organization_id)),
    ],
  };
}
