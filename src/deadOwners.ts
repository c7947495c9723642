/** A process, and how often its heart has beaten; null: it has no heartbeat. */
export interface OwnerRow {
  owner: string;
  beat: string | null;
}

interface Watched {
  beat: string | null;
  /** By our own monotonic clock: since when it stands still. */
  sinceMs: number;
}

const LOOKS_PER_LEASE = 10;
/** Of a watch without a break. */
const LONGEST_GAP_LOOKS = 5;

/**
 * Tells dead owners by their heartbeat. An owner is dead once its beat has stood still for the
 * lease while we watched without a break: no clock of another machine counts, and a time
 * without the database, when nobody's heart could beat, counts for nothing.
 */
export class DeadOwners {
  readonly #leaseMs: number;
  readonly #now: () => number;
  readonly #everyMs: number;
  #watched = new Map<string, Watched>();
  #lastLookMs: number | null = null;

  /** `now`: a monotonic clock, ms. */
  constructor(leaseMs: number, now: () => number = () => performance.now()) {
    this.#leaseMs = leaseMs;
    this.#everyMs = leaseMs / LOOKS_PER_LEASE;
    this.#now = now;
  }

  /** Often enough to be sure, seldom enough to cost nothing. */
  get isTimeToLook(): boolean {
    return this.#lastLookMs === null || this.#now() - this.#lastLookMs >= this.#everyMs;
  }

  /** The database was away: everyone gets a full lease from here. */
  startOver(): void {
    this.#watched.clear();
  }

  /** Takes a look. @returns owners that are dead now */
  look(rows: readonly OwnerRow[]): string[] {
    const now = this.#now();
    // Our own process was stopped or starved: what it has not seen, it cannot tell.
    const longestGapMs = this.#everyMs * LONGEST_GAP_LOOKS;
    if (this.#lastLookMs !== null && now - this.#lastLookMs > longestGapMs) this.startOver();
    this.#lastLookMs = now;
    const dead: string[] = [];
    const watched = new Map<string, Watched>();
    for (const { owner, beat } of rows) {
      const before = this.#watched.get(owner);
      const still = before !== undefined && before.beat === beat ? before : { beat, sinceMs: now };
      watched.set(owner, still);
      if (now - still.sinceMs >= this.#leaseMs) dead.push(owner);
    }
    this.#watched = watched;
    return dead;
  }
}
