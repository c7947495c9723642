import { type BackgroundTask, startTask } from '../background.js';
import type { Query } from '../db/query.js';
import type { Metrics } from '../metrics.js';
import type { ReadMode } from '../schema/settings.js';
import { fallBackToRaw, type ReadModeStatus, readReadMode } from './readMode.js';
import { addComparisonsStatement } from './readMode.sql.js';

const POLL_INTERVAL_MS = 1_000;

/** What shadow comparisons of this process found since the last poll. */
interface Comparisons {
  made: number;
  mismatched: number;
  /** The first mismatch, without personal data. */
  example: string | null;
}

/** Milliseconds: one that no step of the system's time moves, and one that a suspend does not stop. */
export interface Clock {
  monotonicMs(): number;
  wallMs(): number;
}

const SYSTEM_CLOCK: Clock = {
  monotonicMs: () => performance.now(),
  wallMs: () => Date.now(),
};

/**
 * Keeps this process in step with the stored read mode: polls it every second, reports the
 * comparisons made here, and falls back to raw usage when drift or a mismatch is known. While the
 * primary is away a replica may still answer: from the rollup only until the lease that was seen
 * last has run out by this process's own clock (I10).
 */
export class ReadModeFollower {
  readonly #query: Query;
  readonly #metrics: Metrics;
  readonly #clock: Clock;
  #status: ReadModeStatus | null = null;
  /** When the poll that `#status` is of began. */
  #polledAt = { monotonicMs: 0, wallMs: 0 };
  #comparisons: Comparisons = { made: 0, mismatched: 0, example: null };
  /** A mismatch that no poll has acted upon yet. */
  #mismatch: string | null = null;
  #task: BackgroundTask | null = null;

  constructor(query: Query, metrics: Metrics, clock = SYSTEM_CLOCK) {
    this.#query = query;
    this.#metrics = metrics;
    this.#clock = clock;
  }

  /** @throws when the first poll fails: nothing may be answered before the mode is known */
  async start(): Promise<void> {
    await this.poll();
    this.#task = startTask({
      name: 'read_mode',
      run: () => this.poll(),
      intervalMs: POLL_INTERVAL_MS,
      restsFirst: true,
      onError: () => {
        this.#metrics.readModePollErrors.inc();
        this.#show();
      },
    });
  }

  /** What reads use now. */
  mode(): ReadMode {
    return this.status()?.effective ?? 'raw';
  }

  status(): ReadModeStatus | null {
    const status = this.#status;
    if (status?.effective !== 'rollup') return status;
    const unseenMs = Math.max(
      this.#clock.monotonicMs() - this.#polledAt.monotonicMs,
      this.#clock.wallMs() - this.#polledAt.wallMs,
    );
    if (unseenMs < status.gate.leaseLeftMs) return status;
    const reason =
      'answering from raw usage: the proof of the rollup has not been seen for ' +
      `${Math.round(unseenMs / 1_000)} s, and its lease has run out`;
    return { ...status, effective: 'raw', reason };
  }

  note(isEqual: boolean, example: () => string): void {
    const comparisons = this.#comparisons;
    comparisons.made++;
    this.#metrics.shadowComparisons.inc({ outcome: isEqual ? 'equal' : 'mismatch' });
    if (isEqual) return;
    comparisons.mismatched++;
    comparisons.example ??= example();
  }

  async poll(): Promise<void> {
    const polledAt = {
      monotonicMs: this.#clock.monotonicMs(),
      wallMs: this.#clock.wallMs(),
    };
    const { made, mismatched, example } = this.#comparisons;
    if (made > 0) {
      await this.#query(addComparisonsStatement(made, mismatched));
      this.#comparisons = {
        made: this.#comparisons.made - made,
        mismatched: this.#comparisons.mismatched - mismatched,
        example: null,
      };
      if (mismatched > 0) this.#mismatch ??= example ?? 'no example kept';
    }
    const before = this.#status?.stored;
    let status = await readReadMode(this.#query);
    if (status.stored === 'rollup') {
      const reason =
        this.#mismatch !== null
          ? `fell back: a comparison with raw usage differed (${this.#mismatch})`
          : status.gate.driftedDays.length > 0
            ? `fell back: ${status.gate.obstacles[0]}`
            : null;
      if (reason !== null) {
        await fallBackToRaw(this.#query, reason);
        status = await readReadMode(this.#query);
      }
    }
    this.#mismatch = null;
    if (before === 'rollup' && status.stored === 'raw' && status.reason !== null) {
      this.#metrics.readModeFallbacks.inc();
    }
    this.#metrics.leaseAge.set((status.gate.leaseAgeMs ?? Number.NaN) / 1000);
    this.#metrics.unprovenDays.set(status.gate.unprovenDays.length);
    this.#metrics.archiveHorizon.set(status.archiveHorizonSeconds ?? Number.NaN);
    this.#status = status;
    this.#polledAt = polledAt;
    this.#show();
  }

  #show(): void {
    const current = this.mode();
    for (const mode of ['raw', 'shadow', 'rollup'] as const) {
      this.#metrics.readMode.set({ mode }, current === mode ? 1 : 0);
    }
  }

  async stop(): Promise<void> {
    await this.#task?.stop();
  }
}
