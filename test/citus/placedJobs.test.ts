import { randomUUID } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createPool } from '../../src/db/pool.js';
import type { Ledger } from '../../src/ledgerTypes.js';
import { archiveUsage } from '../../src/rollup/archive/archive.js';
import { verifyRollup } from '../../src/rollup/verify.js';
import { DAILY_ROLLUP } from '../../src/schema/rollups.js';
import { createUser } from '../../src/shards/accounts.js';
import { migrateShards } from '../../src/shards/migrateShards.js';
import { createShardedLedger } from '../../src/shards/shardedLedger.js';
import { readShards, type ShardOptions } from '../../src/shards/shardsFile.js';
import { daysAgo } from '../integration/archiveHarness.js';
import { checkFolded, checkInvariants } from '../support/checkInvariants.js';
import { checkShards } from '../support/checkShards.js';
import { type CitusCluster, createCitusDatabase, runOn } from '../support/citusCluster.js';
import { idOn } from '../support/shardIds.js';

const NAMES = ['home', 'b', 'c'] as const;

let citus: CitusCluster;
let shards: ShardOptions[];
let ledger: Ledger;
let pools: { name: string; pool: pg.Pool }[];
const users = NAMES.map((name) => idOn(name, NAMES));

beforeAll(async () => {
  citus = await createCitusDatabase();
  shards = readShards(
    NAMES.map((name) => ({
      name,
      databaseUrl: citus.coordinatorUrl,
      citusSchema: `shard_${name}`,
    })),
  );
  await migrateShards(shards);
  ledger = await createShardedLedger({ shards, poolSize: 4 });
  pools = shards.map(({ name, databaseUrl: url }) => {
    const limits = { lockTimeoutMs: 5_000, statementTimeoutMs: 60_000 };
    return { name, pool: createPool({ url, size: 3, applicationName: 'test', ...limits }) };
  });
  for (const id of users) await createUser(ledger, { id });
});

afterAll(async () => {
  await ledger?.close();
  for (const { pool } of pools ?? []) await pool.end();
  await citus?.drop();
});

/** Asks the coordinator. */
const ask = <Row>(text: string) => runOn<Row>(citus.coordinatorUrl, text);

/** How many of the shards each worker has, by its port. */
async function shardsByPort(): Promise<Map<number, number>> {
  const rows = await ask<{ port: number; shards: number }>(
    `select n.nodeport as port, count(distinct c.relnamespace) filter (where c.oid is not null)::integer as shards
    from pg_dist_node as n
    left join citus_shards as s on s.nodename = n.nodename and s.nodeport = n.nodeport
    left join pg_class as c on c.oid = s.table_name
    where n.groupid <> 0
    group by n.nodeport`,
  );
  return new Map(rows.map(({ port, shards: count }) => [port, count]));
}

async function expectExact(): Promise<void> {
  expect(await ledger.fold()).toMatchObject({ remaining: 0 });
  for (const { pool } of pools) {
    expect(await checkInvariants(pool)).toEqual([]);
    expect(await checkFolded(pool)).toEqual([]);
  }
  expect(await checkShards(pools)).toEqual([]);
}

/** Writes until the work has ended; what each user was told is recorded. */
async function beneathWriters(work: () => Promise<void>): Promise<Map<string, number>> {
  const acknowledged = new Map<string, number>();
  let isWorking = true;
  const writing = Array.from({ length: 9 }, async (_, index) => {
    const kilo_user_id = users[index % users.length] as string;
    while (isWorking) {
      await ledger.recordUsage({ id: randomUUID(), kilo_user_id, cost: 1 + index });
      acknowledged.set(kilo_user_id, (acknowledged.get(kilo_user_id) ?? 0) + 1 + index);
    }
  });
  try {
    await work();
  } finally {
    isWorking = false;
  }
  await Promise.all(writing);
  return acknowledged;
}

describe('shards in schemas that Citus places', () => {
  it('stay exact while a worker is drained, and the shards are balanced again', async () => {
    const [emptied] = [...(await shardsByPort()).keys()];
    const node = `'127.0.0.1', ${emptied}`;
    const acknowledged = await beneathWriters(async () => {
      await ask(`select citus_drain_node(${node}, shard_transfer_mode => 'force_logical')`);
      expect((await shardsByPort()).get(Number(emptied))).toBe(0);
      await sleep(200);
      await ask(`select citus_set_node_property(${node}, 'shouldhaveshards', true)`);
      await ask(`select citus_rebalance_start(shard_transfer_mode => 'force_logical')`);
      await ask('select citus_rebalance_wait()');
    });
    expect(Math.min(...(await shardsByPort()).values())).toBeGreaterThan(0);
    for (const id of users) {
      expect(await ledger.getUserBalance(id)).toBe(acknowledged.get(id));
    }
    await expectExact();
  });

  it('archive old days, and move with what is left of them', async () => {
    const [id = ''] = users;
    const used = Number(await ledger.getUserBalance(id));
    for (const days of [12, 10, 1]) {
      await ledger.recordUsage({
        kilo_user_id: id,
        cost: 100 + days,
        created_at: `${daysAgo(days)}T10:00:00Z`,
      });
    }
    await ledger.fold();
    const directory = await mkdtemp(join(tmpdir(), 'microdollar-citus-'));
    const [{ databaseUrl: url } = { databaseUrl: '' }] = shards;
    expect(await verifyRollup({ url, rollup: DAILY_ROLLUP })).toMatchObject({ drifts: [] });
    expect(await archiveUsage({ url, until: daysAgo(9), directory })).toMatchObject({
      failures: [],
      rows: 2,
    });
    await rm(directory, { recursive: true });
    const balances = [await ledger.getUserBalance(id)];
    await ask(
      `select citus_schema_move('shard_home', n.nodeid, 'force_logical')
      from pg_dist_node as n
      where n.groupid <> 0
        and n.nodeport not in (
          select s.nodeport from citus_shards as s
          join pg_class as c on c.oid = s.table_name
          where c.relnamespace = 'shard_home'::regnamespace)`,
    );
    balances.push(await ledger.getUserBalance(id));
    expect(balances).toEqual([used + 323, used + 323]);
    expect(await verifyRollup({ url, rollup: DAILY_ROLLUP })).toMatchObject({ drifts: [] });
    await expectExact();
  });
});
