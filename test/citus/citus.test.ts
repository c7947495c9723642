import { randomUUID } from 'node:crypto';
import type pg from 'pg';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { addCredit } from '../../src/accounts/credits.js';
import { createUser } from '../../src/accounts/users.js';
import { inSchema } from '../../src/db/ledgerSchema.js';
import { migrate, planMigration } from '../../src/db/migrate.js';
import { createLedger } from '../../src/ledger.js';
import { runBackfill } from '../../src/rollup/backfill.js';
import { verifyRollup } from '../../src/rollup/verify.js';
import { DAILY_ROLLUP } from '../../src/schema/rollups.js';
import { createUser as createShardedUser } from '../../src/shards/accounts.js';
import { migrateShards } from '../../src/shards/migrateShards.js';
import { Moves } from '../../src/shards/move/moves.js';
import { createShardedLedger } from '../../src/shards/shardedLedger.js';
import { checkFolded, checkInvariants } from '../support/checkInvariants.js';
import { checkShards } from '../support/checkShards.js';
import { type CitusCluster, createCitusDatabase, runOn } from '../support/citusCluster.js';
import { openPool } from '../support/openPool.js';
import { idOn } from '../support/shardIds.js';

const SCHEMA = 'Shard 1';
/** Of Citus itself, which makes them on every node. */
const TENANT = 'Tenant 1';
const THERE = '"Tenant 1"';

let citus: CitusCluster;
let coordinator: pg.Pool;
let coordinatorUrl: string;
let workerUrls: string[];

beforeAll(async () => {
  citus = await createCitusDatabase();
  ({ coordinatorUrl, workerUrls } = citus);
  coordinator = openPool({ connectionString: coordinatorUrl, max: 2 });
});

afterAll(async () => {
  await coordinator?.end();
  await citus?.drop();
});

const distributed = async () =>
  (await coordinator.query('select logicalrelid::regclass::text as name from pg_dist_partition'))
    .rows;

describe('a ledger on a node of Citus', () => {
  it('is whole, and exact, in a schema of each node, of which the others know nothing', async () => {
    for (const [index, node] of [coordinatorUrl, ...workerUrls].entries()) {
      const url = inSchema(node, SCHEMA);
      const result = await migrate(url);
      expect(result).toMatchObject({ isGenerationRaised: false, warnings: [] });
      await exercise(url);
      expect(await nodesWith(SCHEMA)).toBe(index + 1);
    }
    expect(await distributed()).toEqual([]);
  });
});

async function nodesWith(schema: string): Promise<number> {
  const nodes = await Promise.all(
    [coordinatorUrl, ...workerUrls].map((url) =>
      runOn(url, `select from pg_namespace where nspname = '${schema}'`),
    ),
  );
  return nodes.filter((rows) => rows.length > 0).length;
}

/** Every kind of write, fold, proof. */
async function exercise(url: string): Promise<void> {
  const pool = openPool({ connectionString: url, max: 4 });
  const ledger = await createLedger({ databaseUrl: url, backgroundFold: false });
  try {
    const organization = randomUUID();
    await createUser(pool, { id: 'ada' });
    await pool.query(`insert into organizations (id, name) values ($1, 'o')`, [organization]);
    await addCredit(pool, { kilo_user_id: 'ada', usd: '20' });
    const events = Array.from({ length: 200 }, (_, n) => ({
      id: randomUUID(),
      kilo_user_id: 'ada',
      organization_id: n % 3 ? null : organization,
      cost: n,
      metadata: n % 2 ? { feature: `f${n % 5}` } : null,
    }));
    const sent = [...events, ...events].map((event) => ledger.recordUsage(event));
    const statuses = (await Promise.all(sent)).map((result) => result.status);
    expect(statuses.filter((status) => status === 'recorded').length).toBe(events.length);
    await ledger.recordExaUsage({ kilo_user_id: 'ada', cost: 12_000_000, path: '/search' });
    const hold = await ledger.hold({ kilo_user_id: 'ada', amount: 500 });
    await ledger.settle(hold.id, { kilo_user_id: 'ada', cost: 40 });
    expect(await checkInvariants(pool)).toEqual([]);
    await runBackfill({ url, rollup: DAILY_ROLLUP });
    expect(await verifyRollup({ url, rollup: DAILY_ROLLUP })).toMatchObject({ drifts: [] });
    expect(await ledger.fold()).toMatchObject({ remaining: 0 });
    expect(await checkInvariants(pool)).toEqual([]);
    expect(await checkFolded(pool)).toEqual([]);
  } finally {
    await ledger.close();
    await pool.end();
  }
}

