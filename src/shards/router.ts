import { setTimeout as sleep } from 'node:timers/promises';
import { isElsewhere, LedgerError } from '../errors.js';
import type { Ledger, NamedPayer } from '../ledgerTypes.js';
import type { Directory, Place } from './directory.js';
import { keyOfPayer, type PayerKey } from './placement.js';
import { ofShard } from './registry.js';
import type { Shard } from './shard.js';

/** How long a call waits for a payer who is on the way to another shard. */
const FENCE_WAIT_MS = 2_000;
/** Of a write that was refused, and finds nothing in its way when it is asked why. */
const MAX_TRIES = 3;
const FIRST_PAUSE_MS = 10;
const MAX_PAUSE_MS = 100;

/**
 * Finds the shard of a payer, and runs what is to be done there:
 *
 *   1. on the shard that the directory in memory names
 *   2. it refuses the payer as elsewhere, or as unknown: the directory is read anew
 *   3. it names another shard now: again there
 *   4. the payer is fenced: again after a pause, for up to FENCE_WAIT_MS; then `unavailable`
 *   5. an unknown payer, and nothing has changed: it is unknown
 *
 * Whatever is run must be safe to repeat where it was refused as elsewhere or unknown: nothing was done then.
 */
export class Router {
  readonly #directory: Directory;
  readonly #shards: ReadonlyMap<string, Shard>;

  constructor(directory: Directory, shards: ReadonlyMap<string, Shard>) {
    this.#directory = directory;
    this.#shards = shards;
  }

  /** By memory alone: who looks whether the payer is there is told. */
  shardOf(payer: NamedPayer): Shard {
    return this.#shardAt(this.#directory.find(keyOfPayer(payer)));
  }

  /** @throws LedgerError as `run`; `unavailable` naming the shard */
  async at<T>(payer: NamedPayer, run: (ledger: Ledger, shard: Shard) => Promise<T>): Promise<T> {
    const key = keyOfPayer(payer);
    const place = this.#directory.find(key);
    const shard = this.#shardAt(place);
    try {
      return await this.#run(shard, run);
    } catch (error) {
      if (!isMisplaced(error)) throw error;
      return await this.#again(key, place, run, error);
    }
  }

  async #again<T>(
    key: PayerKey,
    tried: Place,
    run: (ledger: Ledger, shard: Shard) => Promise<T>,
    refusal: LedgerError,
  ): Promise<T> {
    const deadlineMs = performance.now() + FENCE_WAIT_MS;
    let last = { place: tried, error: refusal };
    for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(MAX_PAUSE_MS, pauseMs * 2)) {
      await this.#lookAgain(last.error);
      const place = this.#directory.find(key);
      const hasMoved = place.shard !== last.place.shard;
      // Unknown, on the shard that it would be on, and not on its way: that is the answer.
      if (!hasMoved && !place.isFenced && !isElsewhere(last.error)) throw last.error;
      if (!hasMoved && performance.now() > deadlineMs) throw onItsWay(last.error);
      if (!hasMoved) await sleep(pauseMs);
      try {
        return await this.#run(this.#shardAt(place), run);
      } catch (error) {
        if (!isMisplaced(error)) throw error;
        last = { place, error };
      }
    }
  }

  /** While home is away it cannot be told whether the payer is unknown, or has moved. */
  async #lookAgain(refusal: LedgerError): Promise<void> {
    try {
      await this.#directory.refresh();
    } catch (error) {
      throw new LedgerError(
        'unavailable',
        `${refusal.message}; whether it has moved cannot be looked up now`,
        { details: { ...(error as LedgerError).details, id: refusal.details.id }, cause: error },
      );
    }
  }

  async #run<T>(shard: Shard, run: (ledger: Ledger, shard: Shard) => Promise<T>): Promise<T> {
    const ledger = shard.ledger ?? (await shard.open());
    for (let tries = 1; ; tries++) {
      try {
        return await run(ledger, shard);
      } catch (error) {
        if (isAbsent(error) && tries < MAX_TRIES) continue;
        if (error instanceof LedgerError && error.code === 'unavailable') {
          throw ofShard(shard.name, error);
        }
        throw error;
      }
    }
  }

  #shardAt({ shard }: Place): Shard {
    const found = this.#shards.get(shard);
    if (found !== undefined) return found;
    throw new LedgerError(
      'unavailable',
      `shard "${shard}" is not among the shards of this process: start it with the present shards file`,
      { details: { shard } },
    );
  }
}

/** Nothing was done: the payer, or the user of an event, is not on this shard. */
export function isMisplaced(error: unknown): error is LedgerError {
  return (
    error instanceof LedgerError &&
    (error.code === 'unknown_user' || error.code === 'unknown_organization')
  );
}

/** Who was unknown, or fenced, is there a moment later: their user was made known by a neighbour's write. */
function isAbsent(error: unknown): boolean {
  return error instanceof LedgerError && error.details.is_absent === true;
}

function onItsWay(refusal: LedgerError): LedgerError {
  return new LedgerError('unavailable', 'the payer is on the way to another shard; send it again', {
    details: { id: refusal.details.id, field: refusal.details.field },
  });
}
