import { z } from 'zod';
import { LedgerError } from '../../errors.js';
import type { Ledger } from '../../ledgerTypes.js';
import { isSharded, partNamed } from '../../shards/parts.js';
import type { Operations } from '../operations/operations.js';
import type { TrpcContext } from './context.js';

/** Input of what is done to one database. */
export const shardInput = {
  shard: z.string().nullish().describe('Over shards: which. Each has its own rollups and proofs.'),
};

/** Of one database, when nothing else is asked. */
export const onlyShard = z.strictObject(shardInput).nullish();

/**
 * The database that is asked for, and what this process keeps of it.
 * @throws LedgerError `invalid_request` over shards without one of them, and of one database with one;
 *   `unavailable` while it is away
 */
export async function shardOf(
  { ledger, operations }: TrpcContext,
  shard: string | null | undefined,
): Promise<{ part: Ledger; operations: Operations }> {
  if (shard != null) {
    // One that could not be reached yet says so.
    const part = await partNamed(ledger, shard).of({});
    return { part, operations: operations.of(part) };
  }
  if (!isSharded(ledger)) return { part: ledger, operations: operations.of(ledger) };
  const names = ledger.parts.flatMap(({ name }) => name ?? []).join(', ');
  throw new LedgerError(
    'invalid_request',
    `shard must name one of the shards, which are ${names}; commands take it as --shard`,
    {
      details: { field: 'shard' },
    },
  );
}
