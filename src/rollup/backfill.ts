import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { LedgerError } from '../errors.js';
import type { Rollup } from '../schema/rollups.js';
import { ChunkSizer, compareNext } from './compare.js';
import {
  addPeriodsStatement,
  claimPeriodStatement,
  saveProgressStatement,
  sourceRangeStatement,
  unfinishedStatement,
} from './coverage.sql.js';
import { openRollupDatabase, type RollupDatabase, requireWritable, whileAway } from './database.js';
import { readRange } from './errors.js';
import { rebuildCounters } from './rebuild.js';
import { Throttle } from './throttle.js';

/**
 * Builds a rollup for history, beside live writers (design, section 5).
 *
 *   claim a period -> next chunk: compare raw with reported, create missing rows in the same
 *   statement -> rows that differ: lock, then set from a new snapshot -> commit progress and
 *   renew the claim -> rest as the load demands -> next chunk, or next period
 *
 * Every step is idempotent and commits on its own. Killed at any moment, the period's claim runs
 * out and another worker goes on from the last commit. Two backfills share the work by claims;
 * even on the same period they would only do it twice.
 */
export interface BackfillOptions {
  url: string;
  rollup: Rollup;
  /** UTC days, inclusive. Default: first raw row until today. */
  from?: string;
  until?: string;
  /** Default 2. */
  workers?: number;
  signal?: AbortSignal;
  onProgress?: (progress: BackfillProgress) => void;
  onNotice?: (message: string) => void;
}

export interface BackfillProgress {
  periodsDone: number;
  periodsTotal: number;
  rowsDone: number;
  /** The planner's estimate. */
  rowsExpected: number;
  rowsPerSecond: number;
  etaSeconds: number | null;
  isPaused: boolean;
  /** Period that was worked on last. */
  period: string | null;
}

export interface BackfillReport {
  periods: number;
  rows: number;
  keys: number;
  created: number;
  corrected: number;
  /** Keys left because another session holds their row: their periods stay unbuilt. */
  left: number;
  longestTransactionMs: number;
  durationMs: number;
}

const PAUSE_POLL_MS = 500;
const CLAIM_POLL_MS = 1_000;
/** Rounds over the locked rows of a chunk before its period is given back. */
const LOCKED_ROUNDS = 5;

export async function runBackfill(options: BackfillOptions): Promise<BackfillReport> {
  const workers = options.workers ?? 2;
  if (!Number.isInteger(workers) || workers < 1 || workers > 32) {
    throw new LedgerError('invalid_request', 'workers must be a whole number from 1 to 32', {
      details: { field: 'workers' },
    });
  }
  const database = openRollupDatabase(options.url, workers + 1);
  try {
    await requireWritable(database.query);
    const job = await startJob(database, options);
    const throttle = new Throttle(database.query, (statement) =>
      whileAway(() => database.query(statement), tellWaiting(options)),
    );
    await Promise.all(
      Array.from({ length: workers }, () => new Worker(database, options, job, throttle).run()),
    );
    job.report.durationMs = performance.now() - job.startedAtMs;
    if (!options.signal?.aborted) await finishJob(database, options.rollup);
    return job.report;
  } finally {
    await database.close();
  }
}

/** What a backfill would do. Days inclusive; rows are the planner's estimate. */
export async function planBackfill(
  options: Pick<BackfillOptions, 'url' | 'rollup' | 'from' | 'until'>,
): Promise<{ from: string; until: string; periods: number; rowsExpected: number }> {
  const database = openRollupDatabase(options.url, 1);
  try {
    await requireWritable(database.query);
    const range = await resolveRange(database, options);
    const [row] = await database.query<{ periods: string }>({
      name: 'microdollar_plan_backfill',
      text: `/* microdollar.planBackfill */
select count(*) as periods
from generate_series(date_trunc('${options.rollup.grain}', $2::date::timestamp),
  $3::date::timestamp, interval '1 ${options.rollup.grain}') as p
left join rollup_coverage as c
  on c.rollup = $1::text
  and c.period = p::date
where coalesce(c.state, 'unbuilt') in ('unbuilt', 'building')`,
      values: [options.rollup.name, range.from, range.until],
    });
    return {
      ...range,
      periods: Number(row?.periods ?? 0),
      rowsExpected: await expectRowsInRange(database, options.rollup, range),
    };
  } finally {
    await database.close();
  }
}

function tellWaiting({ onNotice }: BackfillOptions): (reason: string) => void {
  return (reason) => onNotice?.(`waiting for the database: ${reason}`);
}

interface Job {
  from: string;
  until: string;
  periodsTotal: number;
  rowsExpected: number;
  startedAtMs: number;
  report: BackfillReport;
}

async function resolveRange(
  database: RollupDatabase,
  options: Pick<BackfillOptions, 'rollup' | 'from' | 'until'>,
): Promise<{ from: string; until: string }> {
  const [bounds] = await database.query<{ first: string | null; current: string | null }>(
    sourceRangeStatement(options.rollup),
  );
  const current = bounds?.current ?? new Date().toISOString().slice(0, 10);
  return readRange(options.from, options.until, { first: bounds?.first ?? current, current });
}

