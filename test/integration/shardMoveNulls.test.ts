import { afterAll, beforeAll, expect, it } from 'vitest';
import { ledgerErrorOf } from './ledgerHarness.js';
import {
  addFullPayer,
  createMoveFixture,
  describePayer,
  idOf,
  type MoveFixture,
  type PayerName,
} from './shardMoveHarness.js';

/** Home's tables are another program's: its columns take null, and are wider. */
let fixture: MoveFixture;

/** Columns that it leaves without a value, by table, and what stands for it elsewhere. */
const ABSENT: Readonly<Record<string, readonly string[]>> = {
  microdollar_usage: ['input_tokens', 'output_tokens', 'cache_write_tokens', 'has_error'],
  microdollar_usage_metadata: ['kilo_user_id', 'created_at'],
  exa_usage_log: ['path'],
  kilocode_users: ['created_at', 'updated_at'],
  organizations: ['name', 'created_at', 'updated_at'],
  organization_memberships: ['role', 'created_at'],
  api_keys: ['created_at', 'scopes', 'key_prefix'],
  credit_transactions: ['created_at', 'priority'],
};

beforeAll(async () => {
  fixture = await createMoveFixture();
  for (const [table, columns] of Object.entries(ABSENT)) {
    const changes = columns.map((name) => `alter ${name} drop not null`);
    await fixture.a.rows(`alter table ${table} ${changes.join(', ')}`);
  }
  await fixture.a.rows(`alter table microdollar_usage_metadata alter max_tokens type bigint`);
});

afterAll(() => fixture.close());

/** Everything that may be absent is. */
async function empty(): Promise<void> {
  for (const [table, columns] of Object.entries(ABSENT)) {
    await fixture.a.rows(
      `update ${table} set ${columns.map((name) => `${name} = null`).join(', ')}`,
    );
  }
}

const directory = (payer: PayerName) =>
  fixture.a.rows('select from microdollar_shard_directory where payer_id = $1', [idOf(payer)]);
const usageThere = (payer: PayerName) =>
  fixture.b.rows(
    'select from microdollar_usage where $1 in (kilo_user_id, organization_id::text)',
    [idOf(payer)],
  );

it.each(['user', 'organization'] as const)(
  'a full %s whose rows lack what new tables want moves, and goes back',
  async (scope) => {
    const { a, b, moves } = fixture;
    const payer = await addFullPayer(fixture, scope);
    await empty();
    const before = await describePayer(a, payer);
    expect(await moves.move(payer, 'b', { pageRows: 4 })).toMatchObject({ finished: true });
    await fixture.expectExact();
    const there = await describePayer(b, payer);
    for (const part of ['daily', 'by_dimension', 'quarter_hourly', 'exa', 'slots', 'balance']) {
      expect(there[part], part).toEqual(before[part]);
    }
    for (const [part, rows] of Object.entries(before)) {
      expect(there[part]?.length, part).toBe(rows.length);
    }
    await moves.move(payer, 'a');
    await fixture.expectExact();
    expect(await describePayer(a, payer)).toEqual(there);
  },
);

it('numbers past what the target holds refuse the move at its beginning, with the remedy', async () => {
  const { a, b, moves } = fixture;
  const payer = await addFullPayer(fixture, 'user');
  await a.rows(
    `update microdollar_usage_metadata set max_tokens = 5000000000
     where id in (select id from microdollar_usage_metadata where kilo_user_id = $1 limit 2)`,
    [idOf(payer)],
  );
  const error = await ledgerErrorOf(moves.move(payer, 'b'));
  expect(error).toMatchObject({ code: 'invalid_request' });
  expect(error.message).toContain(
    'microdollar_usage_metadata.max_tokens is past what integer holds in 2 rows',
  );
  const remedy = 'alter table microdollar_usage_metadata alter column max_tokens type bigint';
  expect(error.message).toContain(remedy);
  expect(await directory(payer)).toEqual([]);
  expect(await usageThere(payer)).toEqual([]);
  await b.rows(remedy);
  const before = await describePayer(a, payer);
  expect(await moves.move(payer, 'b')).toMatchObject({ finished: true });
  expect(await describePayer(b, payer)).toEqual(before);
  await fixture.expectExact();
});

it('a null that nothing stands for refuses it too, and one that comes meanwhile is named', async () => {
  const { a, b, moves } = fixture;
  await a.rows('alter table microdollar_usage add region text');
  await b.rows(`alter table microdollar_usage add region text not null default 'eu'`);
  const payer = await addFullPayer(fixture, 'organization');
  const refusal = /microdollar_usage.region is null in \d+ rows, and shard b wants a value/;
  await expect(moves.move(payer, 'b')).rejects.toThrow(refusal);
  expect(await directory(payer)).toEqual([]);
  await a.rows(`update microdollar_usage set region = 'us'`);
  const onPoint = async (point: string) => {
    if (point === 'noted') await a.rows('update microdollar_usage set region = null');
  };
  await expect(moves.move(payer, 'b', { onPoint })).rejects.toThrow(refusal);
  await fixture.expectExact();
  await a.rows(`update microdollar_usage set region = 'us'`);
  expect(await moves.resume()).toMatchObject([{ finished: true }]);
  await fixture.expectExact();
});

it('a shard that cannot make users by what the ledger knows of them is named with the remedy', async () => {
  const { a, b, moves } = fixture;
  await a.rows(`alter table kilocode_users add mail text default 'x' not null`);
  await b.rows(`alter table kilocode_users add mail text default 'x' not null`);
  await b.rows('alter table kilocode_users alter mail drop default');
  const payer = await addFullPayer(fixture, 'user');
  await expect(moves.move(payer, 'b')).rejects.toThrow(
    'alter table kilocode_users alter column mail set default',
  );
  expect(await directory(payer)).toEqual([]);
});
