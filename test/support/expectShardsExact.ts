import type pg from 'pg';
import { expect } from 'vitest';
import type { Ledger } from '../../src/ledgerTypes.js';
import { checkFolded, checkInvariants } from './checkInvariants.js';
import { checkShards } from './checkShards.js';

type Pools = readonly { name: string; pool: pg.Pool }[];

/** On every shard, home first, the invariants hold before and after a fold, and each payer is on one. */
export async function expectShardsExact(ledger: Ledger, pools: Pools): Promise<void> {
  for (const { pool } of pools) expect(await checkInvariants(pool)).toEqual([]);
  expect(await ledger.fold()).toMatchObject({ remaining: 0 });
  await expectShardsFolded(pools);
}

/** After a fold with no writers. */
export async function expectShardsFolded(pools: Pools): Promise<void> {
  for (const { pool } of pools) {
    expect(await checkInvariants(pool)).toEqual([]);
    expect(await checkFolded(pool)).toEqual([]);
  }
  expect(await checkShards(pools)).toEqual([]);
}
