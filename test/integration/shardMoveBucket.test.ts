import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Query, queryOnPool } from '../../src/db/query.js';
import { LedgerError } from '../../src/errors.js';
import { createOrganization, createUser } from '../../src/shards/accounts.js';
import { beginBucketStatement } from '../../src/shards/move/buckets.sql.js';
import { BucketMove } from '../../src/shards/move/moveBucket.js';
import type { StoredMove } from '../../src/shards/move/moves.sql.js';
import type { MoveShard } from '../../src/shards/move/types.js';
import { bucketOf, placeBuckets } from '../../src/shards/placement.js';
import { checkShards } from '../support/checkShards.js';
import { ledgerErrorOf } from './ledgerHarness.js';
import { createMoveFixture, type MoveFixture } from './shardMoveHarness.js';

let fixture: MoveFixture;

beforeAll(async () => {
  fixture = await createMoveFixture();
});

afterAll(() => fixture.close());

/** An id whose bucket this is. */
function idIn(bucket: number, kind: 'user' | 'organization'): string {
  for (;;) {
    const id = randomUUID();
    if (bucketOf(`${kind}:${id}`) === bucket) return id;
  }
}

async function addUser(bucket: number): Promise<string> {
  const { id } = await createUser(fixture.sharded, { id: idIn(bucket, 'user') });
  await fixture.sharded.recordUsage({ kilo_user_id: id, cost: 10 });
  return id;
}

const homeOf = async (table: string, id: string) => {
  const homes: string[] = [];
  for (const name of ['a', 'b'] as const) {
    const text = `select from ${table} where id::text = $1 and not is_elsewhere`;
    if ((await fixture[name].rows(text, [id])).length > 0) homes.push(name);
  }
  return homes.join();
};

const directory = () =>
  fixture.a.rows(
    `select bucket, payer_id, shard, step from microdollar_shard_directory
     where bucket is not null or payer_id is not null order by bucket, payer_id`,
  );

async function expectExact(): Promise<void> {
  await fixture.expectExact();
  const shards = (['a', 'b'] as const).map((name) => ({ name, pool: fixture[name].database.pool }));
  expect(await checkShards(shards)).toEqual([]);
}

/** Moves the bucket from `a` to `b` by a directory of the test's own. */
async function moveBy(bucket: number, directory: (real: Query) => Query) {
  const [a, b]: [MoveShard, MoveShard] = [
    { name: 'a', pool: fixture.a.database.pool },
    { name: 'b', pool: fixture.b.database.pool },
  ];
  const real = queryOnPool(a.pool, false);
  const [begun] = await real<StoredMove>(beginBucketStatement(bucket, 'a', 'b'));
  const context = { bucket, from: a, to: b, home: a, directory: directory(real), options: {} };
  const movePayer = () => Promise.reject(new Error('nobody is in it'));
  return await new BucketMove({ ...context, movePayer }).run(begun as StoredMove);
}

class Stopped extends LedgerError {}

describe('the switch of a bucket', () => {
  it('that committed though its answer was lost is the end of the move', async () => {
    let sent = 0;
    const report = await moveBy(900, (real) => async (statement) => {
      const rows = await real(statement);
      if (statement.name === 'shards_switch_bucket' && ++sent === 1) {
        throw Object.assign(new Error('lost'), { code: '08006' });
      }
      return rows as never;
    });
    expect([report.finished, sent]).toEqual([true, 2]);
    await fixture.a.rows('delete from microdollar_shard_directory where bucket = 900');
  });

  it('is not, where somebody has changed the move', async () => {
    const moving = moveBy(901, (real) => async (statement) => {
      if (statement.name === 'shards_switch_bucket') {
        await fixture.a.rows(
          `update microdollar_shard_directory set moving_to = null, step = null, progress = null
           where bucket = 901`,
        );
      }
      return await real(statement);
    });
    expect(await ledgerErrorOf(moving)).toMatchObject({ code: 'unavailable' });
    await fixture.a.rows('delete from microdollar_shard_directory where bucket = 901');
  });
});

