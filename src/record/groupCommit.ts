import { isDatabaseAway } from '../db/sqlstate.js';
import { LedgerError } from '../errors.js';
import type { ValidEvent } from './event.js';
import type { Outcome, Written } from './recorder.js';
import type { RecordedEvent } from './types.js';

export interface GroupCommitOptions {
  /**
   * Writes events with unique ids; one outcome each, in order. Resolves when its statements have
   * ended; the outcome of an event that waits aside may come later.
   */
  write: (events: readonly ValidEvent[]) => Promise<Written[]>;
  /** Statements in flight at once. */
  lanes: number;
  /** Events in one statement. */
  maxBatch: number;
  /** Events waiting; past that new ones are refused rather than held in memory. */
  maxQueue: number;
}

interface Waiting {
  event: ValidEvent;
  resolve: (result: RecordedEvent) => void;
  reject: (error: Error) => void;
}

/**
 * Gathers concurrent calls into one statement: sends at once when idle, gathers while statements
 * are in flight, so it adds no delay when there is no load. Few large statements beat many small
 * ones, but two run on two cores: another lane opens for `PARALLEL_BATCH` events, or when the
 * first has been out for much longer than statements lately were (it met a lock, its disk is slow).
 * Calls of one id are sent one after the other: side by side, the later might be the one recorded.
 *
 *   idle --call--> gathering (one microtask) --flush--> in flight --done--> gathering | idle
 */
/** Times the usual statement that one may be out before the next is sent, and bounds, ms. */
const STALL_FACTOR = 4;
const MIN_STALL_MS = 3;
const MAX_STALL_MS = 20;
/** Events that are worth a statement of their own beside another; 32 to 100 measured alike. */
const PARALLEL_BATCH = 64;

export class GroupCommit {
  readonly #options: GroupCommitOptions;
  #queue: Waiting[] = [];
  #inFlight = 0;
  readonly #idsInFlight = new Set<string>();
  #flushScheduled = false;
  #stallTimer: NodeJS.Timeout | null = null;
  /** How long statements lately took: a moving average, ms. */
  #usualMs = MAX_STALL_MS / STALL_FACTOR;
  #onIdle: (() => void)[] = [];

  constructor(options: GroupCommitOptions) {
    this.#options = options;
  }

  /** Events waiting or in flight. */
  get queued(): number {
    return this.#queue.length;
  }

  record(event: ValidEvent): Promise<RecordedEvent> {
    if (this.#queue.length >= this.#options.maxQueue) {
      return Promise.reject(
        new LedgerError('unavailable', 'too many events are waiting for the database', {
          details: { waiting: this.#queue.length },
        }),
      );
    }
    return new Promise((resolve, reject) => {
      this.#queue.push({ event, resolve, reject });
      this.#schedule();
    });
  }

  /** Resolves when nothing is waiting or in flight. */
  async drain(): Promise<void> {
    if (this.#queue.length === 0 && this.#inFlight === 0) return;
    await new Promise<void>((resolve) => this.#onIdle.push(resolve));
  }

  #schedule(): void {
    if (this.#flushScheduled || this.#inFlight >= this.#options.lanes) return;
    this.#flushScheduled = true;
    // After the microtasks of this turn: calls made together travel together.
    setImmediate(() => {
      this.#flushScheduled = false;
      this.#flush();
    });
  }

  #flush(): void {
    const enoughForAnotherLane = Math.min(PARALLEL_BATCH, this.#options.maxBatch);
    while (this.#queue.length > 0 && this.#inFlight < this.#options.lanes) {
      if (this.#inFlight > 0 && this.#queue.length < enoughForAnotherLane) {
        this.#stallTimer ??= setTimeout(() => {
          this.#stallTimer = null;
          if (this.#queue.length > 0 && this.#inFlight < this.#options.lanes) this.#send();
        }, this.#stallMs());
        return;
      }
      if (!this.#send()) return;
    }
  }

  #stallMs(): number {
    return Math.min(MAX_STALL_MS, Math.max(MIN_STALL_MS, STALL_FACTOR * this.#usualMs));
  }

  /** Whether there was anything to send: what waits may all be of ids in flight. */
  #send(): boolean {
    const sentMs = performance.now();
    // The first of an idle time leaves half of a long queue to the second.
    const share = this.#inFlight === 0 ? Math.ceil(this.#queue.length / 2) : this.#queue.length;
    const batch = this.#take(Math.min(this.#options.maxBatch, Math.max(PARALLEL_BATCH, share)));
    if (batch.length === 0) return false;
    this.#inFlight++;
    void this.#options
      .write(batch.map((waiting) => waiting.event))
      .then(
        (outcomes) => {
          batch.forEach((waiting, index) => {
            const outcome = outcomes[index] ?? { error: new Error('the write gave no outcome') };
            if (outcome instanceof Promise) void outcome.then((late) => answer(waiting, late));
            else this.#answer(waiting, outcome);
          });
        },
        (error: Error) => {
          for (const waiting of batch) waiting.reject(error);
        },
      )
      .finally(() => {
        this.#inFlight--;
        for (const { event } of batch) this.#idsInFlight.delete(event.id);
        const tookMs = Math.min(MAX_STALL_MS, performance.now() - sentMs);
        this.#usualMs += (tookMs - this.#usualMs) / 8;
        if (this.#queue.length > 0) this.#flush();
        else if (this.#inFlight === 0) {
          for (const resolve of this.#onIdle.splice(0)) resolve();
        }
      });
    return true;
  }

  /**
   * When a statement found no database through all its retries, those behind it are refused too:
   * each with retries of its own, one after the other, a long queue would wait for minutes. What waited
   * aside, on other connections, tells nothing of the lanes.
   */
  #answer(waiting: Waiting, outcome: Outcome): void {
    answer(waiting, outcome);
    if ('result' in outcome || !isDatabaseAway(outcome.error)) return;
    for (const behind of this.#queue.splice(0)) behind.reject(outcome.error);
  }

  /** The next batch, in order of arrival; of each id one event is in flight, and the next waits for it. */
  #take(size: number): Waiting[] {
    const batch: Waiting[] = [];
    const ids = this.#idsInFlight;
    const left: Waiting[] = [];
    let index = 0;
    for (; index < this.#queue.length && batch.length < size; index++) {
      const waiting = this.#queue[index] as Waiting;
      if (ids.has(waiting.event.id)) {
        left.push(waiting);
        continue;
      }
      ids.add(waiting.event.id);
      batch.push(waiting);
    }
    this.#queue =
      left.length > 0 ? [...left, ...this.#queue.slice(index)] : this.#queue.slice(index);
    return batch;
  }
}

function answer({ resolve, reject }: Waiting, outcome: Outcome): void {
  if ('result' in outcome) resolve(outcome.result);
  else reject(outcome.error);
}
