import { isDatabaseAway } from '../db/sqlstate.js';
import { LedgerError } from '../errors.js';
import type { ValidEvent } from './event.js';
import type { Outcome, Written } from './recorder.js';
import { StillHeld } from './twins.js';
import type { RecordedEvent } from './types.js';

export interface GroupCommitOptions {
  /**
   * Writes events with unique ids; one outcome each, in order. Resolves when its statements have
   * ended; the outcome of an event that waits aside may come later.
   */
  write: (events: readonly ValidEvent[]) => Promise<Written[]>;
  /** Writes an event beside the lanes; null: it has its place in them. Never rejects. Default: all have. */
  writeAside?: (event: ValidEvent) => Promise<Outcome> | null;
  /** Statements in flight at once. */
  lanes: number;
  /** Events in one statement. */
  maxBatch: number;
  /** Events waiting, and as many behind others of their ids; past that new ones are refused. */
  maxQueue: number;
}

interface Waiting {
  event: ValidEvent;
  resolve: (result: RecordedEvent) => void;
  reject: (error: Error) => void;
  /** The next call of its id, which is sent once this one is answered. */
  next: Waiting | null;
}

/**
 * Gathers concurrent calls into one statement: sends at once when idle, gathers while statements
 * are in flight, so it adds no delay when there is no load. Few large statements beat many small
 * ones, but two run on two cores: another lane opens for `PARALLEL_BATCH` events, or when the
 * first has been out for much longer than statements lately were (it met a lock, its disk is slow).
 * Calls of one id are sent one after the other, also of those that wait aside: side by side, the later
 * might be the one recorded.
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
  /** By id, the last call that is not answered yet. */
  readonly #lastOfId = new Map<string, Waiting>();
  /** Calls behind others of their ids: in no queue. */
  #behind = 0;
  #flushScheduled = false;
  #stallTimer: NodeJS.Timeout | null = null;
  /** How long statements lately took: a moving average, ms. */
  #usualMs = MAX_STALL_MS / STALL_FACTOR;
  #onIdle: (() => void)[] = [];

  constructor(options: GroupCommitOptions) {
    this.#options = options;
  }

  /** Events waiting. */
  get queued(): number {
    return this.#queue.length + this.#behind;
  }

  record(event: ValidEvent): Promise<RecordedEvent> {
    const before = this.#lastOfId.get(event.id);
    if ((before ? this.#behind : this.#queue.length) >= this.#options.maxQueue) {
      return Promise.reject(
        new LedgerError('unavailable', 'too many events are waiting for the database', {
          details: { waiting: this.queued },
        }),
      );
    }
    return new Promise((resolve, reject) => {
      const waiting = { event, resolve, reject, next: null };
      this.#lastOfId.set(event.id, waiting);
      if (before === undefined) return this.#enter(waiting);
      before.next = waiting;
      this.#behind++;
    });
  }

  #enter(waiting: Waiting): void {
    const aside = this.#options.writeAside?.(waiting.event);
    if (aside) this.#await(waiting, aside);
    else {
      this.#queue.push(waiting);
      this.#schedule();
    }
  }

  /** Resolves when nothing is waiting or in flight. */
  async drain(): Promise<void> {
    if (this.queued === 0 && this.#inFlight === 0) return;
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
      this.#send();
    }
  }

  #stallMs(): number {
    return Math.min(MAX_STALL_MS, Math.max(MIN_STALL_MS, STALL_FACTOR * this.#usualMs));
  }

  #send(): void {
    const sentMs = performance.now();
    // The first of an idle time leaves half of a long queue to the second.
    const share = this.#inFlight === 0 ? Math.ceil(this.#queue.length / 2) : this.#queue.length;
    const size = Math.min(this.#options.maxBatch, Math.max(PARALLEL_BATCH, share));
    const batch = this.#queue.slice(0, size);
    this.#queue = this.#queue.slice(size);
    this.#inFlight++;
    void this.#write(batch).then((outcomes) => {
      this.#inFlight--;
      const tookMs = Math.min(MAX_STALL_MS, performance.now() - sentMs);
      this.#usualMs += (tookMs - this.#usualMs) / 8;
      batch.forEach((waiting, index) => {
        const outcome = outcomes[index] ?? { error: new Error('the write gave no outcome') };
        if (outcome instanceof Promise) this.#await(waiting, outcome);
        else this.#answer(waiting, outcome);
      });
      this.#goOn();
    });
  }

  /** Never rejects. */
  async #write(batch: readonly Waiting[]): Promise<Written[]> {
    try {
      return await this.#options.write(batch.map(({ event }) => event));
    } catch (error) {
      return batch.map(() => ({ error: error as Error }));
    }
  }

  #goOn(): void {
    if (this.#queue.length > 0) this.#flush();
    else if (this.#inFlight === 0 && this.#behind === 0) {
      for (const resolve of this.#onIdle.splice(0)) resolve();
    }
  }

  /**
   * When a statement found no database through all its retries, those behind it are refused too:
   * each with retries of its own, one after the other, a long queue would wait for minutes.
   */
  #answer(waiting: Waiting, outcome: Outcome): void {
    this.#settle(waiting, outcome);
    if ('result' in outcome || !isDatabaseAway(outcome.error)) return;
    for (const behind of this.#queue.splice(0)) this.#refuse(behind, outcome.error);
  }

  /** Of what waits aside, on other connections: it tells nothing of the lanes. */
  #await(waiting: Waiting, outcome: Promise<Outcome>): void {
    void outcome.then((late) => {
      this.#settle(waiting, late);
      this.#goOn();
    });
  }

  /** The next of its id goes on; what was waited for in vain, it has waited for as well. */
  #settle(waiting: Waiting, outcome: Outcome): void {
    if ('error' in outcome && outcome.error instanceof StillHeld) {
      this.#refuse(waiting, outcome.error);
      return;
    }
    if ('result' in outcome) waiting.resolve(outcome.result);
    else waiting.reject(outcome.error);
    const { event, next } = waiting;
    if (next === null) this.#lastOfId.delete(event.id);
    else {
      this.#behind--;
      this.#enter(next);
    }
  }

  /** With all behind it of its id. */
  #refuse(first: Waiting, error: Error): void {
    this.#lastOfId.delete(first.event.id);
    first.reject(error);
    for (let behind = first.next; behind !== null; behind = behind.next) {
      this.#behind--;
      behind.reject(error);
    }
  }
}
