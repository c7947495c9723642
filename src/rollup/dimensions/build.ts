import { DAILY_ROLLUP } from '../../schema/rollups.js';
import { planJob } from '../backfill.js';
import { finishBackfillStatement, startBackfillStatement } from '../backfill.sql.js';
import type { BackfillPlan, BackfillProgress } from '../backfillTypes.js';
import {
  openRollupDatabase,
  pause,
  type RollupDatabase,
  requireWritable,
  tellWaiting,
  whileAway,
} from '../database.js';
import { expectRows } from '../expectRows.js';
import { JobEnd } from '../runWorkers.js';
import { Throttle } from '../throttle.js';
import { PAUSED, whilePaused } from '../whilePaused.js';
import { planDaysStatement } from './days.sql.js';
import { type Pace, SliceSize } from './pace.js';
import { type ProveOptions, type ProveReport, proveDays } from './prove.js';

export interface BuildOptions extends ProveOptions {
  onProgress?: ((progress: BackfillProgress) => void) | undefined;
}

export interface BuildReport extends ProveReport {
  /** Of one comparison, or of one step that wrote rows. */
  longestTransactionMs: number;
}

/**
 * Builds a rollup by dimension for history, beside live writers: days are compared, newest first, and set
 * right where they are wrong, in steps with a rest after each as the load demands (`Throttle`), none
 * while the backfill is paused. Idempotent; what was built stays when it is killed.
 */
export async function buildDimensions(options: BuildOptions): Promise<BuildReport> {
  const { rollup } = options;
  const database = openRollupDatabase(options.url, (options.workers ?? 2) + 1, options);
  try {
    await requireWritable(database.query);
    const range = { from: options.from ?? null, until: options.until ?? null };
    const rowsExpected = await expectRows(database.query, DAILY_ROLLUP, range);
    await database.query(startBackfillStatement(rollup, rowsExpected));
    const end = new JobEnd(options.signal);
    const progress = new Progress(rowsExpected, options.onProgress);
    const pace = new RestingPace(database, options, end, progress);
    const report = await proveDays(options, '', {
      database,
      end,
      pace,
      onDay: (day, found, total) => progress.tell(day, found.periods, total, found.rows),
    });
    if (!end.signal.aborted) await database.query(finishBackfillStatement(rollup));
    return { ...report, longestTransactionMs: pace.longestStepMs };
  } finally {
    await database.close();
  }
}

/** What a build would do: a day is compared whether it is known or not. */
export function planDimensions({
  rollup,
  ...options
}: Pick<BuildOptions, 'url' | 'viaPooler' | 'rollup' | 'from' | 'until'>): Promise<BackfillPlan> {
  return planJob(options, DAILY_ROLLUP, ({ from, until }) =>
    planDaysStatement(rollup, from, until),
  );
}

/** Rests after each step while others are at work, and stands still while the backfill is paused. */
class RestingPace implements Pace {
  readonly #database: RollupDatabase;
  readonly #options: BuildOptions;
  readonly #end: JobEnd;
  readonly #progress: Progress;
  readonly #throttle: Throttle;
  readonly #slice = new SliceSize();
  longestStepMs = 0;

  constructor(database: RollupDatabase, options: BuildOptions, end: JobEnd, progress: Progress) {
    this.#database = database;
    this.#options = options;
    this.#end = end;
    this.#progress = progress;
    const tell = tellWaiting(options.onNotice);
    this.#throttle = new Throttle(database.query, {
      queryLoad: (statement) => whileAway(() => database.query(statement), tell, end.signal),
      rest: (ms) => pause(ms, end.signal),
    });
  }

  get sliceMinutes(): number {
    return this.#slice.minutes;
  }

  turn<T>(work: () => Promise<T>): Promise<T> {
    return this.#throttle.turn(work);
  }

  async step<T>(work: () => Promise<T>, minutes?: number): Promise<T> {
    await whilePaused(this.#database.query, this.#options.rollup, this.#end.signal, () => {
      this.#options.onNotice?.(PAUSED);
      this.#progress.paused();
    });
    return await this.#throttle.run(async () => {
      const startedAt = performance.now();
      try {
        return await work();
      } finally {
        const durationMs = performance.now() - startedAt;
        this.longestStepMs = Math.max(this.longestStepMs, durationMs);
        if (minutes !== undefined) this.#slice.observe(minutes, durationMs);
      }
    });
  }
}

/** What a build tells of itself, in the words of the daily rollup's. */
class Progress {
  readonly #rowsExpected: number;
  readonly #onProgress: BuildOptions['onProgress'];
  readonly #startedAtMs = performance.now();
  #last = { day: null as string | null, done: 0, total: 0, rows: 0 };

  constructor(rowsExpected: number, onProgress: BuildOptions['onProgress']) {
    this.#rowsExpected = rowsExpected;
    this.#onProgress = onProgress;
  }

  tell(day: string, done: number, total: number, rows: number): void {
    this.#last = { day, done, total, rows };
    this.#send(false);
  }

  paused(): void {
    this.#send(true);
  }

  #send(isPaused: boolean): void {
    const { day, done, total, rows } = this.#last;
    const seconds = (performance.now() - this.#startedAtMs) / 1_000;
    const share = total === 0 ? 0 : done / total;
    this.#onProgress?.({
      periodsDone: done,
      periodsTotal: total,
      rowsDone: rows,
      rowsExpected: this.#rowsExpected,
      rowsPerSecond: Math.round(rows / Math.max(seconds, 0.001)),
      etaSeconds: share > 0 ? Math.round((seconds / share) * (1 - share)) : null,
      isPaused,
      period: day,
    });
  }
}
