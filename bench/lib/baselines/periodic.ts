import { setTimeout as sleep } from 'node:timers/promises';
import { quantile, round } from '../statistics.js';

/**
 * Work that makes totals current from time to time, and how stale they got: just before a run's
 * result is visible, totals are as old as the moment the run before it took its snapshot.
 */
export class Periodic {
  readonly #work: () => Promise<void>;
  readonly #pauseMs: number;
  readonly #stalenessMs: number[] = [];
  #current: Promise<void> = Promise.resolve();
  #isRunning = false;
  #snapshotAt = 0;

  constructor(work: () => Promise<void>, pauseMs: number) {
    this.#work = work;
    this.#pauseMs = pauseMs;
  }

  resume(): void {
    this.#isRunning = true;
    this.#snapshotAt = performance.now();
    this.#current = this.#loop();
  }

  /** Ends the loop and runs the work once more, when nobody writes. */
  async settle(): Promise<void> {
    this.#isRunning = false;
    await this.#current;
    await this.#once();
  }

  notes(): Record<string, number> {
    return {
      'stale by at most ms': Math.round(quantile(this.#stalenessMs, 1)),
      'stale by p50 ms': round(quantile(this.#stalenessMs, 0.5)),
    };
  }

  async #loop(): Promise<void> {
    while (this.#isRunning) {
      await sleep(this.#pauseMs);
      await this.#once();
    }
  }

  async #once(): Promise<void> {
    const startedAt = performance.now();
    await this.#work();
    this.#stalenessMs.push(performance.now() - this.#snapshotAt);
    this.#snapshotAt = startedAt;
  }
}
