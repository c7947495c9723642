import type { Statement } from '../db/statement.js';
import { LedgerError } from '../errors.js';
import type { ProvenRollup, Rollup } from '../schema/rollups.js';
import {
  finishBackfillStatement,
  type PlanRow,
  planBackfillStatement,
  setPausedStatement,
  startBackfillStatement,
} from './backfill.sql.js';
import type {
  BackfillJob,
  BackfillOptions,
  BackfillPlan,
  BackfillReport,
} from './backfillTypes.js';
import { BackfillWorker } from './backfillWorker.js';
import { addPeriodsStatement, unfinishedStatement } from './coverage.sql.js';
import {
  openRollupDatabase,
  pause,
  type RollupDatabase,
  requireWritable,
  tellWaiting,
  whileAway,
} from './database.js';
import { readRange } from './dayRange.js';
import { expectRows } from './expectRows.js';
import { todayStatement } from './periods.sql.js';
import { JobEnd, runWorkers } from './runWorkers.js';
import { Throttle } from './throttle.js';

const MAX_WORKERS = 32;

/**
 * Builds a rollup for history, beside live writers:
 *
 * 1. note every period that has anything, sparsely, and the days of the three-month window; those of
 *    them that have nothing are built by one statement
 * 2. workers claim periods, newest first; of each, chunk by chunk: compare raw with reported and
 *    create missing rows in the same statement; lock rows that differ and set them from a new
 *    snapshot; commit progress and renew the claim; rest as the load demands
 * 3. periods that were built or verified before this run began go the same way, and lose their
 *    state only where something was wrong: what another program wrote since is found here, and
 *    not by the next verification
 *
 * Every step is idempotent and commits on its own. Killed at any moment, the period's claim runs
 * out and another worker goes on from the last commit. Two backfills share the work by claims;
 * even on the same period they would only do it twice. A period that fails by itself is named and
 * left (I12); any other failure ends the job.
 */
export async function runBackfill(options: BackfillOptions): Promise<BackfillReport> {
  const workers = options.workers ?? 2;
  if (!Number.isInteger(workers) || workers < 1 || workers > MAX_WORKERS) {
    throw new LedgerError(
      'invalid_request',
      `workers must be a whole number from 1 to ${MAX_WORKERS}`,
      { details: { field: 'workers' } },
    );
  }
  const database = openRollupDatabase(options.url, workers + 1, options);
  try {
    await requireWritable(database.query);
    const job = await startJob(database, options);
    options.onReport?.(job.report);
    const end = new JobEnd(options.signal);
    const tell = tellWaiting(options.onNotice);
    const throttle = new Throttle(database.query, {
      queryLoad: (statement) => whileAway(() => database.query(statement), tell, end.signal),
      rest: (ms) => pause(ms, end.signal),
    });
    try {
      await runWorkers(workers, end, () =>
        new BackfillWorker(database, options, job, throttle, end.signal).run(),
      );
    } finally {
      job.report.durationMs = performance.now() - job.startedAtMs;
    }
    if (!options.signal?.aborted) await database.query(finishBackfillStatement(options.rollup));
    return job.report;
  } finally {
    await database.close();
  }
}

type PlanOptions = Pick<BackfillOptions, 'url' | 'viaPooler' | 'from' | 'until'>;

/** What a backfill would do. */
export function planBackfill({
  rollup,
  ...options
}: PlanOptions & Pick<BackfillOptions, 'rollup'>): Promise<BackfillPlan> {
  return planJob(options, rollup, ({ from, until }) => planBackfillStatement(rollup, from, until));
}

/** @param counted the rollup whose rows in the range are what there is to read */
export async function planJob(
  options: PlanOptions,
  counted: Rollup,
  statementOf: (range: Range) => Statement,
): Promise<BackfillPlan> {
  const database = openRollupDatabase(options.url, 1, options);
  try {
    await requireWritable(database.query);
    const range = await resolveRange(database, options);
    const [row] = await database.query<PlanRow>(statementOf(range));
    return toPlan(row, range, await expectRows(database.query, counted, range));
  } finally {
    await database.close();
  }
}

interface Range {
  from: string | null;
  until: string | null;
}

function toPlan(row: PlanRow | undefined, range: Range, rowsExpected: number): BackfillPlan {
  return {
    from: row?.first ?? range.from,
    until: row?.last ?? range.until,
    periods: Number(row?.to_build ?? 0),
    toCheck: Number(row?.to_check ?? 0),
    rowsExpected,
  };
}

/** Pauses or resumes every worker of a rollup, in any process, between two chunks. */
export async function setBackfillPaused(
  database: Pick<RollupDatabase, 'query'>,
  rollup: Pick<ProvenRollup, 'name'>,
  isPaused: boolean,
): Promise<void> {
  await database.query(setPausedStatement(rollup, isPaused));
}

async function resolveRange(
  database: RollupDatabase,
  { from, until }: Pick<BackfillOptions, 'from' | 'until'>,
): Promise<{ from: string | null; until: string | null }> {
  const [row] = await database.query<{ today: string }>(todayStatement());
  return readRange(from, until, row?.today ?? '');
}

/** Notes that a run begins, and what it has to do. */
export async function startJob(
  database: RollupDatabase,
  options: BackfillOptions,
): Promise<BackfillJob> {
  const { rollup } = options;
  const range = await resolveRange(database, options);
  await database.query(addPeriodsStatement(rollup, range.from, range.until));
  const rowsExpected = await expectRows(database.query, rollup, range);
  const [started] = await database.query<{ began: string }>(
    startBackfillStatement(rollup, rowsExpected),
  );
  const began = started?.began ?? '';
  const [left] = await database.query<{ to_build: string; to_check: string }>(
    unfinishedStatement(rollup, { ...range, began }),
  );
  return {
    ...range,
    began,
    periodsTotal: Number(left?.to_build ?? 0) + Number(left?.to_check ?? 0),
    rowsExpected,
    startedAtMs: performance.now(),
    givenUp: new Set(),
    emptyBuilt: null,
    report: {
      periods: 0,
      checked: 0,
      rows: 0,
      keys: 0,
      created: 0,
      corrected: 0,
      left: 0,
      unfit: 0,
      failures: [],
      longestTransactionMs: 0,
      durationMs: 0,
    },
  };
}
