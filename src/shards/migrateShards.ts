import { inSchema } from '../db/ledgerSchema.js';
import { type MigrateOptions, type MigrateResult, migrate } from '../db/migrate.js';
import { createPool } from '../db/pool.js';
import { toLedgerError } from '../db/sqlstate.js';
import { joinShards, ofShard } from './registry.js';
import { readShards, type ShardOptions } from './shardsFile.js';

export interface MigrateShardsResult {
  /** Of each shard, in the order of the file. */
  shards: ({ name: string } & MigrateResult)[];
  /** Those that became shards of the installation with this call. */
  joined: string[];
}

const LOCK_TIMEOUT_MS = 5_000;
const STATEMENT_TIMEOUT_MS = 60_000;

/**
 * Brings every shard to the schema of this version, one after the other, and makes them one installation.
 * Payers stay where they are. Ended anywhere, it can be called again.
 * @throws LedgerError as `migrate`, naming the shard; `invalid_request` with what is wrong with the shards,
 *   and
 *   none of them has joined
 */
export async function migrateShards(
  shards: readonly ShardOptions[],
  options: Omit<MigrateOptions, 'schema'> = {},
): Promise<MigrateShardsResult> {
  const named = readShards(shards);
  const migrated: MigrateShardsResult['shards'] = [];
  for (const { name, databaseUrl, schema } of named) {
    try {
      migrated.push({ name, ...(await migrate(databaseUrl, { ...options, schema })) });
    } catch (error) {
      throw ofShard(name, toLedgerError(error));
    }
  }
  const pools = named.map(({ name, databaseUrl, schema }) => ({
    name,
    pool: createPool({
      url: inSchema(databaseUrl, schema),
      size: 2,
      applicationName: 'microdollar migrate',
      lockTimeoutMs: options.lockTimeoutMs ?? LOCK_TIMEOUT_MS,
      statementTimeoutMs: STATEMENT_TIMEOUT_MS,
    }),
  }));
  try {
    return { shards: migrated, ...(await joinShards(pools)) };
  } finally {
    await Promise.all(pools.map(({ pool }) => pool.end()));
  }
}
