import { setTimeout as sleep } from 'node:timers/promises';
import { isAwaitingPartition, isLockTimeout, LOCK_TIMEOUT, sqlStateOf } from '../db/sqlstate.js';
import { LedgerError } from '../errors.js';
import { Turns } from './turns.js';

const FIRST_PAUSE_MS = 20;
const MAX_PAUSE_MS = 400;
/** How long an id that was held is expected to be held still. */
const REMEMBER_MS = 60_000;
/** How long the ids of a statement that met a lock stay out of others, until it is known which. */
const SUSPECT_MS = 1_000;
const MAX_REMEMBERED = 10_000;
/** A line is waited in so long at least, however short a twin is waited for. */
const MIN_LINE_MS = 5_000;
/** Tries at once; fewer than there are connections, so that one is left for whoever is not held. */
const TRIES_AT_ONCE = 2;

/**
 * A statement met what it did not wait for: its id is in flight elsewhere, or, which is as rare and as
 * short, of a month that is being made a partition.
 */
export const isHeld = (error: unknown): boolean =>
  isLockTimeout(error) || isAwaitingPartition(error);

/** Rests before the next try. */
interface Pauses {
  next(error: unknown): Promise<void>;
  /** Of who had to wait for a turn. @throws LedgerError `unavailable` once it lasted too long */
  check(): void;
}

export interface TwinsOptions {
  /** How long an event waits for its twin, and for a turn to try. */
  waitMs: number;
  /** A statement met a lock, and is sent again. */
  onHeld: (error: unknown) => void;
}

/**
 * Events whose id is in flight in another transaction (R11). They wait here, alone: of each id one
 * tries again with pauses, few ids at once, and holds a connection only for the few milliseconds of
 * a try, so any number of them delays nobody else.
 */
export class Twins {
  readonly #options: TwinsOptions;
  readonly #heldUntilMs = new Map<string, number>();
  /** By id, the one that tries for all of it; whether the id was free in the end. */
  readonly #leading = new Map<string, Promise<boolean>>();
  readonly #turns = new Turns(TRIES_AT_ONCE);

  constructor(options: TwinsOptions) {
    this.#options = options;
  }

  /** Whether this id was met in flight lately: it goes straight here, and disturbs no batch. */
  isExpected(id: string): boolean {
    if (this.#heldUntilMs.size === 0) return false;
    return (this.#heldUntilMs.get(id) ?? 0) > performance.now();
  }

  /** One of these ids is held: until it is known which, none disturbs another statement. */
  suspect(ids: readonly string[]): void {
    for (const id of ids) if (!this.isExpected(id)) this.#remember(id, SUSPECT_MS);
  }

  /**
   * Tries until the twin has ended.
   * @throws LedgerError `unavailable`: nothing was written by this call
   */
  async wait<T>(id: string, attempt: () => Promise<T>): Promise<T> {
    const pauses = this.#pauses(id);
    this.#remember(id, REMEMBER_MS);
    for (let isFree = false; !isFree; ) {
      const leading = this.#leading.get(id);
      if (!leading) return await this.#lead(id, () => this.#try(id, attempt, pauses));
      isFree = await leading;
    }
    return await this.#try(id, attempt, pauses);
  }

  async #lead<T>(id: string, work: () => Promise<T>): Promise<T> {
    const trying = work();
    this.#leading.set(
      id,
      trying.then(
        () => true,
        () => false,
      ),
    );
    try {
      return await trying;
    } finally {
      this.#leading.delete(id);
    }
  }

  async #try<T>(id: string, attempt: () => Promise<T>, pauses: Pauses): Promise<T> {
    for (;;) {
      try {
        const result = await this.#turns.take(() => {
          pauses.check();
          return attempt();
        });
        this.#heldUntilMs.delete(id);
        return result;
      } catch (error) {
        if (!isHeld(error)) throw error;
        await pauses.next(error);
      }
    }
  }

  /**
   * For who stands in line with others that are held, and may be free: to be asked at their turn.
   * @returns throws StillHeld once it lasted too long
   */
  patience(id: string): () => void {
    const deadlineMs = performance.now() + Math.max(this.#options.waitMs, MIN_LINE_MS);
    return () => {
      if (performance.now() <= deadlineMs) return;
      const what = 'many ids that other transactions hold were in line before it';
      throw new StillHeld(what, id, { code: LOCK_TIMEOUT });
    };
  }

  /**
   * Of a statement that met a lock: tries again as long as it is the table that is locked (DDL),
   * which everybody meets alike.
   * @throws the lock that was met, if it is none of the table's; LedgerError `unavailable`
   */
  async waitForTable<T>(
    met: unknown,
    isLocked: () => Promise<boolean>,
    attempt: () => Promise<T>,
  ): Promise<T> {
    const pauses = this.#pauses(null);
    for (let error = met; ; ) {
      if (!(await isLocked())) {
        this.#options.onHeld(error);
        throw error;
      }
      await pauses.next(error);
      try {
        return await attempt();
      } catch (again) {
        if (!isHeld(again)) throw again;
        error = again;
      }
    }
  }

  /** Rests that grow, until what is waited for would last too long. */
  #pauses(id: string | null): Pauses {
    const deadlineMs = performance.now() + this.#options.waitMs;
    let pauseMs = FIRST_PAUSE_MS;
    let met: unknown = { code: LOCK_TIMEOUT };
    return {
      next: async (error) => {
        met = error;
        if (performance.now() + pauseMs > deadlineMs) throw stillHeld(id, error);
        this.#options.onHeld(error);
        await sleep(pauseMs);
        pauseMs = Math.min(pauseMs * 2, MAX_PAUSE_MS);
      },
      check: () => {
        if (performance.now() > deadlineMs) throw stillHeld(id, met);
      },
    };
  }

  #remember(id: string, forMs: number): void {
    if (this.#heldUntilMs.size >= MAX_REMEMBERED) this.#heldUntilMs.clear();
    this.#heldUntilMs.set(id, performance.now() + forMs);
  }
}

/** `unavailable`: it was waited for long enough. */
export class StillHeld extends LedgerError {
  constructor(what: string, id: string | null, cause: unknown) {
    super('unavailable', `${what}; send the event again later`, {
      details: { id, sqlstate: sqlStateOf(cause) },
      cause,
    });
  }
}

function stillHeld(id: string | null, cause: unknown): StillHeld {
  const what = isAwaitingPartition(cause)
    ? 'the partition of this id is being prepared (if nobody does: run `microdollar migrate`)'
    : id === null
      ? 'another session locks the table and has not ended'
      : 'another transaction holds this id and has not ended';
  return new StillHeld(what, id, cause);
}
