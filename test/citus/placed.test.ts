import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { setBudget } from '../../src/budgets/budgets.js';
import { onCitus } from '../../src/db/citus/placedUrl.js';
import { plainUrl } from '../../src/db/citus/placement.js';
import { inSchema } from '../../src/db/ledgerSchema.js';
import { migrate, planMigration } from '../../src/db/migrate.js';
import { createLedger } from '../../src/ledger.js';
import type { Ledger } from '../../src/ledgerTypes.js';
import type { UsageEvent } from '../../src/record/types.js';
import { runBackfill } from '../../src/rollup/backfill.js';
import { verifyRollup } from '../../src/rollup/verify.js';
import { DAILY_ROLLUP } from '../../src/schema/rollups.js';
import { addCredit, addMember, createOrganization, createUser } from '../../src/shards/accounts.js';
import { migrateShards } from '../../src/shards/migrateShards.js';
import { Moves } from '../../src/shards/move/moves.js';
import { readShards, type ShardOptions } from '../../src/shards/shardsFile.js';
import { type CitusCluster, runOn } from '../support/citusCluster.js';
import { createPlacedLedger, openPool, type PlacedLedger } from '../support/placedLedger.js';
import { idOn } from '../support/shardIds.js';

const NAMES = ['home', 'b', 'c', 'd'] as const;

let citus: CitusCluster;
let shards: ShardOptions[];
let ledger: Ledger;
let pools: PlacedLedger['pools'];
let placed: PlacedLedger;

beforeAll(async () => {
  // One has a name that has to be quoted.
  const schemas = { home: 'shard_home', b: 'shard_b', c: 'shard_c', d: 'Shard d' };
  placed = await createPlacedLedger(schemas);
  ({ citus, shards, ledger, pools } = placed);
});

afterAll(() => placed?.close());

const ask: PlacedLedger['ask'] = (text) => placed.ask(text);

async function nodeOf(schema: string): Promise<{ id: number; port: number }> {
  const [node] = await ask<{ id: number; port: number }>(
    `select distinct n.nodeid as id, n.nodeport as port
    from citus_shards as s
    join pg_dist_node as n on n.nodename = s.nodename and n.nodeport = s.nodeport
    join pg_class as c on c.oid = s.table_name
    where c.relnamespace = '"${schema}"'::regnamespace`,
  );
  if (node === undefined) throw new Error(`Citus has no schema ${schema}`);
  return node;
}

/** To the other worker; by default in the way that keeps writers waiting only at the end. */
async function moveAway(schema: string, how = 'force_logical'): Promise<void> {
  const from = await nodeOf(schema);
  await ask(
    `select citus_schema_move('"${schema}"', n.nodeid, '${how}')
    from pg_dist_node as n
    where n.groupid <> 0 and n.nodeid <> ${from.id}`,
  );
  expect((await nodeOf(schema)).id).not.toBe(from.id);
}

/** What a move has left behind: by default it goes by itself after some seconds. */
const cleanUp = () => ask('call citus_cleanup_orphaned_resources()');

const generations = () =>
  Promise.all(
    pools.map(async ({ pool }) => {
      const { rows } = await pool.query('select generation::integer from ledger_settings');
      return Number(rows[0].generation);
    }),
  );

const event = (kilo_user_id: string, cost = 1): UsageEvent => ({
  id: randomUUID(),
  kilo_user_id,
  cost,
});

