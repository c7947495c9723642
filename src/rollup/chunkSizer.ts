/** Aimed length of one chunk's statement. */
const TARGET_MS = 700;
const MAX_USERS = 200_000;

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
  #users = 2_000;
  #rowsPerStatement: number;
  readonly #blocksOnly = new Set<string>();

  constructor(limits: Partial<ChunkLimits> = {}) {
    this.limits = { ...LIMITS, ...limits };
    this.#rowsPerStatement = this.limits.rowsPerStatement;
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

  observeBlock(durationMs: number): void {
    if (durationMs > TARGET_MS) this.#users = Math.max(1, Math.floor(this.#users / 2));
    else if (durationMs < TARGET_MS / 8) this.#users = Math.min(MAX_USERS, this.#users * 2);
    else if (durationMs < TARGET_MS / 2) {
      this.#users = Math.min(MAX_USERS, Math.ceil(this.#users * 1.25));
    }
  }

  observePeriod(rows: number, durationMs: number): void {
    if (rows < 10_000) return;
    const affordable = (rows / Math.max(durationMs, 1)) * TARGET_MS;
    this.#rowsPerStatement = Math.min(affordable, this.#rowsPerStatement * 1.25);
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
