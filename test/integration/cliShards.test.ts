import { randomUUID } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createUser } from '../../src/shards/accounts.js';
import { bucketOf, placeBuckets } from '../../src/shards/placement.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { idOn } from '../support/shardIds.js';
import { documentOf, runCommand } from './cliHarness.js';
import { createShardFixture, type ShardFixture } from './shardHarness.js';

let fixture: ShardFixture;
let third: TestDatabase;
let dir: string;
let user: string;

/** Whoever is not made for the third is not of its buckets either, when it joins. */
const THREE = ['home', 'b', 'c'] as const;

beforeAll(async () => {
  fixture = await createShardFixture(['home', 'b']);
  third = await createTestDatabase();
  dir = await mkdtemp(join(tmpdir(), 'microdollar-shards-'));
  await writeFile(join(dir, 'two.json'), JSON.stringify(fixture.shards));
  const three = [...fixture.shards, { name: 'c', databaseUrl: third.url }];
  await writeFile(join(dir, 'three.json'), JSON.stringify({ shards: three }));
  user = idOn('home', THREE);
  await createUser(fixture.ledger, { id: user });
  await fixture.ledger.recordUsage({ kilo_user_id: user, cost: 12 });
});

afterAll(async () => {
  await fixture.close();
  await third.drop();
  await rm(dir, { recursive: true });
});

const run = (file: string, ...argv: string[]) =>
  runCommand({ MICRODOLLAR_SHARDS_FILE: join(dir, file) }, 'shards', ...argv);

async function ask(file: string, ...argv: string[]) {
  const ran = await run(file, ...argv, '--json');
  return { status: ran.status, document: documentOf(ran) };
}

/**
 * Of the third of all buckets that a shard takes, those of these users and some more are left to move: of an empty
 * one it is the same each time. @returns how many
 */
async function keepBucketsOf(
  shard: string,
  names: readonly string[],
  users: string[],
): Promise<number> {
  const left = new Set(users.map((id) => bucketOf(`user:${id}`)));
  const taken = [...placeBuckets(names).entries()].flatMap(([bucket, name]) =>
    name === shard ? [bucket] : [],
  );
  const some = taken.filter((bucket) => !left.has(bucket)).slice(0, 2);
  await fixture.rows(
    'home',
    `insert into microdollar_shard_directory (bucket, shard)
     select b, $1 from unnest($2::integer[]) as b
     on conflict (bucket) do nothing`,
    [shard, taken.filter((bucket) => !left.has(bucket) && !some.includes(bucket))],
  );
  return left.size + some.length;
}

