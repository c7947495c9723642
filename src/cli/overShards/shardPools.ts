import type pg from 'pg';
import { assertMigrated } from '../../db/migrate.js';
import { createPool } from '../../db/pool.js';
import { queryOnPool } from '../../db/query.js';
import type { LedgerError } from '../../errors.js';
import { mapBounded } from '../../shards/mapBounded.js';
import { checkStates, ofShard, readShardState, type ShardState } from '../../shards/registry.js';
import { type FoundRow, findRowStatement, type RowTable } from '../../shards/rows.sql.js';
import type { ShardOptions } from '../../shards/shardsFile.js';
import { describeFailure } from '../database.js';
import type { Environment } from '../environment.js';
import { onShard } from './onShard.js';

/** Looks that are under way at a time. */
const MAX_LOOKS = 16;

/** A connection to each shard, to look at it before a command runs there. */
export class ShardPools {
  readonly #environment: Environment;
  readonly #shards: readonly ShardOptions[];
  readonly #pools = new Map<string, pg.Pool>();

  constructor(environment: Environment, shards: readonly ShardOptions[]) {
    this.#environment = environment;
    this.#shards = shards;
  }

  pool(shard: ShardOptions): pg.Pool {
    let pool = this.#pools.get(shard.name);
    if (pool === undefined) {
      const { databaseUrl, pooler } = onShard(this.#environment, shard);
      pool = createPool({
        url: databaseUrl ?? '',
        size: 1,
        applicationName: 'microdollar command',
        lockTimeoutMs: 10_000,
        statementTimeoutMs: 60_000,
        viaPooler: pooler !== null,
      });
      this.#pools.set(shard.name, pool);
    }
    return pool;
  }

  /**
   * Looks at home and at these: whether they are the shards that they are named.
   * @returns why one cannot be used now, by its name
   * @throws LedgerError `invalid_request` with what is wrong with the shards
   */
  async check(shards: readonly ShardOptions[]): Promise<Map<string, LedgerError>> {
    const failures = new Map<string, LedgerError>();
    const asked = this.#shards.filter((shard, index) => index === 0 || shards.includes(shard));
    const states = await mapBounded(asked, MAX_LOOKS, async (shard) => {
      try {
        const pool = this.pool(shard);
        await assertMigrated(pool);
        return await readShardState(shard.name, pool);
      } catch (error) {
        const { databaseUrl } = onShard(this.#environment, shard);
        failures.set(shard.name, describeFailure(error, databaseUrl ?? '', 'the shards file'));
        return null;
      }
    });
    checkStates(
      this.#shards.map(({ name }) => name),
      states.filter((state): state is ShardState => state !== null),
    );
    return failures;
  }

  /** Which of these has the row. @throws LedgerError `unavailable` naming one that cannot be asked */
  async find(
    shards: readonly ShardOptions[],
    { table, id }: { table: RowTable; id: string },
  ): Promise<ShardOptions[]> {
    const found = await mapBounded(shards, MAX_LOOKS, async (shard) => {
      try {
        const query = queryOnPool(this.pool(shard), false);
        const [row] = await query<FoundRow>(findRowStatement(table, id));
        return row?.is_elsewhere === false;
      } catch (error) {
        const { databaseUrl } = onShard(this.#environment, shard);
        throw ofShard(shard.name, describeFailure(error, databaseUrl ?? '', 'the shards file'));
      }
    });
    return shards.filter((_, index) => found[index]);
  }

  async close(): Promise<void> {
    await Promise.all([...this.#pools.values()].map((pool) => pool.end()));
  }
}
