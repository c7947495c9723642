import { setTimeout as sleep } from 'node:timers/promises';
import { sqlStateOf } from '../db/sqlstate.js';
import { LedgerError } from '../errors.js';
import { TWIN_WAIT_MS } from './appendUsage.sql.js';

const FIRST_PAUSE_MS = 20;
const MAX_PAUSE_MS = 400;
/** How long an id that was held is expected to be held still. */
const REMEMBER_MS = 60_000;
const MAX_REMEMBERED = 10_000;

/** A statement met a lock that it did not wait for: its id is in flight elsewhere. */
export const isHeld = (error: unknown): boolean => sqlStateOf(error) === '55P03';

/**
 * Events whose id is in flight in another transaction (R11). They wait here, alone: each tries
 * again with pauses, and holds a connection only for the few milliseconds of a try, so any number of
 * them delays nobody else.
 */
export class Twins {
  readonly #heldUntilMs = new Map<string, number>();

  /** Whether this id was met in flight lately: it goes straight here, and disturbs no batch. */
  isExpected(id: string): boolean {
    if (this.#heldUntilMs.size === 0) return false;
    return (this.#heldUntilMs.get(id) ?? 0) > Date.now();
  }

  /**
   * Tries until the twin has ended, at most `TWIN_WAIT_MS`; without an id, until a table's lock has.
   * @throws LedgerError `unavailable`: nothing was written by this call
   */
  async wait<T>(id: string | null, attempt: () => Promise<T>): Promise<T> {
    const deadlineMs = performance.now() + TWIN_WAIT_MS;
    if (id !== null) this.#remember(id);
    for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(pauseMs * 2, MAX_PAUSE_MS)) {
      try {
        const result = await attempt();
        if (id !== null) this.#heldUntilMs.delete(id);
        return result;
      } catch (error) {
        if (!isHeld(error)) throw error;
        if (performance.now() + pauseMs > deadlineMs) throw stillHeld(id, error);
        await sleep(pauseMs);
      }
    }
  }

  #remember(id: string): void {
    if (this.#heldUntilMs.size >= MAX_REMEMBERED) this.#heldUntilMs.clear();
    this.#heldUntilMs.set(id, Date.now() + REMEMBER_MS);
  }
}

function stillHeld(id: string | null, cause: unknown): LedgerError {
  return new LedgerError(
    'unavailable',
    id === null
      ? 'another session locks the table and has not ended; send the event again later'
      : 'another transaction holds this id and has not ended; send the event again later',
    { details: { id, sqlstate: '55P03' }, cause },
  );
}
