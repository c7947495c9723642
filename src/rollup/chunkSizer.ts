import { CHUNK_MS } from './throttle.js';

/** How long a chunk's statement is to be, and where a job begins. */
interface ChunkAim {
  targetMs: () => number;
  users: number;
  /** Of a whole period, before anything was measured. */
  rowsPerStatement: number;
}

/** Alone on the database. */
const ALONE: ChunkAim = {
  targetMs: () => 700,
  users: 2_000,
  rowsPerStatement: Number.POSITIVE_INFINITY,
};
/**
 * What a chunk has written is flushed with the commit of whichever writer comes next, which waits for all of
 * it: a whole day of 50,000 keys and more is some 20 MB of WAL behind a checkpoint, this is some 100 kB.
 */
const BESIDE_WRITERS = { users: 200, rowsPerStatement: 1_000 };
const MAX_USERS = 200_000;
/** Users and rows of a block, or rows of a period: some milliseconds, of which statements take the half. */
const LEAST_WORK = 400;
/** Of the rows a statement may group: from fewer nothing is learned. */
const LEAST_SHARE = 1 / 30;

export interface ChunkLimits {
  /** Raw rows that one statement groups well within its time, before anything was measured. */
  rowsPerStatement: number;
  /** Rows of one user that a chunk's statement reads; who has more is summed in slices. */
  rowsPerUser: number;
  rowsPerSlice: number;
}

const LIMITS: ChunkLimits = {
  rowsPerStatement: 300_000,
  rowsPerUser: 200_000,
  rowsPerSlice: 100_000,
};

/**
 * Chooses chunks that end within the target: a whole period by one index scan where it is small
 * enough, else blocks of users, growing slowly and shrinking fast. One per worker.
 */
export class ChunkSizer {
  readonly limits: ChunkLimits;
  readonly #targetMs: () => number;
  #users: number;
  #rowsPerStatement: number;
  readonly #leastRows: number;
  readonly #blocksOnly = new Set<string>();

  constructor(limits: Partial<ChunkLimits> = {}, aim: ChunkAim = ALONE) {
    this.limits = { ...LIMITS, ...limits };
    this.#targetMs = aim.targetMs;
    this.#users = aim.users;
    this.#rowsPerStatement = Math.min(this.limits.rowsPerStatement, aim.rowsPerStatement);
    this.#leastRows = Math.min(10_000, this.#rowsPerStatement * LEAST_SHARE);
  }

  /** For chunks beside live writers: short, so that none of them has much to flush. */
  static besideWriters(limits: Partial<ChunkLimits> = {}, targetMs = () => CHUNK_MS): ChunkSizer {
    return new ChunkSizer(limits, { ...BESIDE_WRITERS, targetMs });
  }

  get users(): number {
    return this.#users;
  }

  get rowLimit(): number {
    return this.limits.rowsPerUser;
  }

  usesPeriod(period: string, expectedRows: number): boolean {
    return !this.#blocksOnly.has(period) && expectedRows <= this.#rowsPerStatement;
  }

  /** @param rows that were read */
  observeBlock(rows: number, durationMs: number): void {
    const targetMs = this.#targetMs();
    // What takes long with hardly anything to do waits for a processor: a smaller one would as well.
    const isSmall = rows + this.#users <= LEAST_WORK;
    if (durationMs > targetMs) {
      if (!isSmall) this.#users = Math.max(1, Math.floor(this.#users / 2));
    } else if (durationMs < targetMs / 8) this.#users = Math.min(MAX_USERS, this.#users * 2);
    else if (durationMs < targetMs / 2) {
      this.#users = Math.min(MAX_USERS, Math.ceil(this.#users * 1.25));
    }
  }

  observePeriod(rows: number, durationMs: number): void {
    if (rows < this.#leastRows) return;
    const affordable = (rows / Math.max(durationMs, 1)) * this.#targetMs();
    const least = Math.min(LEAST_WORK, this.#rowsPerStatement);
    this.#rowsPerStatement = Math.max(least, Math.min(affordable, this.#rowsPerStatement * 1.25));
  }

  /** After a statement that ran into its time; false when there is nothing left to shrink. */
  shrink(period: string, wasPeriod: boolean): boolean {
    if (wasPeriod) {
      this.#blocksOnly.add(period);
      return true;
    }
    if (this.#users === 1) return false;
    this.#users = Math.max(1, Math.floor(this.#users / 4));
    return true;
  }
}
