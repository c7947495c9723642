import type pg from 'pg';
import { expect } from 'vitest';
import { createPool } from '../../src/db/pool.js';
import type { Ledger } from '../../src/ledgerTypes.js';
import { migrateShards } from '../../src/shards/migrateShards.js';
import { createShardedLedger } from '../../src/shards/shardedLedger.js';
import { readShards, type ShardOptions } from '../../src/shards/shardsFile.js';
import { type CitusCluster, createCitusDatabase, runOn } from './citusCluster.js';
import { expectShardsExact } from './expectShardsExact.js';

export interface PlacedLedger {
  citus: CitusCluster;
  shards: ShardOptions[];
  ledger: Ledger;
  pools: { name: string; pool: pg.Pool }[];
  /** Asks the coordinator. */
  ask<Row>(text: string): Promise<Row[]>;
  /** The invariants hold before and after a fold, and each payer is on one shard. */
  expectExact(): Promise<void>;
  close(): Promise<void>;
}

/** A ledger over shards in schemas that Citus places, in a database of its own. */
export async function createPlacedLedger(
  schemas: Readonly<Record<string, string>>,
): Promise<PlacedLedger> {
  const citus = await createCitusDatabase();
  const { coordinatorUrl: databaseUrl } = citus;
  const shards = readShards(
    Object.entries(schemas).map(([name, citusSchema]) => ({ name, databaseUrl, citusSchema })),
  );
  const { joined } = await migrateShards(shards);
  expect(joined).toEqual(Object.keys(schemas));
  const ledger = await createShardedLedger({ shards, poolSize: 4 });
  const pools = shards.map(({ name, databaseUrl: url }) => ({ name, pool: openPool(url) }));
  return {
    citus,
    shards,
    ledger,
    pools,
    ask: (text) => runOn(databaseUrl, text),
    expectExact: () => expectShardsExact(ledger, pools),
    async close() {
      await ledger.close();
      for (const { pool } of pools) await pool.end();
      await citus.drop();
    },
  };
}

export function openPool(url: string): pg.Pool {
  return createPool({
    url,
    size: 3,
    applicationName: 'test',
    lockTimeoutMs: 5_000,
    statementTimeoutMs: 60_000,
  });
}
