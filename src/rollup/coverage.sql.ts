import { plainArray, type Statement, textArray } from '../db/statement.js';
import { type ProvenRollup, type Rollup, threeMonthWindow } from '../schema/rollups.js';
import { periodsCtes } from './periods.sql.js';

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

/** Adds missing periods as `unbuilt`. */
export function addPeriodsStatement(
  rollup: Rollup,
  from: string | null,
  until: string | null,
): Statement {
  return {
    name: `microdollar_add_periods_${rollup.name}`,
    text: `/* microdollar.addPeriods */
with recursive ${periodsCtes(rollup)}
insert into rollup_coverage (rollup, period)
select '${rollup.name}', p.period
from periods as p
order by p.period
on conflict do nothing`,
    values: [from, until],
  };
}

/** What a backfill that began at `began` still has to do with coverage row `c`. */
const isLeft = (began: string): string => `(c.state in ('unbuilt', 'building')
      or greatest(c.built_at, c.verified_at) is null
      or greatest(c.built_at, c.verified_at) < ${began}::timestamptz)`;
const IS_LEFT = isLeft('$4');
const IS_FREE = `(c.state = 'unbuilt' or c.claimed_until is null or c.claimed_until < now())`;

/** Periods of the days from $2 to $3, inclusive, null = unbounded. */
const inRange = ({ grain }: Rollup): string => `c.rollup = $1::text
    and ($2::date is null or c.period >= date_trunc('${grain}', $2::date::timestamp)::date)
    and ($3::date is null or c.period <= $3::date)`;

/**
 * Builds, or checks, every period at once that has neither raw rows nor counter rows and that nobody works
 * on: one snapshot shows of all of them what a comparison shows of one. Most of a small ledger's window.
 */
export function buildEmptyPeriodsStatement(rollup: Rollup, range: JobRange): Statement {
  return {
    name: `microdollar_build_empty_${rollup.name}`,
    text: `/* microdollar.buildEmptyPeriods */
with recursive ${periodsCtes(rollup)}, free as (
  select c.period, c.state not in ('unbuilt', 'building') as is_check
  from rollup_coverage as c
  join periods as p on p.period = c.period
  where c.rollup = '${rollup.name}'
    and p.is_empty
    and ${isLeft('$3')}
    and ${IS_FREE}
  for update of c skip locked
)
update rollup_coverage as c
set state = case when f.is_check then c.state else 'built' end,
  raw_rows = 0,
  raw_cost_microdollars = 0,
  done_until_user = null,
  claimed_by = null,
  claimed_until = null,
  built_at = now()
from free as f
where c.rollup = '${rollup.name}'
  and c.period = f.period
returning f.is_check`,
    values: [range.from, range.until, range.began],
  };
}

/** A range of periods, both inclusive, null = unbounded, and when the job on them began. */
export interface JobRange {
  from: string | null;
  until: string | null;
  began: string;
}

export interface ClaimedRow {
  period: string;
  done_until_user: string | null;
  /** Was built before: only what is wrong by now needs work. */
  is_check: boolean;
  claimed_at: string;
}

/**
 * Takes a period that nobody works on: unbuilt ones first, the newest first, for that is what
 * reads need; then those that were built or verified before this job began, for rows that other
 * programs wrote meanwhile. The claim runs out, so a killed worker's period is taken up where its
 * last commit left it.
 */
export function claimPeriodStatement(
  rollup: Rollup,
  worker: string,
  range: JobRange,
  except: readonly string[],
): Statement {
  return {
    name: 'microdollar_claim_period',
    text: `/* microdollar.claimPeriod */
with free as (
  select c.rollup, c.period, c.state not in ('unbuilt', 'building') as is_check
  from rollup_coverage as c
  where ${inRange(rollup)}
    and ${IS_LEFT}
    and c.period <> all($5::date[])
    and ${IS_FREE}
  order by c.state in ('unbuilt', 'building') desc, c.period desc
  limit 1
  for update skip locked
)
update rollup_coverage as c
set state = case when f.is_check then c.state else 'building' end,
  claimed_by = $6::uuid,
  claimed_until = now() + interval '${CLAIM_SECONDS} seconds'
from free as f
where c.rollup = f.rollup
  and c.period = f.period
returning c.period::text as period,
  case when not f.is_check then c.done_until_user end as done_until_user, f.is_check,
  now()::text as claimed_at`,
    values: [rollup.name, range.from, range.until, range.began, plainArray(except), worker],
  };
}

