import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Ledger } from '../../src/ledgerTypes.js';
import { readBalances } from '../../src/server/userReads.js';
import { createOrganization, createUser } from '../../src/shards/accounts.js';
import { authenticateKey } from '../../src/shards/authenticateKey.js';
import { listMemberships } from '../../src/shards/memberships.js';
import { migrateShards } from '../../src/shards/migrateShards.js';
import { createShardedLedger } from '../../src/shards/shardedLedger.js';
import { ledgerErrorOf } from '../integration/ledgerHarness.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { expectShardsFolded } from '../support/expectShardsExact.js';
import { makeDataDir, newIntent, openGateway, until, usageOf } from '../support/gateway.js';
import { openRelay, type Relay } from '../support/relay.js';
import { idOn } from '../support/shardIds.js';
import { type Cluster, startCluster } from './support/cluster.js';
import { KILLS } from './support/scale.js';

const NAMES = ['home', 'b', 'c'];
/** A writer's pause while its shard is away. */
const PAUSE_MS = 20;

let home: TestDatabase;
let b: TestDatabase;
let c: Cluster;
let wayHome: Relay;
let wayC: Relay;
let shards: { name: string; databaseUrl: string }[];
let ledger: Ledger;
/** By shard. */
let users: Record<string, string>;

const open = () => createShardedLedger({ shards, poolSize: 3, statementTimeoutMs: 5_000 });
const isAway = (shard: string) => ({ code: 'unavailable', details: { shard } });
const record = (shard: string, more = {}) =>
  ledger.recordUsage({ kilo_user_id: users[shard] as string, cost: 1, ...more });

beforeAll(async () => {
  [home, b, c] = await Promise.all([createTestDatabase(), createTestDatabase(), startCluster()]);
  wayHome = await openRelay(home.url);
  wayC = await openRelay(c.url);
  shards = [
    { name: 'home', databaseUrl: wayHome.url },
    { name: 'b', databaseUrl: b.url },
    { name: 'c', databaseUrl: wayC.url },
  ];
  await migrateShards(shards);
  ledger = await open();
  users = {};
  for (const name of NAMES) users[name] = (await createUser(ledger, { id: idOn(name, NAMES) })).id;
});

afterAll(async () => {
  await ledger?.close();
  await wayHome?.close();
  await wayC?.close();
  await Promise.all([home?.drop(), b?.drop(), c?.stop()]);
});

async function expectExact(): Promise<void> {
  expect(await ledger.fold()).toMatchObject({ remaining: 0 });
  const pools = [home, b, c].map(({ pool }, index) => ({ name: NAMES[index] ?? '', pool }));
  await expectShardsFolded(pools);
}

