import { createLedger as openLedger } from './ledger.js';
import type { LedgerOptions, PublicLedger } from './ledgerTypes.js';
import { createShardedLedger, type ShardedLedgerOptions } from './shards/shardedLedger.js';

/**
 * Opens a ledger on a migrated database (`migrate`), or on shards (`migrateShards`, docs/scaling.md).
 * @throws LedgerError `invalid_request` without a database URL, or naming what is wrong with the shards;
 *   `unavailable` when the database, of shards the first, cannot be reached, or lacks migrations
 */
export function createLedger(options: LedgerOptions | ShardedLedgerOptions): Promise<PublicLedger> {
  return options != null && 'shards' in options
    ? createShardedLedger(options)
    : openLedger(options);
}