async function startJob(database: RollupDatabase, options: BackfillOptions): Promise<Job> {
  const { rollup } = options;
  const range = await resolveRange(database, options);
  await database.query(addPeriodsStatement(rollup, range.from, range.until));
  const [left] = await database.query<{ unbuilt: string; building: string }>(
    unfinishedStatement(rollup, range.from, range.until),
  );
  const rowsExpected = await expectRowsInRange(database, rollup, range);
  await database.query({
    name: 'microdollar_start_backfill',
    text: `/* microdollar.startBackfill */
insert into rollup_backfill as b (rollup, started_at, heartbeat_at, rows_expected)
values ($1::text, now(), now(), $2::bigint)
on conflict (rollup) do update
set started_at = case when b.finished_at is null then coalesce(b.started_at, now()) else now() end,
  rows_done = case when b.finished_at is null then b.rows_done else 0 end,
  rows_expected = excluded.rows_expected,
  heartbeat_at = now(),
  finished_at = null`,
    values: [rollup.name, rowsExpected],
  });
  return {
    ...range,
    periodsTotal: Number(left?.unbuilt ?? 0) + Number(left?.building ?? 0),
    rowsExpected,
    startedAtMs: performance.now(),
    report: {
      periods: 0,
      rows: 0,
      keys: 0,
      created: 0,
      corrected: 0,
      left: 0,
      longestTransactionMs: 0,
      durationMs: 0,
    },
  };
}

async function finishJob(database: RollupDatabase, rollup: Rollup): Promise<void> {
  await database.query({
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
  });
}

async function expectRowsInRange(
  database: RollupDatabase,
  rollup: Rollup,
  range: { from: string; until: string },
): Promise<number> {
  const [row] = await database.query<{ 'QUERY PLAN': { Plan: { 'Plan Rows': number } }[] }>({
    name: 'microdollar_expect_rows_in_range',
    text: `explain (format json)
select from ${rollup.source}
where created_at >= '${range.from}'::timestamp at time zone 'UTC'
  and created_at < ('${range.until}'::date + interval '1 ${rollup.grain}') at time zone 'UTC'`,
    values: [],
  });
  return row?.['QUERY PLAN'][0]?.Plan['Plan Rows'] ?? 0;
}

/** In a period. */
interface Place {
  /** Users up to this one are done; null: none. */
  userAfter: string | null;
  isFirst: boolean;
  /** Keys left because another session holds their row. */
  left: number;
}

class Worker {
  readonly #id = randomUUID();
  readonly #database: RollupDatabase;
  readonly #options: BackfillOptions;
  readonly #job: Job;
  readonly #throttle: Throttle;
  readonly #sizer = new ChunkSizer();

  constructor(database: RollupDatabase, options: BackfillOptions, job: Job, throttle: Throttle) {
    this.#database = database;
    this.#options = options;
    this.#job = job;
    this.#throttle = throttle;
  }

