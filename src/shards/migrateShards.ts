import { inSchema } from '../db/ledgerSchema.js';
import { type MigrateOptions, type MigrateResult, migrate } from '../db/migrate.js';
import { createPool } from '../db/pool.js';
import { toLedgerError } from '../db/sqlstate.js';
import type { LedgerError } from '../errors.js';
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

export interface MigrateShardsOptions extends Omit<MigrateOptions, 'schema'> {
  /**
   * Told of a shard that is away; the others are migrated all the same, and nobody joins. Default: it
   * fails. Home must be there.
   */
  onAway?: ((name: string, error: LedgerError) => void) | undefined;
}

/**
 * Brings every shard to the schema of this version, one after the other, and makes them one installation.
 * Payers stay where they are. Ended anywhere, it can be called again.
 * @throws LedgerError as `migrate`, naming the shard; `invalid_request` with what is wrong with the shards,
 *   and
 *   none of them has joined
 */
export async function migrateShards(
  shards: readonly ShardOptions[],
  { onAway, ...options }: MigrateShardsOptions = {},
): Promise<MigrateShardsResult> {
  const named = readShards(shards);
  let isComplete = true;
  const migrated: MigrateShardsResult['shards'] = [];
  for (const { name, databaseUrl, schema } of named) {
    try {
      migrated.push({ name, ...(await migrate(databaseUrl, { ...options, schema })) });
    } catch (thrown) {
      const error = ofShard(name, toLedgerError(thrown));
      const isHome = name === named[0]?.name;
      if (onAway === undefined || isHome || error.code !== 'unavailable') throw error;
      onAway(name, error);
      isComplete = false;
    }
  }
  if (!isComplete) return { shards: migrated, joined: [] };
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