describe('a shard that is killed', () => {
  it('takes down its payers alone, and nothing that was acknowledged', async () => {
    const acknowledged = new Map<string, string>();
    let isOver = false;
    const write = async (shard: string) => {
      let written = 0;
      while (!isOver) {
        const id = randomUUID();
        // Until it is there: the same id again is safe.
        while (!acknowledged.has(id)) {
          const result = await record(shard, { id }).catch((error) => {
            expect(error).toMatchObject({ code: 'unavailable' });
            return null;
          });
          if (result !== null) acknowledged.set(id, shard);
          else if (isOver) break;
          else await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
        }
        written++;
      }
      return written;
    };
    const writers = NAMES.flatMap((name) => [write(name), write(name)]);
    for (let kill = 0; kill < Math.ceil(KILLS / 3); kill++) {
      await until(() => acknowledged.size > kill * 300 + 100);
      await c.kill();
      const before = acknowledged.size;
      await until(() => acknowledged.size > before + 100);
      await c.restart();
      const count = () => [...acknowledged.values()].filter((shard) => shard === 'c').length;
      const ofC = count();
      await until(() => count() > ofC + 10);
    }
    isOver = true;
    await Promise.all(writers);
    for (const [index, { pool }] of [home, b, c].entries()) {
      const { rows } = await pool.query<{ id: string }>('select id from microdollar_usage');
      const stored = new Set(rows.map(({ id }) => id));
      const missing = [...acknowledged].filter(
        ([id, shard]) => shard === NAMES[index] && !stored.has(id),
      );
      expect(missing).toEqual([]);
    }
    await expectExact();
  });

  it('is named in every answer that would need it, and missed in no other', async () => {
    // Seen a moment ago: c did not know them, so it is not needed for what they have everywhere.
    const seen = users.b as string;
    expect(await readBalances(ledger, seen)).toHaveLength(1);
    expect(await listMemberships(ledger, seen)).toEqual([]);
    await c.kill();
    try {
      const organization = await createOrganization(ledger, {
        name: 'o',
        id: idOn('b', NAMES, 'organization_id'),
      });
      await record('b');
      expect(await record('b', { organization_id: organization.id })).toMatchObject({
        status: 'recorded',
      });
      expect(await ledgerErrorOf(record('c'))).toMatchObject(isAway('c'));
      expect(await ledgerErrorOf(ledger.getUserBalance(users.c as string))).toMatchObject(
        isAway('c'),
      );
      expect(await ledgerErrorOf(ledger.getPendingStatus())).toMatchObject(isAway('c'));
      expect(await ledgerErrorOf(ledger.fold())).toMatchObject(isAway('c'));
      expect(await ledgerErrorOf(ledger.release(randomUUID()))).toMatchObject(isAway('c'));
      expect(await readBalances(ledger, seen)).toHaveLength(1);
      expect(await listMemberships(ledger, seen)).toEqual([]);
      for (const read of [readBalances, listMemberships]) {
        expect(await ledgerErrorOf(read(ledger, users.home as string))).toMatchObject(isAway('c'));
      }
      // A key that nobody has may be one of the shard that is away.
      await expect(authenticateKey(ledger, `md_${'x'.repeat(43)}`)).rejects.toMatchObject({
        code: 'unavailable',
      });
      const batch = await ledger.recordUsageBatch(
        NAMES.map((name) => ({ kilo_user_id: users[name] as string, cost: 1 })),
      );
      expect(batch.map(({ status }) => status)).toEqual(['recorded', 'recorded', 'rejected']);
      // A process that starts meanwhile serves the others, and finds the shard when it is back.
      const young = await open();
      try {
        expect(await young.recordUsage({ kilo_user_id: users.b as string, cost: 1 })).toMatchObject(
          {
            status: 'recorded',
          },
        );
        expect(await young.metrics.registry.metrics()).toContain(
          'microdollar_shard_open{shard="c"} 0',
        );
        const refused = young.recordUsage({ kilo_user_id: users.c as string, cost: 1 });
        expect(await ledgerErrorOf(refused)).toMatchObject(isAway('c'));
        const part = young.parts.find(({ name }) => name === 'c');
        await expect(part?.ledger.pool.query('select 1')).rejects.toMatchObject({
          code: 'unavailable',
        });
        await c.restart();
        await until(
          async () => (await young.getUserBalance(users.c as string).catch(() => null)) !== null,
        );
      } finally {
        await young.close();
      }
    } finally {
      await c.restart();
    }
    await until(() =>
      record('c').then(
        () => true,
        () => false,
      ),
    );
    await expectExact();
  });

  it('keeps its usage in the journal, and nobody else’s', async () => {
    const place = makeDataDir();
    const own = await open();
    const gateway = await openGateway(wayHome.url, place.dataDir, { ledger: own });
    try {
      await c.kill();
      const settle = async (shard: string) => {
        const intent = newIntent(users[shard] as string);
        await gateway.sink.begin(intent);
        return await gateway.sink.settle(usageOf(intent));
      };
      expect(await settle('c')).toEqual({ durable: 'journal' });
      expect(await settle('b')).toMatchObject({ durable: 'database' });
      // Usage of all, while home cannot be reached: it waits behind what cannot be brought in.
      await wayHome.cut();
      await until(async () => (await settle('b')).durable === 'journal');
      expect(await settle('c')).toEqual({ durable: 'journal' });
      expect(await settle('home')).toEqual({ durable: 'journal' });
      await wayHome.restore();
      const inJournal = () => gateway.sink.status().depthRecords;
      // Those of c alone stay: an intent of theirs is in the database.
      await until(() => gateway.sink.status().databaseAvailable && inJournal() === 2);
      expect(await settle('b')).toMatchObject({ durable: 'database' });
      await c.restart();
      await until(() => inJournal() === 0);
      expect((await gateway.sink.status()).deadLetters).toBe(0);
    } finally {
      await c.restart();
      await gateway.stop();
      place.remove();
    }
    const { rows } = await home.pool.query('select count(*)::integer as open from gateway_intents');
    expect(rows).toEqual([{ open: 0 }]);
    await expectExact();
  });
});

