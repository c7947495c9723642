import { randomUUID } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Ledger } from '../../src/ledgerTypes.js';
import { archiveUsage } from '../../src/rollup/archive/archive.js';
import { verifyRollup } from '../../src/rollup/verify.js';
import { DAILY_ROLLUP } from '../../src/schema/rollups.js';
import { createUser } from '../../src/shards/accounts.js';
import type { ShardOptions } from '../../src/shards/shardsFile.js';
import { daysAgo } from '../integration/archiveHarness.js';
import { createPlacedLedger, type PlacedLedger } from '../support/placedLedger.js';
import { idOn } from '../support/shardIds.js';

const NAMES = ['home', 'b', 'c'] as const;

let shards: ShardOptions[];
let ledger: Ledger;
let placed: PlacedLedger;
const users = NAMES.map((name) => idOn(name, NAMES));

beforeAll(async () => {
  placed = await createPlacedLedger({ home: 'shard_home', b: 'shard_b', c: 'shard_c' });
  ({ shards, ledger } = placed);
  for (const id of users) await createUser(ledger, { id });
});

afterAll(() => placed?.close());

const ask: PlacedLedger['ask'] = (text) => placed.ask(text);

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
    await placed.expectExact();
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
    await placed.expectExact();
  });
});
