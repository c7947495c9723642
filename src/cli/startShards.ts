import type { Logger } from 'pino';
import { inSchema } from '../db/ledgerSchema.js';
import { LedgerError } from '../errors.js';
import type { Ledger, LedgerOptions } from '../ledgerTypes.js';
import { migrateShards } from '../shards/migrateShards.js';
import { createShardedLedger } from '../shards/shardedLedger.js';
import type { ShardOptions } from '../shards/shardsFile.js';
import { describeFailure } from './database.js';
import type { Environment } from './environment.js';

/** What `start` serves, migrated. */
export interface ServedDatabase {
  /** Of shards that of home. */
  url: string;
  openLedger(
    options: Omit<LedgerOptions, 'databaseUrl' | 'replicaUrl' | 'schema'>,
  ): Promise<Ledger>;
}

/**
 * Shards as what is served. Those that can be reached are migrated; one that is away is its payers' alone,
 * and is used when it is back. Through a pooler nothing is migrated: it would hand the lock of the session
 * that does to somebody else.
 * @throws LedgerError `invalid_request` with what is wrong with the shards; `unavailable` while home is
 *   away
 */
export async function prepareShards(
  environment: Environment,
  shards: readonly ShardOptions[],
  log: Logger,
): Promise<ServedDatabase> {
  const [home] = shards;
  if (home === undefined) throw new LedgerError('internal', 'a file of shards names one');
  const isDirect = environment.pooler === null;
  const homeUrl = isDirect ? inSchema(home.databaseUrl, home.schema) : home.databaseUrl;
  const describe = (error: unknown) => describeFailure(error, homeUrl, 'the shards file');
  if (isDirect) {
    try {
      const migrated = await migrateShards(shards, {
        adopt: false,
        onAway: (name, error) =>
          log.error({ shard: name, reason: error.message }, 'a shard is away, and not migrated'),
      });
      for (const { name, applied } of migrated.shards) {
        if (applied.length > 0) log.info({ shard: name, applied }, 'migrations applied');
      }
      if (migrated.joined.length > 0) log.info({ joined: migrated.joined }, 'shards joined');
    } catch (error) {
      throw describe(error);
    }
  }
  return {
    url: homeUrl,
    openLedger: (options) =>
      createShardedLedger({ ...options, shards }).catch((error) => {
        throw describe(error);
      }),
  };
}
