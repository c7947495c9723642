/** Between looks for a period that is due. */
export const IDLE_INTERVAL_MS = 5_000;
/** Rest after a unit of work, by how long it took. */
const REST_RATIO = 4;
const MIN_REST_MS = 200;

/** Work of one kind. */
export interface Due {
  /** Verifies what is due; its duration in ms, or null when nothing is. */
  verifyNext(signal: AbortSignal): Promise<number | null>;
}

export interface VerifyTurnsOptions {
  /** Whose verification has a lease: the current and the previous period of the rollup that reads use. */
  leased: Due;
  /** How many of it there are. */
  leasedPeriods: number;
  /** How old it grows before it is due, ms: as long as its rest may be. */
  renewMs: number;
  others: readonly Due[];
  /** A monotonic clock, ms. */
  now?: () => number;
}

/**
 * Whose turn it is on the one connection. What has a lease comes first whenever it is due, also between two
 * units of other work and while that rests: a day of other work may take as long as it takes, and so does
 * its rest, but reads leave the rollup when the lease runs out.
 */
export class VerifyTurns {
  readonly #options: VerifyTurnsOptions;
  readonly #now: () => number;
  #leasedRestsUntilMs = Number.NEGATIVE_INFINITY;
  #othersRestUntilMs = Number.NEGATIVE_INFINITY;

  constructor(options: VerifyTurnsOptions) {
    this.#options = options;
    this.#now = options.now ?? (() => performance.now());
  }

  /** Until the next `run`, ms. */
  restMs(): number {
    const leftMs = this.#othersRestUntilMs - this.#now();
    return Math.min(IDLE_INTERVAL_MS, Math.max(MIN_REST_MS, leftMs));
  }

  async run(signal: AbortSignal): Promise<void> {
    await this.#renew(signal);
    if (this.#now() < this.#othersRestUntilMs) return;
    let restMs = IDLE_INTERVAL_MS;
    for (const other of this.#options.others) {
      if (signal.aborted) return;
      const workMs = await other.verifyNext(signal);
      if (workMs === null) continue;
      restMs = Math.max(MIN_REST_MS, workMs * REST_RATIO);
      await this.#renew(signal);
    }
    this.#othersRestUntilMs = this.#now() + restMs;
  }

  async #renew(signal: AbortSignal): Promise<void> {
    const { leased, leasedPeriods, renewMs } = this.#options;
    if (this.#now() < this.#leasedRestsUntilMs) return;
    let spentMs = 0;
    for (let count = 0; count < leasedPeriods && !signal.aborted; count++) {
      const workMs = await leased.verifyNext(signal);
      if (workMs === null) break;
      spentMs += workMs;
    }
    this.#leasedRestsUntilMs = this.#now() + Math.min(spentMs * REST_RATIO, renewMs);
  }
}
