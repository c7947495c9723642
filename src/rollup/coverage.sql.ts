import { plainArray, type Statement } from '../db/statement.js';
import type { Rollup } from '../schema/rollups.js';

export type CoverageState = 'unbuilt' | 'building' | 'built' | 'verified' | 'archived';

export interface CoverageRow {
  period: string;
  state: CoverageState;
  raw_rows: string | null;
  raw_cost_microdollars: string | null;
  drift_keys: number;
  drift_microdollars: string;
  done_until_user: string | null;
  built_at: string | null;
  verified_at: string | null;
}

/** How long a worker may be silent before another takes its period. */
export const CLAIM_SECONDS = 15;

/**
 * From the first period with raw rows (by index on created_at), or the start of the three-month
 * window where that lies before it: periods without usage are covered too; until the current one.
 */
export function sourceRangeStatement(rollup: Rollup): Statement {
  return {
    name: `microdollar_range_${rollup.name}`,
    text: `/* microdollar.sourceRange */
select date_trunc('${rollup.grain}', least(min(created_at) at time zone 'UTC',
    (now() at time zone 'UTC')::date - interval '3 months'))::date::text as first,
  date_trunc('${rollup.grain}', now() at time zone 'UTC')::date::text as current
from (select created_at from ${rollup.source} order by created_at limit 1) as oldest`,
    values: [],
  };
}

/** Adds missing periods as `unbuilt`. */
export function addPeriodsStatement(rollup: Rollup, from: string, until: string): Statement {
  return {
    name: 'microdollar_add_periods',
    text: `/* microdollar.addPeriods */
insert into rollup_coverage (rollup, period)
select $1::text, p::date
from generate_series(date_trunc('${rollup.grain}', $2::date::timestamp),
  $3::date::timestamp, interval '1 ${rollup.grain}') as p
on conflict do nothing`,
    values: [rollup.name, from, until],
  };
}

/**
 * Takes the newest period that nobody works on: newest first, for that is what reads need. The
 * claim runs out, so a killed worker's period is taken up where its last commit left it.
 */
export function claimPeriodStatement(
  rollup: Rollup,
  worker: string,
  from: string,
  until: string,
  except: readonly string[],
): Statement {
  return {
    name: 'microdollar_claim_period',
    text: `/* microdollar.claimPeriod */
update rollup_coverage
set state = 'building',
  claimed_by = $2::uuid,
  claimed_until = now() + interval '${CLAIM_SECONDS} seconds'
where (rollup, period) = (
  select rollup, period
  from rollup_coverage
  where rollup = $1::text
    and period between $3::date and $4::date
    and period <> all($5::date[])
    and (state = 'unbuilt'
      or (state = 'building' and (claimed_until is null or claimed_until < now())))
  order by period desc
  limit 1
  for update skip locked
)
returning period::text, done_until_user`,
    values: [rollup.name, worker, from, until, plainArray(except)],
  };
}

/** Periods that are left, and whether another worker is on them. */
export function unfinishedStatement(rollup: Rollup, from: string, until: string): Statement {
  return {
    name: 'microdollar_unfinished_periods',
    text: `/* microdollar.unfinishedPeriods */
select count(*) filter (where state = 'unbuilt') as unbuilt,
  count(*) filter (where state = 'building') as building
from rollup_coverage
where rollup = $1::text
  and period between $2::date and $3::date`,
    values: [rollup.name, from, until],
  };
}

/** Commits progress within a period and renews the claim; no row when the claim was lost. */
export function saveProgressStatement(
  rollup: Rollup,
  worker: string,
  progress: {
    period: string;
    doneUntilUser: string | null;
    rawRows: number;
    rawCost: string;
    isFirst: boolean;
    isLast: boolean;
    leftKeys: number;
  },
): Statement {
  return {
    name: 'microdollar_save_progress',
    text: `/* microdollar.saveProgress */
with pulse as (
  update rollup_backfill
  set heartbeat_at = now(),
    rows_done = rows_done + $5::bigint
  where rollup = $1::text
)
update rollup_coverage
set done_until_user = $4::text,
  raw_rows = case when $7::boolean then 0 else coalesce(raw_rows, 0) end + $5::bigint,
  raw_cost_microdollars = case when $7::boolean then 0
    else coalesce(raw_cost_microdollars, 0) end + $6::bigint,
  state = case when not $8::boolean then 'building' when $9::integer > 0 then 'unbuilt'
    else 'built' end,
  drift_keys = case when $8::boolean and $9::integer = 0 then 0 else drift_keys end,
  drift_microdollars = case when $8::boolean and $9::integer = 0 then 0
    else drift_microdollars end,
  built_at = case when $8::boolean and $9::integer = 0 then now() else built_at end,
  claimed_by = case when $8::boolean then null else claimed_by end,
  claimed_until = case when $8::boolean then null
    else now() + interval '${CLAIM_SECONDS} seconds' end
where rollup = $1::text
  and claimed_by = $2::uuid
  and period = $3::date
returning period::text`,
    values: [
      rollup.name,
      worker,
      progress.period,
      progress.doneUntilUser,
      progress.rawRows,
      progress.rawCost,
      progress.isFirst,
      progress.isLast,
      progress.leftKeys,
    ],
  };
}

export interface Began {
  began_at: string;
  /** Version of the coverage row; null = none yet. */
  version: string | null;
}

