import type { Ledger } from '../../src/ledgerTypes.js';
import { createOrganization, createUser } from '../../src/shards/accounts.js';
import { migrateShards } from '../../src/shards/migrateShards.js';
import { createShardedLedger, type ShardedLedgerOptions } from '../../src/shards/shardedLedger.js';
import type { ShardOptions } from '../../src/shards/shardsFile.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { expectShardsExact } from '../support/expectShardsExact.js';
import { idOn } from '../support/shardIds.js';

export interface ShardFixture {
  shards: ShardOptions[];
  /** By the name of the shard. */
  databases: Map<string, TestDatabase>;
  ledger: Ledger;
  open(options?: Partial<ShardedLedgerOptions>): Promise<Ledger>;
  /** Ids that the rule places on this shard; of users that are made, or that nobody is. */
  userIdOn(shard: string): string;
  addUserOn(shard: string): Promise<string>;
  addOrganizationOn(shard: string): Promise<string>;
  /** Rows of one statement on one shard. */
  rows<Row = Record<string, unknown>>(
    shard: string,
    text: string,
    values?: unknown[],
  ): Promise<Row[]>;
  /** The invariants hold on each shard and over all; then everything is folded, and they hold again. */
  expectExact(): Promise<void>;
  close(): Promise<void>;
}

export const NAMES = ['home', 'b', 'c', 'd'] as const;

/** An installation of as many shards as are named, each a database of the run's server. */
export async function createShardFixture(
  names: readonly string[] = NAMES,
  options: Partial<ShardedLedgerOptions> = {},
): Promise<ShardFixture> {
  const databases = new Map<string, TestDatabase>();
  for (const name of names) databases.set(name, await createTestDatabase());
  const shards = [...databases].map(([name, { url }]) => ({ name, databaseUrl: url }));
  await migrateShards(shards);
  const ledgers: Ledger[] = [];
  const open = async (own: Partial<ShardedLedgerOptions> = {}) => {
    const ledger = await createShardedLedger({
      shards,
      poolSize: 3,
      backgroundFold: false,
      ...options,
      ...own,
    });
    ledgers.push(ledger);
    return ledger;
  };
  const ledger = await open();
  const rows = async <Row>(shard: string, text: string, values: unknown[] = []) =>
    ((await databases.get(shard)?.pool.query(text, values))?.rows ?? []) as Row[];
  return {
    shards,
    databases,
    ledger,
    open,
    userIdOn: (shard) => idOn(shard, names),
    addUserOn: async (shard) => (await createUser(ledger, { id: idOn(shard, names) })).id,
    addOrganizationOn: async (shard) =>
      (await createOrganization(ledger, { id: idOn(shard, names, 'organization_id'), name: 'o' }))
        .id,
    rows,
    expectExact: () =>
      expectShardsExact(
        ledger,
        [...databases].map(([name, { pool }]) => ({ name, pool })),
      ),
    close: async () => {
      await Promise.all(ledgers.map((each) => each.close()));
      await Promise.all([...databases.values()].map((database) => database.drop()));
    },
  };
}