describe('a bucket', () => {
  const bucket = 77;

  it('moves with everybody in it, who came while it moved too, and back', async () => {
    const users = [await addUser(bucket), await addUser(bucket)];
    const organization = idIn(bucket, 'organization');
    await createOrganization(fixture.sharded, { id: organization, name: 'o' });
    const other = await addUser(bucket + 1);
    const late: string[] = [];
    const report = await fixture.moves.moveBucket(bucket, 'b', {
      restRatio: 0,
      onPoint: async (point) => {
        if (point === 'fenced' && late.length === 0) late.push(await addUser(bucket));
      },
    });
    expect(report).toMatchObject({ from: 'a', to: 'b', finished: true, payers: 4 });
    for (const user of [...users, ...late]) expect(await homeOf('kilocode_users', user)).toBe('b');
    expect(await homeOf('organizations', organization)).toBe('b');
    expect(await homeOf('kilocode_users', other)).toBe('a');
    expect(await directory()).toEqual([{ bucket, payer_id: null, shard: 'b', step: null }]);
    // Who comes now is made there.
    expect(await homeOf('kilocode_users', await addUser(bucket))).toBe('b');
    await expectExact();

    expect(await fixture.moves.moveBucket(bucket, 'a')).toMatchObject({ payers: 5 });
    for (const user of users) expect(await homeOf('kilocode_users', user)).toBe('a');
    expect(await fixture.sharded.getUserBalance(users[0] ?? '')).toBe(10);
    expect(await homeOf('kilocode_users', await addUser(bucket))).toBe('a');
    await expectExact();
  });

  it('whose mover dies is finished by another, and a payer put somewhere stays there', async () => {
    const [first, put] = [await addUser(200), await addUser(200)];
    await fixture.moves.move({ kilo_user_id: put }, 'b');
    await fixture.moves.move({ kilo_user_id: put }, 'a');
    await fixture.a.rows(
      `insert into microdollar_shard_directory (payer_scope, payer_id, shard)
       values ('user', $1, 'a')`,
      [put],
    );
    for (const point of ['page', 'written', 'cleaning'] as const) {
      await expect(
        fixture.moves.moveBucket(200, 'b', {
          onPoint: (at) => {
            if (at === point) throw new Stopped('unavailable', point);
          },
        }),
      ).rejects.toThrow(point);
    }
    await fixture.moves.resume();
    expect(await homeOf('kilocode_users', first)).toBe('b');
    expect(await homeOf('kilocode_users', put)).toBe('a');
    await expectExact();
  });

  it('is called off: who has moved stays there', async () => {
    const users = [await addUser(300), await addUser(300)];
    let moved = 0;
    await expect(
      fixture.moves.moveBucket(300, 'b', {
        onPoint: (at) => {
          if (at === 'noted' && moved++ === 1) throw new Stopped('unavailable', at);
        },
      }),
    ).rejects.toThrow('noted');
    await fixture.moves.cancelBucket(300);
    const homes = await Promise.all(users.map((user) => homeOf('kilocode_users', user)));
    expect(homes.sort()).toEqual(['b', 'b']);
    expect(await homeOf('kilocode_users', await addUser(300))).toBe('a');
    await expectExact();
  });

  it.each([
    [-1, 'b', 'bucket'],
    [1_024, 'b', 'bucket'],
    [1.5, 'b', 'bucket'],
    [5, 'c', 'to'],
    [5, 'a', 'to'],
  ])('%d to shard %s is refused', async (number, to, field) => {
    const before = await directory();
    const error = await ledgerErrorOf(fixture.moves.moveBucket(number, to));
    expect(error).toMatchObject({ code: 'invalid_request', details: { field } });
    expect(await directory()).toEqual(before);
  });
});

describe('a shard that has joined', () => {
  it('is filled with the buckets that the rule gives it, and that have stayed', async () => {
    const rule = placeBuckets(['a', 'b']);
    const given = rule.flatMap((shard, bucket) => (shard === 'b' ? [bucket] : []));
    const [first = 0, second = 0, ...others] = given.filter((bucket) => bucket > 300);
    const users = [await addUser(first), await addUser(second)];
    // As joining does, but for most buckets, which need not be moved here.
    await fixture.a.rows('delete from microdollar_shard_directory where bucket is not null');
    await fixture.a.rows(
      `insert into microdollar_shard_directory (bucket, shard)
       select b, case when b = any ($2::integer[]) then 'b' else 'a' end
       from unnest($1::integer[]) as b`,
      [[...given.filter((bucket) => bucket > 300), 77], others],
    );
    await fixture.a.rows('update microdollar_shards set is_placing = true');
    const left = await fixture.moves.bucketsFor('b');
    expect(left.filter(({ bucket }) => bucket !== 77)).toEqual([
      { bucket: first, from: 'a' },
      { bucket: second, from: 'a' },
    ]);
    const done: number[] = [];
    await fixture.moves.fill('b', { onBucket: (n) => done.push(n) });
    expect(done).toHaveLength(left.length);
    expect(await fixture.moves.bucketsFor('b')).toEqual([]);
    for (const user of users) expect(await homeOf('kilocode_users', user)).toBe('b');
    await fixture.expectExact();
  });
});