/** Before the first snapshot of a verification: it proves nothing of what is committed later. */
export function beginVerifyStatement(rollup: Rollup, period: string): Statement {
  return {
    name: 'microdollar_begin_verify',
    text: `/* microdollar.beginVerify */
select now()::text as began_at,
  (select c.xmin::text from rollup_coverage as c
    where c.rollup = $1::text and c.period = $2::date) as version`,
    values: [rollup.name, period],
  };
}

/** What a verification found of a whole period. An unbuilt period stays unbuilt. */
export function saveVerifiedStatement(
  rollup: Rollup,
  result: {
    period: string;
    rawRows: number;
    rawCost: string;
    driftKeys: number;
    drift: string;
    began: Began | undefined;
  },
): Statement {
  return {
    name: 'microdollar_save_verified',
    text: `/* microdollar.saveVerified */
insert into rollup_coverage as c (rollup, period, state, raw_rows, raw_cost_microdollars,
  drift_keys, drift_microdollars, built_at, verified_at)
values ($1::text, $2::date, case when $5::integer = 0 then 'verified' else 'unbuilt' end,
  $3::bigint, $4::bigint, $5::integer, $6::bigint, case when $5::integer = 0 then now() end,
  case when $5::integer = 0 then $7::timestamptz end)
on conflict (rollup, period) do update
set state = case
    when c.state in ('building', 'archived') then c.state
    when $5::integer = 0 then 'verified'
    when c.state = 'verified' then 'built'
    else c.state end,
  raw_rows = excluded.raw_rows,
  raw_cost_microdollars = excluded.raw_cost_microdollars,
  drift_keys = excluded.drift_keys,
  drift_microdollars = excluded.drift_microdollars,
  built_at = coalesce(c.built_at, excluded.built_at),
  verified_at = case when $5::integer = 0 then $7::timestamptz else null end
where $5::integer > 0
  or c.drift_keys = 0
  or c.xmin::text = $8::text`,
    values: [
      rollup.name,
      result.period,
      result.rawRows,
      result.rawCost,
      result.driftKeys,
      result.drift,
      result.began?.began_at ?? null,
      result.began?.version ?? null,
    ],
  };
}

export function coverageStatement(rollup: Rollup, from: string, until: string): Statement {
  return {
    name: 'microdollar_coverage',
    text: `/* microdollar.coverage */
select p::date::text as period, coalesce(c.state, 'unbuilt') as state, c.raw_rows,
  c.raw_cost_microdollars, coalesce(c.drift_keys, 0) as drift_keys,
  coalesce(c.drift_microdollars, 0) as drift_microdollars, c.done_until_user,
  c.built_at::text, c.verified_at::text
from generate_series(date_trunc('${rollup.grain}', $2::date::timestamp),
  $3::date::timestamp, interval '1 ${rollup.grain}') as p
left join rollup_coverage as c
  on c.rollup = $1::text
  and c.period = p::date
order by p`,
    values: [rollup.name, from, until],
  };
}

/** How old the verification of the current and the previous period may grow: well within the lease. */
const RENEW_SECONDS = 150;

/**
 * The period that the background verification should look at next, if any: the current and the
 * previous one while their lease is old; then built ones that were never verified after their
 * end; then any that was not looked at for a day. Periods with known drift wait for `repair`. What
 * is unbuilt is none of its business, unless the ledger was installed empty and has no history.
 */
export function nextToVerifyStatement(rollup: Rollup): Statement {
  const { grain } = rollup;
  return {
    name: `microdollar_next_to_verify_${rollup.name}`,
    text: `/* microdollar.nextToVerify */
with current_period as (
  select date_trunc('${grain}', now() at time zone 'UTC')::date as period
),
candidates as (
  select coalesce(c.period, p::date) as period, c.state, c.verified_at
  from current_period as n
  cross join generate_series(n.period - interval '3 months', n.period, interval '1 ${grain}') as p
  full join (
    select period, state, verified_at, drift_keys
    from rollup_coverage
    where rollup = '${rollup.name}'
  ) as c on c.period = p::date
  where coalesce(c.drift_keys, 0) = 0
)
select c.period::text as period
from candidates as c, current_period as n, ledger_settings as s
where (c.state in ('built', 'verified', 'archived')
    or (s.installed_empty and coalesce(c.state, 'unbuilt') = 'unbuilt'))
  and c.period <= n.period
  and (c.verified_at is null
    or c.verified_at < (c.period + interval '1 ${grain}') at time zone 'UTC'
      and c.period < n.period - interval '1 ${grain}'
    or c.verified_at < now() - interval '${RENEW_SECONDS} seconds'
      and c.period >= n.period - interval '1 ${grain}'
    or c.verified_at < now() - interval '1 day')
order by c.period >= n.period - interval '1 ${grain}' desc,
  c.verified_at nulls first,
  c.period desc
limit 1`,
    values: [],
  };
}

/** Drift that the last checks found, over all periods. */
export function driftStatement(rollup: Rollup): Statement {
  return {
    name: 'microdollar_known_drift',
    text: `/* microdollar.knownDrift */
select coalesce(sum(drift_keys), 0) as keys, coalesce(sum(drift_microdollars), 0) as microdollars
from rollup_coverage
where rollup = $1::text`,
    values: [rollup.name],
  };
}