/** Periods that are left: to be built, to be checked, and those that a worker is on. */
export function unfinishedStatement(
  rollup: Rollup,
  range: JobRange,
  except: readonly string[] = [],
): Statement {
  return {
    name: 'microdollar_unfinished_periods',
    text: `/* microdollar.unfinishedPeriods */
select count(*) filter (where c.state in ('unbuilt', 'building')) as to_build,
  count(*) filter (where c.state not in ('unbuilt', 'building')) as to_check,
  count(*) filter (where c.claimed_until > now()) as claimed
from rollup_coverage as c
where ${inRange(rollup)}
  and ${IS_LEFT}
  and c.period <> all($5::date[])`,
    values: [rollup.name, range.from, range.until, range.began, plainArray(except)],
  };
}

export interface Progress {
  period: string;
  isCheck: boolean;
  /** When the first of the period's chunks began, at the latest. */
  began: string;
  doneUntilUser: string | null;
  rawRows: number;
  rawCost: string;
  isFirst: boolean;
  isLast: boolean;
  /** Keys of the period that stay wrong, so far. */
  leftKeys: number;
  /** Keys of the period that were corrected, so far. */
  correctedKeys: number;
}

/**
 * Commits progress within a period and renews the claim; no row when the claim was lost. `built_at`
 * is when the build began, for it proves nothing of what was written later. A period that was
 * checked and found right stays what it was.
 */
export function saveProgressStatement(
  rollup: Rollup,
  worker: string,
  progress: Progress,
): Statement {
  const { isCheck, isFirst, isLast, leftKeys, correctedKeys } = progress;
  const isDone = isLast && leftKeys === 0;
  const state = isLast ? (isDone ? 'built' : 'unbuilt') : 'building';
  const keepsState = isCheck && (!isLast || (isDone && correctedKeys === 0));
  return {
    name: 'microdollar_save_progress',
    plannedOnce: true,
    text: `/* microdollar.saveProgress */
with pulse as (
  update rollup_backfill
  set heartbeat_at = now(),
    rows_done = rows_done + $5::bigint
  where rollup = $1::text
  returning is_paused
)
update rollup_coverage
set done_until_user = $4::text,
  raw_rows = case when $7::boolean then 0 else coalesce(raw_rows, 0) end + $5::bigint,
  raw_cost_microdollars = case when $7::boolean then 0
    else coalesce(raw_cost_microdollars, 0) end + $6::numeric,
  state = case when $9::boolean then state else $10::text end,
  drift_keys = case when $11::boolean then 0 else drift_keys end,
  drift_microdollars = case when $11::boolean then 0 else drift_microdollars end,
  built_at = case when $12::boolean then $13::timestamptz else built_at end,
  claimed_by = case when $8::boolean then null else claimed_by end,
  claimed_until = case when $8::boolean then null
    else now() + interval '${CLAIM_SECONDS} seconds' end
where rollup = $1::text
  and claimed_by = $2::uuid
  and period = $3::date
returning period::text, coalesce((select p.is_paused from pulse as p), false) as is_paused`,
    values: [
      rollup.name,
      worker,
      progress.period,
      isLast || isCheck ? null : progress.doneUntilUser,
      progress.rawRows,
      progress.rawCost,
      isFirst,
      isLast,
      keepsState,
      state,
      isDone,
      isCheck ? isDone : isFirst,
      progress.began,
    ],
  };
}

export function renewClaimStatement(rollup: Rollup, worker: string, period: string): Statement {
  return {
    name: 'microdollar_renew_claim',
    plannedOnce: true,
    text: `/* microdollar.renewClaim */
update rollup_coverage
set claimed_until = now() + interval '${CLAIM_SECONDS} seconds'
where rollup = $1::text
  and period = $2::date
  and claimed_by = $3::uuid`,
    values: [rollup.name, period, worker],
  };
}

/** Gives a period back: with its progress, or as one to begin anew. */
export function releasePeriodStatement(
  rollup: Rollup,
  worker: string,
  period: string,
  keepsProgress: boolean,
): Statement {
  return {
    name: 'microdollar_release_period',
    text: `/* microdollar.releasePeriod */
update rollup_coverage
set claimed_by = null,
  claimed_until = null,
  state = case when state <> 'building' then state
    when $4::boolean and done_until_user is not null then 'building'
    else 'unbuilt' end,
  done_until_user = case when $4::boolean then done_until_user end
where rollup = $1::text
  and period = $2::date
  and claimed_by = $3::uuid`,
    values: [rollup.name, period, worker, keepsProgress],
  };
}