describe('shards in schemas that Citus places', () => {
  it('are whole: every kind of write, fold, proof', async () => {
    const users = NAMES.map((name) => idOn(name, NAMES));
    for (const id of users) await createUser(ledger, { id });
    const organization = idOn('c', NAMES, 'organization_id');
    await createOrganization(ledger, { id: organization, name: 'o' });
    const [first = ''] = users;
    await addMember(ledger, organization, first);
    for (const id of users) await addCredit(ledger, { kilo_user_id: id, usd: '20' });
    const events = users.flatMap((kilo_user_id) =>
      Array.from({ length: 60 }, (_, n) => ({
        ...event(kilo_user_id, n),
        organization_id: kilo_user_id === first && n % 3 === 0 ? organization : null,
        metadata: n % 2 ? { feature: `f${n % 5}`, latency: n } : null,
      })),
    );
    const single = await Promise.all(
      [...events, ...events].map((each) => ledger.recordUsage(each)),
    );
    expect(single.filter(({ status }) => status === 'recorded')).toHaveLength(events.length);
    const batch = users.map((id) => event(id, 7));
    const answers = await ledger.recordUsageBatch([
      ...batch,
      ...batch,
      { ...batch[0], cost: 8 } as never,
    ]);
    expect(answers.filter(({ status }) => status === 'recorded')).toHaveLength(batch.length);
    expect(answers.at(-1)).toMatchObject({ error: { code: 'idempotency_conflict' } });
    await ledger.recordExaUsage({ kilo_user_id: first, cost: 12_000_000, path: '/search' });
    for (const { name, ledger: part } of ledger.parts) {
      const id = users[NAMES.indexOf(name as never)] ?? '';
      await setBudget(
        { pool: part.pool, folder: part.budgetFolder },
        { scope: 'user', id, limit_usd: '0.01', window: 'day' },
      );
      const hold = await ledger.hold({ kilo_user_id: id, amount: 500 });
      expect(hold).toMatchObject({ status: 'granted' });
      await ledger.settle(hold.id, { kilo_user_id: id, cost: 40 });
      expect(await ledger.hold({ kilo_user_id: id, amount: 20_000 })).toMatchObject({
        status: 'refused',
      });
    }
    await placed.expectExact();
    for (const { databaseUrl: url } of shards) {
      await runBackfill({ url, rollup: DAILY_ROLLUP });
      expect(await verifyRollup({ url, rollup: DAILY_ROLLUP })).toMatchObject({ drifts: [] });
    }
    expect(await migrateShards(shards)).toMatchObject({ joined: [] });
  });

  it('stay exact while Citus moves them back and forth under writers', async () => {
    const users = NAMES.map((name) => idOn(name, NAMES));
    for (const id of users) await createUser(ledger, { id });
    const before = await generations();
    const acknowledged = new Map<string, number>();
    let isMoving = true;
    const writing = Array.from({ length: 12 }, async (_, index) => {
      const id = users[index % users.length] as string;
      while (isMoving) {
        const each = event(id, 1 + index);
        await ledger.recordUsage(each);
        acknowledged.set(id, (acknowledged.get(id) ?? 0) + Number(each.cost));
        if (index % 4 === 0) {
          expect(await ledger.recordUsage(each)).toMatchObject({ status: 'duplicate' });
        }
      }
    });
    const reading = (async () => {
      for (let n = 0; isMoving; n++) {
        const id = users[n % users.length] as string;
        const atLeast = acknowledged.get(id) ?? 0;
        expect(Number(await ledger.getUserBalance(id))).toBeGreaterThanOrEqual(atLeast);
      }
    })();
    for (const schema of ['shard_b', 'Shard d', 'shard_b']) {
      await moveAway(schema);
      await sleep(200);
    }
    isMoving = false;
    await Promise.all([...writing, reading]);
    for (const id of users) expect(await ledger.getUserBalance(id)).toBe(acknowledged.get(id));
    await placed.expectExact();
    const raised = (await generations()).map(
      (generation, index) => generation - Number(before[index]),
    );
    // Once for each node that a schema has come to.
    expect(raised).toEqual([0, 2, 0, 1]);
  });

  it('take the payers of others, and give them', async () => {
    const id = idOn('b', NAMES);
    await createUser(ledger, { id });
    await addCredit(ledger, { kilo_user_id: id, usd: '3' });
    for (let n = 0; n < 20; n++) await ledger.recordUsage(event(id, 5));
    const [home, ...others] = pools;
    if (home === undefined) throw new Error('no shards');
    const moves = new Moves({ shards: [home, ...others] });
    for (const target of ['d', 'home', 'b']) {
      expect(await moves.move({ kilo_user_id: id }, target)).toMatchObject({ finished: true });
      await ledger.recordUsage(event(id, 5));
    }
    expect(await ledger.getUserBalance(id)).toBe(115);
    await placed.expectExact();
  });
});