  async run(): Promise<void> {
    const { rollup, signal } = this.#options;
    const givenUp = new Set<string>();
    while (!signal?.aborted) {
      // Claimed in turn: who waits for the turn holds nothing back.
      const isClaimed = await this.#throttle.turn(async () => {
        const claim = await this.#patiently(async () => {
          const [row] = await this.#database.query<{
            period: string;
            done_until_user: string | null;
          }>(claimPeriodStatement(rollup, this.#id, this.#job.from, this.#job.until, [...givenUp]));
          return row;
        });
        if (!claim) return false;
        const isBuilt = await this.#buildPeriod(claim.period, claim.done_until_user);
        if (!isBuilt) givenUp.add(claim.period);
        return true;
      });
      if (isClaimed) continue;
      // Nothing to claim. A period that another worker holds may come back: wait for it.
      const building = await this.#patiently(() => this.#countBuilding());
      if (building === 0) return;
      await sleep(CLAIM_POLL_MS);
    }
  }

  /** Chunk by chunk; false when keys of the period had to be left, or the job is to end. */
  async #buildPeriod(period: string, doneUntilUser: string | null): Promise<boolean> {
    const at: Place = { userAfter: doneUntilUser, isFirst: doneUntilUser === null, left: 0 };
    for (;;) {
      await this.#whilePaused();
      if (this.#options.signal?.aborted) {
        await this.#release(period);
        return false;
      }
      // Claim ran out: its new owner goes on.
      const end = await this.#throttle.run(() => this.#buildChunk(period, at));
      if (end !== 'more') return end === 'lost' || at.left === 0;
    }
  }

  /** One chunk, and the commit of its progress; moves `at`. */
  async #buildChunk(period: string, at: Place): Promise<'more' | 'done' | 'lost'> {
    const { rollup } = this.#options;
    const { userAfter, isFirst } = at;
    const chunk = await this.#patiently(() =>
      compareNext(this.#database.query, rollup, this.#sizer, { period, userAfter, build: true }),
    );
    const { report } = this.#job;
    report.longestTransactionMs = Math.max(report.longestTransactionMs, chunk.durationMs);
    report.created += chunk.inserted;
    // More was wrong than one answer holds, or a rival came first: the same chunk once more.
    const ids = chunk.findings.flatMap((finding) => finding.counter_id ?? []);
    const locked = await this.#rebuild(ids);
    if (locked === 0 && !chunk.isBlocked && (chunk.conflicts > 0 || chunk.wrong > ids.length)) {
      return 'more';
    }
    at.left += chunk.conflicts + chunk.wrong - (ids.length - locked);
    const isLast = chunk.userUntil === null;
    const saved = await this.#patiently(() =>
      this.#database.query<{ period: string }>(
        saveProgressStatement(rollup, this.#id, {
          period,
          doneUntilUser: chunk.userUntil,
          rawRows: chunk.rawRows,
          rawCost: String(chunk.rawCost),
          isFirst,
          isLast,
          leftKeys: at.left,
        }),
      ),
    );
    report.rows += chunk.rawRows;
    report.keys += chunk.keys;
    if (saved.length === 0) return 'lost';
    at.userAfter = chunk.userUntil;
    at.isFirst = false;
    if (isLast) {
      if (at.left === 0) report.periods++;
      report.left += at.left;
    }
    this.#progress(period, false);
    return isLast ? 'done' : 'more';
  }

  /** Returns how many rows stayed locked by others. */
  async #rebuild(ids: readonly string[]): Promise<number> {
    if (ids.length === 0) return 0;
    let locked = 0;
    for (let round = 0; round < LOCKED_ROUNDS; round++) {
      const startedAt = performance.now();
      const rebuilt = await this.#patiently(() =>
        rebuildCounters(this.#database, this.#options.rollup, ids),
      );
      const { report } = this.#job;
      report.corrected += rebuilt.rows.length;
      report.longestTransactionMs = Math.max(
        report.longestTransactionMs,
        (performance.now() - startedAt) / Math.max(1, Math.ceil(ids.length / 100)),
      );
      locked = rebuilt.locked;
      if (locked === 0) return 0;
      await sleep(50 * 2 ** round);
    }
    return locked;
  }

  async #release(period: string): Promise<void> {
    await this.#database.query({
      name: 'microdollar_release_period',
      text: `/* microdollar.releasePeriod */
update rollup_coverage
set claimed_by = null,
  claimed_until = null,
  state = case when done_until_user is null then 'unbuilt' else 'building' end
where rollup = $1::text
  and period = $2::date
  and claimed_by = $3::uuid`,
      values: [this.#options.rollup.name, period, this.#id],
    });
  }

  async #countBuilding(): Promise<number> {
    const [row] = await this.#database.query<{ building: string }>(
      unfinishedStatement(this.#options.rollup, this.#job.from, this.#job.until),
    );
    return Number(row?.building ?? 0);
  }

  async #whilePaused(): Promise<void> {
    for (let told = false; !this.#options.signal?.aborted; told = true) {
      const [row] = await this.#patiently(() =>
        this.#database.query<{ is_paused: boolean }>({
          name: 'microdollar_is_paused',
          text: `/* microdollar.isBackfillPaused */
select is_paused from rollup_backfill where rollup = $1::text`,
          values: [this.#options.rollup.name],
        }),
      );
      if (!row?.is_paused) return;
      if (!told) {
        this.#options.onNotice?.('paused; `microdollar backfill --resume` goes on');
        this.#progress(null, true);
      }
      await sleep(PAUSE_POLL_MS);
    }
  }

  #patiently<T>(run: () => Promise<T>): Promise<T> {
    return whileAway(run, tellWaiting(this.#options));
  }

  #progress(period: string | null, isPaused: boolean): void {
    const { report, periodsTotal, rowsExpected, startedAtMs } = this.#job;
    const seconds = (performance.now() - startedAtMs) / 1000;
    const share = periodsTotal === 0 ? 1 : report.periods / periodsTotal;
    this.#options.onProgress?.({
      periodsDone: report.periods,
      periodsTotal,
      rowsDone: report.rows,
      rowsExpected,
      rowsPerSecond: Math.round(report.rows / Math.max(seconds, 0.001)),
      etaSeconds: share > 0 ? Math.round((seconds / share) * (1 - share)) : null,
      isPaused,
      period,
    });
  }
}

/** Pauses or resumes every worker of a rollup, in any process, between two chunks. */
export async function setBackfillPaused(
  database: Pick<RollupDatabase, 'query'>,
  rollup: Rollup,
  isPaused: boolean,
): Promise<void> {
  await database.query({
    name: 'microdollar_set_backfill_paused',
    text: `/* microdollar.setBackfillPaused */
insert into rollup_backfill as b (rollup, is_paused, paused_at)
values ($1::text, $2::boolean, case when $2::boolean then now() end)
on conflict (rollup) do update
set is_paused = excluded.is_paused,
  paused_at = case when excluded.is_paused then coalesce(b.paused_at, now()) end`,
    values: [rollup.name, isPaused],
  });
}