export interface Began {
  began_at: string;
  /** Version of the coverage row; null = none yet. */
  version: string | null;
}

/** Before the first snapshot of a verification: it proves nothing of what is committed later. */
export function beginVerifyStatement(rollup: ProvenRollup, period: string): Statement {
  return {
    name: 'microdollar_begin_verify',
    plannedOnce: true,
    text: `/* microdollar.beginVerify */
select now()::text as began_at,
  (select c.xmin::text from rollup_coverage as c
    where c.rollup = $1::text and c.period = $2::date) as version`,
    values: [rollup.name, period],
  };
}

/** What a verification found of a whole period. An unbuilt period stays unbuilt. */
export function saveVerifiedStatement(
  rollup: ProvenRollup,
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
    plannedOnce: true,
    text: `/* microdollar.saveVerified */
insert into rollup_coverage as c (rollup, period, state, raw_rows, raw_cost_microdollars,
  drift_keys, drift_microdollars, built_at, verified_at)
values ($1::text, $2::date, case when $5::integer = 0 then 'verified' else 'unbuilt' end,
  $3::bigint, $4::numeric, $5::integer, $6::numeric,
  case when $5::integer = 0 then $7::timestamptz end,
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

/** The same of periods that had nothing in a snapshot after `beganAt`, unless drift is known by now. */
export function saveEmptyVerifiedStatement(
  rollup: ProvenRollup,
  periods: readonly string[],
  beganAt: string,
): Statement {
  return {
    name: 'microdollar_save_empty_verified',
    text: `/* microdollar.saveEmptyVerified */
insert into rollup_coverage as c (rollup, period, state, raw_rows, raw_cost_microdollars, built_at,
  verified_at)
select $1::text, p, 'verified', 0, 0, $3::timestamptz, $3::timestamptz
from unnest($2::date[]) as p
order by p
on conflict (rollup, period) do update
set state = case when c.state in ('building', 'archived') then c.state else 'verified' end,
  raw_rows = 0,
  raw_cost_microdollars = 0,
  built_at = coalesce(c.built_at, excluded.built_at),
  verified_at = excluded.verified_at
where c.drift_keys = 0`,
    values: [rollup.name, textArray(periods), beganAt],
  };
}

/** Each period of a range that ends, days inclusive; what is not known is `unbuilt`. */
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
export const RENEW_SECONDS = 150;

/**
 * The period that the background verification should look at next, if any: the current and the previous one
 * while their lease is old; then built ones never verified after their end; then any not looked at for a day.
 * Known drift waits for `repair`, `except` failed a while ago; unbuilt ones count if it was installed empty.
 * @param newest true: of the current and the previous one alone; false: of those before them alone
 */
export function nextToVerifyStatement(
  rollup: Rollup,
  except: readonly string[],
  newest: boolean | null,
): Statement {
  const { grain } = rollup;
  const isNewest = `(c.period >= n.period - interval '1 ${grain}')`;
  const window = threeMonthWindow();
  return {
    name: `microdollar_next_to_verify_${rollup.name}`,
    text: `/* microdollar.nextToVerify */
with current_period as (
  select date_trunc('${grain}', ${window.until}::timestamp)::date as period
),
candidates as (
  select coalesce(c.period, p::date) as period, c.state, c.verified_at
  from generate_series(date_trunc('${grain}', ${window.from}::timestamp),
    ${window.until}::timestamp, interval '1 ${grain}') as p
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
  and c.period <> all($1::date[])
  and coalesce(${isNewest} = $2::boolean, true)
  and (c.verified_at is null
    or c.verified_at < (c.period + interval '1 ${grain}') at time zone 'UTC' and not ${isNewest}
    or c.verified_at < now() - interval '${RENEW_SECONDS} seconds' and ${isNewest}
    or c.verified_at < now() - interval '1 day')
order by ${isNewest} desc, c.verified_at nulls first, c.period desc
limit 1`,
    values: [plainArray(except), newest],
  };
}

/** Drift that the last checks found, over all periods. */
export function driftStatement(rollup: ProvenRollup): Statement {
  return {
    name: 'microdollar_known_drift',
    text: `/* microdollar.knownDrift */
select coalesce(sum(drift_keys), 0) as keys, coalesce(sum(drift_microdollars), 0) as microdollars
from rollup_coverage
where rollup = $1::text`,
    values: [rollup.name],
  };
}