describe('shards', () => {
  it('status tells how each shard is, also of one that is away', async () => {
    const { status, document } = await ask('two.json', 'status');
    expect(status).toBe(0);
    expect(document).toMatchObject({
      shards: [
        { name: 'home', is_placing: true, users: 1, organizations: 0, replica_lag_bytes: 0 },
        { name: 'b', is_placing: true, users: 0 },
      ],
      moves: [],
    });
    const [home] = fixture.shards;
    const away = [home, { name: 'b', databaseUrl: 'postgres://127.0.0.1:1/none' }];
    await writeFile(join(dir, 'away.json'), JSON.stringify(away));
    const text = await run('away.json', 'status');
    expect(text.status).toBe(1);
    expect(text.stdout).toContain('away');
    expect(text.stdout).toContain('home');
  });

  it('move says what it would do, does it, and refuses to do it again', async () => {
    const what = ['move', '--user', user, '--to', 'b'];
    expect(await ask('two.json', ...what, '--dry-run')).toEqual({
      status: 0,
      document: { dry_run: true, payer: `user:${user}`, from: 'home', to: 'b' },
    });
    expect(await fixture.rows('home', 'select from microdollar_shard_directory')).toEqual([]);
    expect(await ask('two.json', ...what)).toMatchObject({
      status: 0,
      document: { moves: [{ from: 'home', to: 'b', finished: true, rows_copied: 1 }] },
    });
    expect(await fixture.ledger.getUserBalance(user)).toBe(12);
    const again = await run('two.json', ...what);
    expect(again).toMatchObject({ status: 2, stdout: '' });
    expect(again.stderr).toContain('is on shard b already');
    expect(await ask('two.json', 'resume')).toEqual({ status: 0, document: { moves: [] } });
  });

  it.each([
    [['move', '--to', 'b'], 'name one of'],
    [['move', '--user', 'u', '--bucket', '1', '--to', 'b'], 'name one of'],
    [['move', '--user', 'u'], '--to is required'],
    [['move', '--bucket', '1024', '--to', 'b'], '0 to 1023'],
    [['move', '--bucket', 'one', '--to', 'b'], '0 to 1023'],
    [['move', '--bucket', '1', '--to', 'nowhere'], 'known: home, b'],
    [['add', 'nobody'], 'names no shard'],
  ])('%j is refused', async (argv, said) => {
    const { status, stderr } = await run('two.json', ...argv);
    expect(status).toBe(2);
    expect(stderr).toContain(said);
  });

  it('needs a shards file that is one installation', async () => {
    const without = await runCommand({}, 'shards', 'status');
    expect(without.status).toBe(2);
    expect(without.stderr).toContain('MICRODOLLAR_SHARDS_FILE');
    const fewer = await run('home.json', 'status');
    expect(fewer.status).toBe(2);
    const moved = await run('three.json', 'move', '--user', user, '--to', 'c');
    expect(moved.status).toBe(2);
    expect(moved.stderr).toContain('is none yet');
  });

  it('move --bucket takes everybody in it along', async () => {
    const id = idOn('home', THREE);
    await createUser(fixture.ledger, { id });
    const bucket = String(bucketOf(`user:${id}`));
    expect(await ask('two.json', 'move', '--bucket', bucket, '--to', 'b')).toMatchObject({
      status: 0,
      document: { moves: [{ finished: true, payers: 1, from: 'home', to: 'b' }] },
    });
    const rows = await fixture.rows(
      'b',
      'select from kilocode_users where id = $1 and not is_elsewhere',
      [id],
    );
    expect(rows).toHaveLength(1);
    await fixture.expectExact();
  });

  it('add joins a shard and says how much it would take', async () => {
    const plan = await ask('three.json', 'add', 'c', '--dry-run');
    expect(plan).toMatchObject({ status: 0, document: { joined: false, shard: 'c' } });
    expect(plan.document.buckets).toBeGreaterThan(256);
    expect(plan.document.buckets).toBeLessThan(427);
  });

  it('add moves the buckets that the rule gives the new shard, with everybody in them', async () => {
    const ids = [0, 1].map(() => idOn('c', THREE));
    const young = idOn('c', THREE);
    const events = ids.map((id) => ({ kilo_user_id: id, cost: 40, id: randomUUID() }));
    for (const id of ids) await createUser(fixture.ledger, { id });
    await fixture.ledger.recordUsageBatch(events);
    const buckets = await keepBucketsOf('c', THREE, [...ids, young]);
    const { status, document } = await ask('three.json', 'add', 'c');
    expect([status, document]).toEqual([
      0,
      { shard: 'c', buckets, buckets_left: 0, payers: ids.length },
    ]);
    const { rows } = await third.pool.query('select id from kilocode_users where not is_elsewhere');
    expect(rows.map(({ id }) => id).sort()).toEqual([...ids].sort());
    const { document: state } = await ask('three.json', 'status');
    expect(state).toMatchObject({ shards: [{}, {}, { name: 'c', is_placing: true }], moves: [] });
    // New payers of its buckets are made there, and those of before are known, with what they sent.
    const shards = [...fixture.shards, { name: 'c', databaseUrl: third.url }];
    const ledger = await fixture.open({ shards });
    const again = await ledger.recordUsageBatch(events);
    expect(again.map((each) => each.status)).toEqual(ids.map(() => 'duplicate'));
    await createUser(ledger, { id: young });
    expect((await ledger.of({ kilo_user_id: young })).databaseUrl).toBe(third.url);
    expect(
      await third.pool.query('select from kilocode_users where id = $1', [young]),
    ).toMatchObject({ rowCount: 1 });
    // With nothing left to move it is done at once.
    const { document: twice } = await ask('three.json', 'add', 'c');
    expect(twice).toMatchObject({ buckets: 0, buckets_left: 0, payers: 0 });
  });
});
