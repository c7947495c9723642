import type { Statement } from '../db/statement.js';
import type { ProvenRollup, Rollup } from '../schema/rollups.js';
import { periodsCtes } from './periods.sql.js';

/** Begins a job, or goes on with one that was not finished; when this run began comes back. */
export function startBackfillStatement(
  rollup: Pick<ProvenRollup, 'name'>,
  rowsExpected: number,
): Statement {
  return {
    name: 'microdollar_start_backfill',
    text: `/* microdollar.startBackfill */
insert into rollup_backfill as b (rollup, started_at, heartbeat_at, rows_expected)
values ($1::text, now(), now(), $2::bigint)
on conflict (rollup) do update
set started_at = case when b.finished_at is null then coalesce(b.started_at, now()) else now() end,
  rows_done = case when b.finished_at is null then b.rows_done else 0 end,
  rows_expected = excluded.rows_expected,
  heartbeat_at = now(),
  finished_at = null
returning now()::text as began`,
    values: [rollup.name, rowsExpected],
  };
}

export function finishBackfillStatement(rollup: Pick<ProvenRollup, 'name'>): Statement {
  return {
    name: 'microdollar_finish_backfill',
    text: `/* microdollar.finishBackfill */
update rollup_backfill
set finished_at = now(),
  heartbeat_at = now()
where rollup = $1::text
  and not exists (
    select from rollup_coverage as c
    where c.rollup = $1::text
      and c.state = 'building')`,
    values: [rollup.name],
  };
}

export interface PlanRow {
  first: string | null;
  last: string | null;
  to_build: string;
  to_check: string;
}

/** Periods to build, and those that were built before and are looked at again. */
export function planBackfillStatement(
  rollup: Rollup,
  from: string | null,
  until: string | null,
): Statement {
  return {
    name: `microdollar_plan_backfill_${rollup.name}`,
    text: `/* microdollar.planBackfill */
with recursive ${periodsCtes(rollup)}
select min(p.period)::text as first, max(p.period)::text as last,
  count(*) filter (where coalesce(c.state, 'unbuilt') in ('unbuilt', 'building')) as to_build,
  count(*) filter (where c.state not in ('unbuilt', 'building')) as to_check
from periods as p
left join rollup_coverage as c
  on c.rollup = '${rollup.name}'
  and c.period = p.period`,
    values: [from, until],
  };
}

export function isPausedStatement(rollup: Pick<ProvenRollup, 'name'>): Statement {
  return {
    name: 'microdollar_is_paused',
    plannedOnce: true,
    text: `/* microdollar.isBackfillPaused */
select is_paused from rollup_backfill where rollup = $1::text`,
    values: [rollup.name],
  };
}

export function setPausedStatement(
  rollup: Pick<ProvenRollup, 'name'>,
  isPaused: boolean,
): Statement {
  return {
    name: 'microdollar_set_backfill_paused',
    text: `/* microdollar.setBackfillPaused */
insert into rollup_backfill as b (rollup, is_paused, paused_at)
values ($1::text, $2::boolean, case when $2::boolean then now() end)
on conflict (rollup) do update
set is_paused = excluded.is_paused,
  paused_at = case when excluded.is_paused then coalesce(b.paused_at, now()) end`,
    values: [rollup.name, isPaused],
  };
}