describe('a shard that says nothing', () => {
  it('costs its payers the time of a statement, and is not taken for the database', async () => {
    const place = makeDataDir();
    const own = await open();
    // Its way is open, and silent: no connection breaks.
    const gateway = await openGateway(wayHome.url, place.dataDir, {
      ledger: own,
      databaseTimeoutMs: 500,
      maintenanceIntervalMs: 3_600_000,
    });
    const settle = async (shard: string) => {
      const intent = newIntent(users[shard] as string);
      await gateway.sink.begin(intent);
      return (await gateway.sink.settle(usageOf(intent))).durable;
    };
    try {
      // Connections and plans: a busy machine is not taken for a silent one.
      await until(async () => (await settle('b')) === 'database');
      const intents = Array.from({ length: 5 }, () => newIntent(users.c as string));
      // One after the other: a machine that stands still costs one of them its time, not three in a row.
      for (const intent of intents) await gateway.sink.begin(intent);
      wayC.hang();
      const settled = await Promise.all(
        intents.map((intent) => gateway.sink.settle(usageOf(intent))),
      );
      expect(settled.map(({ durable }) => durable)).toEqual(Array(5).fill('journal'));
      expect(gateway.sink.status().databaseAvailable).toBe(true);
      await until(async () => (await settle('b')) === 'database');
      // Nor does its usage hold up that of others in the journal.
      await wayHome.cut();
      await until(async () => (await settle('b')) === 'journal');
      await wayHome.restore();
      await until(async () => {
        await gateway.maintain();
        return gateway.sink.status().databaseAvailable && gateway.sink.status().depthRecords === 5;
      });
      await wayC.restore();
      await gateway.maintain();
      await until(async () => {
        await gateway.maintain();
        return gateway.sink.status().depthRecords === 0;
      });
    } finally {
      await wayC.restore();
      await gateway.stop();
      place.remove();
    }
    await expectExact();
  });
});

describe('home that is away', () => {
  it('takes down its payers alone; where others are is remembered', async () => {
    await wayHome.cut();
    try {
      expect(await record('b')).toMatchObject({ status: 'recorded' });
      expect(await record('c')).toMatchObject({ status: 'recorded' });
      expect(await ledgerErrorOf(record('home'))).toMatchObject(isAway('home'));
      // Unknown on its shard: it may have moved, which only home could tell.
      const nobody = ledger.recordUsage({ kilo_user_id: idOn('b', NAMES), cost: 1 });
      expect(await ledgerErrorOf(nobody)).toMatchObject({ code: 'unavailable' });
      expect(await ledgerErrorOf(open())).toMatchObject(isAway('home'));
    } finally {
      await wayHome.restore();
    }
    await until(() =>
      record('home').then(
        () => true,
        () => false,
      ),
    );
    const nobody = ledger.recordUsage({ kilo_user_id: idOn('b', NAMES), cost: 1 });
    expect(await ledgerErrorOf(nobody)).toMatchObject({ code: 'unknown_user' });
    await expectExact();
  });
});
