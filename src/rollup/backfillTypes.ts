import type { Rollup } from '../schema/rollups.js';
import type { ChunkLimits } from './chunkSizer.js';
import type { RollupDatabaseOptions } from './database.js';
import type { PeriodFailure } from './periodFailure.js';

export interface BackfillOptions extends RollupDatabaseOptions {
  url: string;
  rollup: Rollup;
  /** UTC days, inclusive. Default: every period that has anything. */
  from?: string | undefined;
  until?: string | undefined;
  /** Default 2. */
  workers?: number | undefined;
  signal?: AbortSignal | undefined;
  onProgress?: ((progress: BackfillProgress) => void) | undefined;
  onNotice?: ((message: string) => void) | undefined;
  /** Once, at the start: the report grows in place, so a job that fails is told as far as it came. */
  onReport?: ((report: BackfillReport) => void) | undefined;
  /** For tests. */
  limits?: Partial<ChunkLimits> | undefined;
}

export interface BackfillProgress {
  /** Built or checked. */
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
  /** Periods built. */
  periods: number;
  /** Periods that were built before and were looked at again. */
  checked: number;
  rows: number;
  keys: number;
  created: number;
  corrected: number;
  /** Keys that stay wrong: another session holds their row, or none can hold their total. */
  left: number;
  /** Of them: keys whose total no counter row can hold. */
  unfit: number;
  /** Periods that could not be built. */
  failures: PeriodFailure[];
  longestTransactionMs: number;
  durationMs: number;
}

/** A job that runs: what its workers share. */
export interface BackfillJob {
  /** Days as the database prints them; null = unbounded. */
  from: string | null;
  until: string | null;
  /** When this run began, by the database's clock. */
  began: string;
  periodsTotal: number;
  rowsExpected: number;
  startedAtMs: number;
  /** Periods that were left, and are not claimed again. */
  givenUp: Set<string>;
  /** Periods that have nothing are built by the first worker that has its turn; null: not yet. */
  emptyBuilt: Promise<void> | null;
  report: BackfillReport;
}

export interface BackfillPlan {
  /** First and last period that has anything. */
  from: string | null;
  until: string | null;
  /** To build. */
  periods: number;
  /** Built before: to be looked at again. */
  toCheck: number;
  /** The planner's estimate. */
  rowsExpected: number;
}