describe('a ledger of shards on the nodes of Citus', () => {
  it('takes writes on each, while a payer moves between two workers, and stays exact', async () => {
    const [home = '', b = '', c = ''] = [coordinatorUrl, ...workerUrls];
    const shards = [
      { name: 'home', databaseUrl: home, schema: 'shard_home' },
      { name: 'b', databaseUrl: b, schema: 'shard_b' },
      { name: 'c', databaseUrl: c, schema: 'shard_c' },
    ];
    await migrateShards(shards);
    const ledger = await createShardedLedger({ shards, poolSize: 4 });
    const pools = shards.map(({ name, databaseUrl, schema }) => ({
      name,
      pool: openPool({ connectionString: inSchema(databaseUrl, schema), max: 4 }),
    }));
    const [first, ...others] = pools;
    if (first === undefined) throw new Error('no shards');
    try {
      const users = shards.flatMap(({ name }) => [1, 2].map(() => idOn(name, NAMES)));
      for (const id of users) await createShardedUser(ledger, { id });
      const [, , moved = ''] = users;
      const acknowledged = new Map<string, number>();
      let isMoving = true;
      const writing = users.map(async (kilo_user_id) => {
        while (isMoving) {
          const event = { id: randomUUID(), kilo_user_id, cost: 3 };
          await ledger.recordUsage(event);
          const total = (acknowledged.get(kilo_user_id) ?? 0) + event.cost;
          acknowledged.set(kilo_user_id, total);
          if (total % 2 === 0) {
            expect(await ledger.recordUsage(event)).toMatchObject({ status: 'duplicate' });
          }
        }
      });
      const moves = new Moves({ shards: [first, ...others] });
      for (const target of ['c', 'b', 'c']) {
        expect(await moves.move({ kilo_user_id: moved }, target)).toMatchObject({ finished: true });
      }
      isMoving = false;
      await Promise.all(writing);
      for (const id of users) {
        expect(await ledger.getUserBalance(id)).toBe(acknowledged.get(id));
      }
      await ledger.fold();
      for (const { pool } of pools) expect(await checkInvariants(pool)).toEqual([]);
      expect(await checkShards(pools)).toEqual([]);
      expect(await distributed()).toEqual([]);
    } finally {
      await ledger.close();
      for (const { pool } of pools) await pool.end();
    }
  });
});

const NAMES = ['home', 'b', 'c'];

describe('a ledger that Citus distributes', () => {
  const url = () => inSchema(coordinatorUrl, TENANT);

  afterEach(async () => {
    await coordinator.query(`drop schema if exists ${THERE} cascade`);
  });

  async function expectRefused(reason: string): Promise<void> {
    const refused = { code: 'unavailable', message: expect.stringContaining(reason) };
    await expect(migrate(url())).rejects.toMatchObject(refused);
    await expect(planMigration(url())).rejects.toMatchObject(refused);
    await expect(createLedger({ databaseUrl: url() })).rejects.toMatchObject(refused);
  }

  it('is refused before anything is made, where its schema is a shard of Citus', async () => {
    await coordinator.query(`create schema ${THERE}`);
    await expectRefused('Citus distributes the schema "Tenant 1"');
    const { rows } = await coordinator.query(
      `select from pg_class where relnamespace = '${THERE}'::regnamespace`,
    );
    expect(rows).toEqual([]);
  });

  it('is refused where it was distributed since, and left as it is', async () => {
    await migrate(url());
    const client = await coordinator.connect();
    try {
      await client.query('set citus.enable_unsafe_triggers = on');
      await client.query('set citus.multi_shard_modify_mode = sequential');
      // What triggers call must be on the other nodes.
      const { rows } = await client.query(
        `select pg_get_functiondef('${THERE}.microdollar_key_bucket'::regproc) as definition`,
      );
      await client.query(rows[0].definition);
      await client.query(`select citus_schema_distribute('${THERE}')`);
    } finally {
      client.release(true);
    }
    const before = await distributed();
    await expectRefused('Citus distributes the schema "Tenant 1"');
    expect(await distributed()).toEqual(before);
  });

  it('is refused where one of its tables is distributed by rows, or is on every node', async () => {
    await migrate(url());
    await coordinator.query(`select create_reference_table('${THERE}.exa_usage_log')`);
    await expectRefused('Citus distributes the table exa_usage_log');
  });
});
