import { toLedgerError } from '../db/sqlstate.js';
import { LedgerError } from '../errors.js';
import type { Ledger } from '../ledgerTypes.js';
import { mapBounded } from './mapBounded.js';
import { ofShard } from './registry.js';
import type { Shard } from './shard.js';

/** Shards that one question is out to at a time. */
export const MAX_AT_ONCE = 32;

/** What one shard answered: each is exact in a snapshot of its own. */
export type Part<T> = { name: string; ledger: Ledger } & (
  | { answer: T; error?: undefined }
  | { error: LedgerError; answer?: undefined }
);

/** Asks each shard, side by side, and tells what each of them said. Never rejects. */
export async function askEach<T>(
  shards: readonly Shard[],
  ask: (ledger: Ledger, shard: Shard) => Promise<T>,
): Promise<Part<T>[]> {
  return await mapBounded(shards, MAX_AT_ONCE, async (shard): Promise<Part<T>> => {
    const { name } = shard;
    try {
      const ledger = shard.ledger ?? (await shard.open());
      return { name, ledger, answer: await ask(ledger, shard) };
    } catch (error) {
      return { name, ledger: standIn(shard), error: ofShard(name, toLedgerError(error)) };
    }
  });
}

/**
 * The answers of all: a total without one of them would be wrong.
 * @throws LedgerError of the first that did not answer, naming the shard
 */
export async function askAll<T>(
  shards: readonly Shard[],
  ask: (ledger: Ledger, shard: Shard) => Promise<T>,
): Promise<T[]> {
  return (await askEach(shards, ask)).map((part) => {
    if (part.error !== undefined) throw part.error;
    return part.answer;
  });
}

/** The shard's ledger; while it could not be reached yet, one that refuses whatever it is asked. */
export function standIn(shard: Shard): Ledger {
  if (shard.ledger !== null) return shard.ledger;
  const refusing: unknown = new Proxy(() => {}, {
    // `then`: not taken for a promise.
    get: (_, name) => (name === 'then' ? undefined : refusing),
    apply: async () => {
      await shard.open();
      throw new LedgerError('unavailable', `shard "${shard.name}" is just back; ask again`);
    },
  });
  return refusing as Ledger;
}
