import type { RollupDatabaseOptions } from '../database.js';
import type { PeriodFailure } from '../periodFailure.js';
import type { ArchiveFileSystem } from './fileSystem.js';

export interface ArchiveOptions extends RollupDatabaseOptions {
  url: string;
  /** Last UTC day to archive, inclusive. */
  until: string;
  /** Where the files go; always the same one for one ledger. */
  directory: string;
  /**
   * Keep in the files what may identify a person. Default false: soft deletion, which scrubs it in
   * the database, cannot reach a file (I11).
   */
  withPersonalData?: boolean;
  /**
   * How long to wait for transactions that began before the horizon, and of each day for rows that
   * others hold. Default 60,000 ms.
   */
  waitMs?: number | undefined;
  signal?: AbortSignal | undefined;
  onProgress?: ((progress: ArchiveProgress) => void) | undefined;
  onNotice?: ((message: string) => void) | undefined;
  /** After each step, once it is durable. */
  onStep?: ((step: ArchiveStep) => void) | undefined;
  /** For tests. */
  fileSystem?: ArchiveFileSystem | undefined;
  limits?: Partial<ArchiveLimits> | undefined;
}

export type ArchiveStep =
  | 'horizon raised'
  | 'fenced'
  | 'written'
  | 'proven'
  | 'named'
  | 'moved'
  | 'day archived'
  | 'partition dropped';

export interface ArchiveLimits {
  /** Bounds the memory of the process, and what a damaged file costs. */
  rowsPerFile: number;
  /** Rows moved by the first transaction; it then adapts to a target duration. */
  rowsPerTransaction: number;
}

export interface ArchiveProgress {
  day: string;
  daysDone: number;
  daysTotal: number;
  rowsDone: number;
  /** As of the last verification. */
  rowsExpected: number;
}

export interface ArchiveReport {
  /** First and last day archived by this run; null when there was nothing to do. */
  from: string | null;
  until: string;
  /** Events before this instant are refused, ISO 8601; null when nothing was ever archived. */
  horizon: string | null;
  days: number;
  /** Files written by this run. */
  files: number;
  /** Files of a killed run whose rows this run moved. */
  filesTakenUp: number;
  /** Raw rows moved. */
  rows: number;
  /** Their cost, microdollars. */
  costMicrodollars: bigint;
  longestTransactionMs: number;
  durationMs: number;
  /** Days that were left, oldest first, and why; the others were archived (I12). */
  failures: PeriodFailure[];
  /** As of the plan. */
  leftOut: string[];
}

/** Why a day cannot be archived yet. */
export type BlockerKind =
  | 'unproven'
  | 'drift'
  | 'unpriced'
  | 'prices_later_usage'
  | 'request_in_flight';

export interface Blocker {
  kind: BlockerKind;
  /** UTC day. */
  day: string;
  /** Rows; 0 for `unproven` and `drift`. */
  rows: number;
}

export interface PlannedDay {
  day: string;
  state: string;
  /** Raw rows and cost as of the last verification; null = never. */
  rawRows: number | null;
  costMicrodollars: bigint | null;
}

export interface ArchivePlan {
  until: string;
  /** The horizon that the archive would set, ISO 8601. */
  horizon: string;
  /** Days to do, oldest first: not archived, or with raw rows, and nothing is in the way. */
  days: PlannedDay[];
  /** Everything that is in the way of a day. */
  blockers: Blocker[];
  /** Those that keep their own day alone: it would be left while the others are archived. */
  left: Blocker[];
  /** `table.column` of other programs: no file has them, and they go with the rows. */
  leftOut: string[];
}
