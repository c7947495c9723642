import { type BackgroundTask, FIRST_REST_MS, startTask } from '../background.js';
import type { Metrics } from '../metrics.js';
import { DIMENSION_ROLLUPS, type DimensionRollup } from '../schema/dimensionRollups.js';
import { DAILY_ROLLUP, EXA_ROLLUP, type Rollup } from '../schema/rollups.js';
import type { Tracing } from '../tracing.js';
import { driftStatement, nextToVerifyStatement, RENEW_SECONDS } from './coverage.sql.js';
import { openRollupDatabase, type RollupDatabase } from './database.js';
import { nextDayStatement } from './dimensions/days.sql.js';
import { proveDay, provenOf } from './dimensions/prove.js';
import { isOfPeriod } from './periodFailure.js';
import { verifyOn } from './verify.js';
import { type Due, IDLE_INTERVAL_MS, VerifyTurns } from './verifyTurns.js';

/** Between the chunks of one period. */
const CHUNK_REST_MS = 50;
/** A period that failed is left alone for so long, so that it never keeps the others from their turn. */
const FAILED_REST_MS = 10 * 60_000;

export interface BackgroundVerifyOptions {
  url: string;
  /** Behind a pooler in transaction mode. */
  viaPooler: boolean;
  metrics: Metrics;
  /** Default: no spans are wanted. */
  tracing?: Tracing | null;
  /** Told every failure, of a round or of one period. */
  onError: (error: unknown, task: string, details?: object) => void;
}

/**
 * Verifies in the background, at a low rate, on one connection: today and yesterday first, which renews the
 * lease of the read switch, whenever that is due (`VerifyTurns`); then periods that were built but never
 * verified; then the longest unverified. Harmless in several processes: what one has verified is not due for
 * another.
 */
export function startBackgroundVerify(options: BackgroundVerifyOptions): BackgroundTask {
  const database = openRollupDatabase(options.url, 1, options);
  const turns = new VerifyTurns({
    leased: new DuePeriods(database, DAILY_ROLLUP, options, true),
    leasedPeriods: 2,
    renewMs: RENEW_SECONDS * 1_000,
    others: [
      new DuePeriods(database, DAILY_ROLLUP, options, false),
      new DuePeriods(database, EXA_ROLLUP, options, null),
      ...DIMENSION_ROLLUPS.map((rollup) => new DueDays(database, rollup, options)),
    ],
  });
  const task = startTask({
    name: 'verify',
    intervalMs: () => turns.restMs(),
    restsFirst: FIRST_REST_MS,
    errorIntervalMs: IDLE_INTERVAL_MS,
    onError: options.onError,
    tracing: options.tracing ?? null,
    run: (signal) => turns.run(signal),
  });
  return {
    ...task,
    async stop() {
      await task.stop();
      await database.close();
    },
  };
}

/** Periods that failed are left alone for a while, so that none starves the others (I12). */
class FailedPeriods {
  readonly #untilMs = new Map<string, number>();

  add(period: string): void {
    this.#untilMs.set(period, performance.now() + FAILED_REST_MS);
  }

  leftAlone(): string[] {
    for (const [period, untilMs] of this.#untilMs) {
      if (untilMs <= performance.now()) this.#untilMs.delete(period);
    }
    return [...this.#untilMs.keys()];
  }
}

/** `rollup`: as coverage names it. */
async function showDrift(
  database: RollupDatabase,
  rollup: Parameters<typeof driftStatement>[0],
  metrics: Metrics,
): Promise<void> {
  const [drift] = await database.query<{ keys: string; microdollars: string }>(
    driftStatement(rollup),
  );
  metrics.driftKeys.set({ rollup: rollup.name }, Number(drift?.keys ?? 0));
  metrics.driftMicrodollars.set({ rollup: rollup.name }, Number(drift?.microdollars ?? 0));
}

/** Periods of one rollup, as they fall due: the newest two, those before them, or all (null). */
class DuePeriods implements Due {
  readonly #database: RollupDatabase;
  readonly #rollup: Rollup;
  readonly #options: BackgroundVerifyOptions;
  readonly #failed = new FailedPeriods();

  readonly #newest: boolean | null;

  constructor(
    database: RollupDatabase,
    rollup: Rollup,
    options: BackgroundVerifyOptions,
    newest: boolean | null,
  ) {
    this.#database = database;
    this.#rollup = rollup;
    this.#options = options;
    this.#newest = newest;
  }

  async verifyNext(signal: AbortSignal): Promise<number | null> {
    const { metrics } = this.#options;
    const rollup = this.#rollup;
    const [next] = await this.#database.query<{ period: string }>(
      nextToVerifyStatement(rollup, this.#failed.leftAlone(), this.#newest),
    );
    // It is asked far more often than the rest, which shows the drift of all.
    if (!next && this.#newest) return null;
    let workMs: number | null = null;
    if (next) {
      const report = await verifyOn(
        this.#database,
        { rollup, periods: [next.period], signal, restMs: CHUNK_REST_MS },
        1,
      );
      metrics.verifiedRows.inc(report.rows);
      for (const { period, message } of report.failures) {
        this.#failed.add(period);
        this.#options.onError(new Error(message), 'verify', { rollup: rollup.name, period });
      }
      workMs = report.durationMs;
    }
    await showDrift(this.#database, rollup, metrics);
    return workMs;
  }
}

/** Days of one rollup by dimension, as they fall due. */
class DueDays implements Due {
  readonly #database: RollupDatabase;
  readonly #rollup: DimensionRollup;
  readonly #options: BackgroundVerifyOptions;
  readonly #failed = new FailedPeriods();

  constructor(database: RollupDatabase, rollup: DimensionRollup, options: BackgroundVerifyOptions) {
    this.#database = database;
    this.#rollup = rollup;
    this.#options = options;
  }

  async verifyNext(_signal: AbortSignal): Promise<number | null> {
    const { metrics, onError } = this.#options;
    const rollup = this.#rollup;
    const [next] = await this.#database.query<{ day: string }>(
      nextDayStatement(rollup, this.#failed.leftAlone()),
    );
    if (!next) return null;
    const startedAt = performance.now();
    try {
      const { found } = await proveDay(this.#database, rollup, next.day, { cause: null });
      metrics.verifiedRows.inc(found.rawRows);
    } catch (error) {
      if (!isOfPeriod(error)) throw error;
      this.#failed.add(next.day);
      onError(error, 'verify', { rollup: rollup.name, period: next.day });
    }
    await showDrift(this.#database, provenOf(rollup), metrics);
    return performance.now() - startedAt;
  }
}
