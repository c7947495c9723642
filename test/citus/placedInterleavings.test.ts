import pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { buildLocalSchema } from '../../src/db/citus/localSchema.js';
import { localSchemaOf, onCitus } from '../../src/db/citus/placedUrl.js';
import { type NodeAddress, Placement } from '../../src/db/citus/placement.js';
import { migrate } from '../../src/db/migrate.js';
import { createLedger } from '../../src/ledger.js';
import { createUser } from '../../src/shards/accounts.js';
import { type CitusCluster, createCitusDatabase, runOn } from '../support/citusCluster.js';
import { databaseUrl } from '../support/database.js';

const SCHEMA = 'apart';

let citus: CitusCluster;
let old: pg.Client;
/** Of the node that the schema was on when a test began. */
let oldUrl: string;
let database: string;

beforeAll(async () => {
  citus = await createCitusDatabase();
  database = new URL(citus.coordinatorUrl).pathname.slice(1);
  await migrate(onCitus(citus.coordinatorUrl, SCHEMA));
});

afterAll(async () => {
  await citus?.drop();
});

/** Asks the coordinator. */
const ask = <Row>(text: string) => runOn<Row>(citus.coordinatorUrl, text);

/** As a process that has just begun: it knows of no node yet. */
const find = (): Promise<NodeAddress> =>
  new Placement({ coordinatorUrl: citus.coordinatorUrl, schema: SCHEMA }).node();

const workerAt = ({ port }: { port: number }): string =>
  citus.workerUrls.find((url) => Number(new URL(url).port) === port) ?? '';

/** In the way that does not wait for open transactions with an id before it begins. */
async function moveAway(): Promise<void> {
  await ask(
    `select citus_schema_move('${SCHEMA}', n.nodeid, 'block_writes')
    from pg_dist_node as n
    where n.groupid <> 0
      and n.nodeport <> (select distinct nodeport from citus_shards
        where table_name = '${SCHEMA}.ledger_settings'::regclass)`,
  );
}

/** A session on the node that has the schema now, which stays there. */
async function connect(): Promise<void> {
  const node = await find();
  oldUrl = workerAt(node);
  // Opened as that process would have it, whatever this one has heard since.
  old = new pg.Client({
    connectionString: oldUrl,
    options: `-c search_path="${localSchemaOf(SCHEMA)}"`,
  });
  old.on('error', () => {});
  await old.connect();
}

const write = () => old.query(`insert into kilocode_users (id) values ('nobody')`);
const moved = { code: '57P01', message: expect.stringContaining('has moved') };

describe('a write by a snapshot from before a move', () => {
  it.each([
    // What age() counts from is kept until the transaction ends.
    ['that knew of ids before it had one', `select age('3'::xid)`],
    ['that had an id', 'select pg_current_xact_id()'],
  ])('%s, is refused', async (_what, first) => {
    await connect();
    try {
      await old.query('begin isolation level repeatable read');
      await old.query('select from kilocode_users');
      await old.query(first);
      for (let n = 0; n < 3; n++) await runOn(oldUrl, 'select pg_current_xact_id()');
      await moveAway();
      await expect(write()).rejects.toMatchObject(moved);
    } finally {
      await old.end();
    }
  });
});

describe('a process that knew the node before a move', () => {
  it('opens the ledger where it is, also when what was left is gone', async () => {
    const url = onCitus(citus.coordinatorUrl, SCHEMA);
    const open = () => createLedger({ databaseUrl: url, backgroundFold: false, poolSize: 1 });
    await (await open()).close();
    await moveAway();
    await ask('call citus_cleanup_orphaned_resources()');
    const ledger = await open();
    try {
      await createUser(ledger, { id: 'someone' });
      expect(await ledger.getUserBalance('someone')).toBe(0);
    } finally {
      await ledger.close();
    }
  });
});

describe('the node that a schema has left, before it knows', () => {
  const groupOf = async (): Promise<{ group: number; shards: string }> => {
    const [row] = await runOn<{ group: number; shards: string }>(
      oldUrl,
      `select max(p.groupid) as group, string_agg(p.shardid::text, ',') as shards
      from pg_dist_placement as p
      join pg_dist_shard as s using (shardid)
      join pg_class as c on c.oid = s.logicalrelid
      where c.relnamespace = '${SCHEMA}'::regnamespace`,
    );
    return row as { group: number; shards: string };
  };

  /** As while its part of a move is prepared, and not committed yet. */
  const place = (shards: string, group: number) =>
    runOn(oldUrl, `update pg_dist_placement set groupid = ${group} where shardid in (${shards})`);

  const allowConnections = (isAllowed: boolean) =>
    runOn(
      databaseUrl(oldUrl, 'postgres'),
      `alter database ${database} with allow_connections ${isAllowed}`,
    );

  it.each(['answers', 'does not answer'])('nobody writes elsewhere while it %s', async (how) => {
    await connect();
    const before = await groupOf();
    await moveAway();
    const after = await groupOf();
    expect(after.group).not.toBe(before.group);
    await place(before.shards, before.group);
    if (how !== 'answers') await allowConnections(false);
    let isFound = false;
    const finding = find().then((node) => {
      isFound = true;
      return node;
    });
    try {
      // It still reads here, so what it reads has to be all there is.
      for (let n = 0; n < 30; n++) {
        await old.query('select pg_sleep(0.05)');
        await old.query('select from kilocode_users');
      }
      expect(isFound).toBe(false);
    } finally {
      await allowConnections(true);
      await place(before.shards, after.group);
      await old.end();
    }
    expect(workerAt(await finding)).not.toBe(oldUrl);
  });

  it('has come in between, so whoever was to prepare the new one does not', async () => {
    await connect();
    await old.end();
    await moveAway();
    const client = new pg.Client({
      connectionString: citus.workerUrls.find((url) => url !== oldUrl) ?? '',
    });
    await client.connect();
    try {
      expect(await buildLocalSchema(client, SCHEMA, async () => false)).toBe(false);
      const { rows } = await client.query('select to_regclass($1)::text as view', [
        `"${localSchemaOf(SCHEMA)}".ledger_settings`,
      ]);
      expect(rows).toEqual([{ view: null }]);
    } finally {
      await client.end();
    }
    expect(workerAt(await find())).not.toBe(oldUrl);
  });
});
