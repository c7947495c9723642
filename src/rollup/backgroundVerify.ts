import type { Metrics } from '../metrics.js';
import { ROLLUPS, type Rollup } from '../schema/rollups.js';
import { driftStatement, nextToVerifyStatement } from './coverage.sql.js';
import { openRollupDatabase, type RollupDatabase } from './database.js';
import { verifyOn } from './verify.js';

/** Between looks for a period that is due. */
const IDLE_INTERVAL_MS = 5_000;
/** Rest for each unit of work: at most a fifth of one connection's time. */
const REST_RATIO = 4;
const MIN_REST_MS = 200;
/** Between the chunks of one period. */
const CHUNK_REST_MS = 50;

/**
 * Verifies in the background, at a low rate, on one connection: today and yesterday first, which
 * renews the lease of the read switch; then periods that were built but never verified; then the
 * longest unverified. Harmless in several processes: what one has verified is not due for another.
 */
export function startBackgroundVerify(
  url: string,
  metrics: Metrics,
  onError: (error: Error) => void = () => {},
): { stop(): Promise<void> } {
  const database = openRollupDatabase(url, 1);
  const abort = new AbortController();
  let wake: () => void = () => {};
  const sleep = (ms: number) =>
    new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, ms);
      timer.unref();
      wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });

  async function run(): Promise<void> {
    while (!abort.signal.aborted) {
      let restMs = IDLE_INTERVAL_MS;
      try {
        for (const rollup of ROLLUPS) {
          const workMs = await verifyNext(database, rollup, metrics, abort.signal);
          if (workMs !== null) restMs = Math.max(MIN_REST_MS, workMs * REST_RATIO);
        }
      } catch (error) {
        onError(error as Error);
      }
      if (!abort.signal.aborted) await sleep(restMs);
    }
  }

  const running = run();
  return {
    async stop() {
      abort.abort();
      wake();
      await running;
      await database.close();
    },
  };
}

/** Verifies the period that is due; its duration in ms, or null when none is. */
async function verifyNext(
  database: RollupDatabase,
  rollup: Rollup,
  metrics: Metrics,
  signal: AbortSignal,
): Promise<number | null> {
  const [next] = await database.query<{ period: string }>(nextToVerifyStatement(rollup));
  let workMs: number | null = null;
  if (next && !signal.aborted) {
    const report = await verifyOn(
      database,
      { rollup, from: next.period, until: next.period, signal, restMs: CHUNK_REST_MS },
      1,
    );
    metrics.verifiedRows.inc(report.rows);
    workMs = report.durationMs;
  }
  const [drift] = await database.query<{ keys: string; microdollars: string }>(
    driftStatement(rollup),
  );
  metrics.driftKeys.set({ rollup: rollup.name }, Number(drift?.keys ?? 0));
  metrics.driftMicrodollars.set({ rollup: rollup.name }, Number(drift?.microdollars ?? 0));
  return workMs;
}