describe('a session on a node that a schema has left', () => {
  const SCHEMA = 'shard_c';
  const url = () => onCitus(citus.coordinatorUrl, SCHEMA);
  let old: pg.Client;
  let id: string;

  /** Statements are of the old node, whatever the schema does. */
  async function connectBefore(): Promise<void> {
    old = new pg.Client({ connectionString: await plainUrl(url()) });
    old.on('error', () => {});
    await old.connect();
    id = idOn('c', NAMES);
    await createUser(ledger, { id });
    await ledger.recordUsage(event(id, 3));
  }

  const write = () =>
    old.query('update kilocode_users set kilo_pass_threshold = 1 where id = $1', [id]);
  const moved = { code: '57P01', message: expect.stringContaining('has moved') };

  it('is refused what it asks for, and finds nothing once what was left is gone', async () => {
    await connectBefore();
    await write();
    await moveAway(SCHEMA);
    await expect(old.query('select from kilocode_users')).rejects.toMatchObject(moved);
    await expect(write()).rejects.toMatchObject(moved);
    await expect(
      old.query(`insert into kilocode_users (id) values ('nobody')`),
    ).rejects.toMatchObject(moved);
    await cleanUp();
    await expect(write()).rejects.toMatchObject({ code: '42P01' });
    await old.end();
    expect(await ledger.getUserBalance(id)).toBe(3);
    await placed.expectExact();
  });

  it('is refused a write by a snapshot from before', async () => {
    await connectBefore();
    await old.query('begin isolation level repeatable read');
    await old.query('select from kilocode_users');
    await moveAway(SCHEMA);
    // The snapshot shows the schema here, and all that was ever written here.
    expect((await old.query('select from kilocode_users where id = $1', [id])).rows).toHaveLength(
      1,
    );
    await expect(
      old.query(`insert into kilocode_users (id) values ('nobody')`),
    ).rejects.toMatchObject(moved);
    await old.end();
    await placed.expectExact();
  });

  it('keeps a move waiting while it has written and not committed', async () => {
    await connectBefore();
    await old.query('begin');
    await old.query('update kilocode_users set kilo_pass_threshold = 7 where id = $1', [id]);
    let isMoved = false;
    // The other way waits for open transactions before it begins.
    const moving = moveAway(SCHEMA, 'block_writes').then(() => {
      isMoved = true;
    });
    const worker = await plainUrl(url());
    for (let waits = false; !waits; ) {
      const [{ waiting } = { waiting: 0 }] = await runOn<{ waiting: number }>(
        worker,
        `select count(*)::integer as waiting from pg_locks
        where not granted and locktype = 'advisory' and mode = 'ExclusiveLock'`,
      );
      waits = waiting > 0;
      await sleep(50);
    }
    expect(isMoved).toBe(false);
    await old.query('commit');
    await moving;
    await old.end();
    const pool = openPool(url());
    const { rows } = await pool.query(
      'select kilo_pass_threshold::integer as threshold from kilocode_users where id = $1',
      [id],
    );
    await pool.end();
    expect(rows).toEqual([{ threshold: 7 }]);
    await placed.expectExact();
  });

  it('is replaced without notice, also where nobody asked for long', async () => {
    id = idOn('c', NAMES);
    await createUser(ledger, { id });
    const own = await createLedger({ databaseUrl: url(), backgroundFold: false, poolSize: 2 });
    try {
      await own.recordUsage(event(id, 2));
      await moveAway(SCHEMA);
      await cleanUp();
      expect(await own.recordUsage(event(id, 2))).toMatchObject({ status: 'recorded' });
      expect(await own.getUserBalance(id)).toBe(4);
    } finally {
      await own.close();
    }
    await placed.expectExact();
  });

  it('outlives a worker that ends every session', async () => {
    id = idOn('c', NAMES);
    await createUser(ledger, { id });
    let isEnding = true;
    let total = 0;
    const writing = Array.from({ length: 4 }, async () => {
      while (isEnding) {
        await ledger.recordUsage(event(id, 1));
        total += 1;
      }
    });
    for (let n = 0; n < 3; n++) {
      await runOn(
        await plainUrl(url()),
        `select pg_terminate_backend(pid) from pg_stat_activity
        where pid <> pg_backend_pid() and application_name like 'microdollar %'`,
      );
      await sleep(100);
    }
    isEnding = false;
    await Promise.all(writing);
    expect(await ledger.getUserBalance(id)).toBe(total);
    await placed.expectExact();
  });
});

describe('what such a ledger cannot be', () => {
  const refused = (reason: string, code = 'unavailable') => ({
    code,
    message: expect.stringContaining(reason),
  });

  it('is not made where the cluster cannot have it, and nothing is changed', async () => {
    const [worker = ''] = citus.workerUrls;
    await expect(migrate(onCitus(worker, 'other'))).rejects.toMatchObject(
      refused('name the coordinator'),
    );
    await ask('create schema other');
    await ask('create table other.notes (id integer primary key)');
    await expect(migrate(onCitus(citus.coordinatorUrl, 'other'))).rejects.toMatchObject(
      refused('has tables that were not made for a ledger'),
    );
    await ask('drop schema other cascade');
    expect(() => onCitus(citus.coordinatorUrl, 'x'.repeat(58))).toThrow(/57 bytes/);
  });

  it('is told before it is migrated, and what it does not have', async () => {
    const url = onCitus(citus.coordinatorUrl, 'other');
    await expect(createLedger({ databaseUrl: url })).rejects.toMatchObject(
      refused('run microdollar migrate'),
    );
    await expect(migrate(url, { partitionById: true })).rejects.toMatchObject(
      refused('partitions by id', 'invalid_request'),
    );
    await expect(migrate(url, { countForeignRows: true })).rejects.toMatchObject(
      refused('rows of other programs', 'invalid_request'),
    );
    await expect(planMigration(url)).rejects.toMatchObject(refused('no plan', 'invalid_request'));
    // Its tables by their own names, through Citus, are no ledger.
    const schema = inSchema(citus.coordinatorUrl, 'shard_b');
    await expect(createLedger({ databaseUrl: schema })).rejects.toMatchObject(
      refused('Citus distributes the schema'),
    );
  });

  it('goes with no schema of its own and no replica in the shards file', () => {
    const shard = { name: 'a', databaseUrl: 'postgres://a/b', citusSchema: 's' };
    for (const more of [{ schema: 's' }, { replicaUrl: 'postgres://c/d' }]) {
      expect(() => readShards([{ ...shard, ...more }])).toThrow(/no schema and no replicaUrl/);
    }
    expect(() => readShards([{ ...shard, citusSchema: 1 }])).toThrow(/no text/);
  });
});
