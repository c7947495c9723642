import { afterAll, beforeAll, expect, it } from 'vitest';
import { LedgerError } from '../../src/errors.js';
import { ledgerErrorOf } from './ledgerHarness.js';
import {
  addFullPayer,
  createMoveFixture,
  describePayer,
  idOf,
  type MoveFixture,
  type PayerName,
} from './shardMoveHarness.js';

/** Columns, constraints and triggers that a host added to the ledger's tables. */
let fixture: MoveFixture;

beforeAll(async () => {
  fixture = await createMoveFixture();
});

afterAll(() => fixture.close());

async function onBoth(...statements: string[]): Promise<void> {
  for (const { rows } of [fixture.a, fixture.b])
    for (const statement of statements) await rows(statement);
}

const directory = (payer: PayerName) =>
  fixture.a.rows('select step from microdollar_shard_directory where payer_id = $1', [idOf(payer)]);

async function refusalOf(payer: PayerName): Promise<LedgerError> {
  const error = await ledgerErrorOf(fixture.moves.move(payer, 'b', { pageRows: 4 }));
  expect(error).toMatchObject({ code: 'invalid_request' });
  return error;
}

/** There and back, as it was. */
async function expectMoves(payer: PayerName): Promise<void> {
  const { a, b, moves } = fixture;
  const before = await describePayer(a, payer);
  expect(await moves.move(payer, 'b', { pageRows: 4 })).toMatchObject({ finished: true });
  expect(await describePayer(b, payer)).toEqual(before);
  await fixture.expectExact();
  await moves.move(payer, 'a');
  expect(await describePayer(a, payer)).toEqual(before);
}

it('columns go along whatever they are called', async () => {
  const names = ['"Camel Case"', '"order"', '"a""b\n;"'];
  const added = names.map((name) => `add ${name} text`).join(', ');
  const tables = ['microdollar_usage', 'microdollar_usage_metadata', 'api_keys', 'kilocode_users'];
  await onBoth(...tables.map((table) => `alter table ${table} ${added}`));
  const payer = await addFullPayer(fixture, 'user');
  for (const table of tables) {
    await fixture.a.rows(`update ${table} set ${names.map((name) => `${name} = 'x'`).join(', ')}`);
  }
  await expectMoves(payer);
  const dropped = names.map((name) => `drop ${name}`).join(', ');
  await onBoth(...tables.map((table) => `alter table ${table} ${dropped}`));
});

it('a column that follows from others here alone goes along as what it is', async () => {
  const { a, b, moves } = fixture;
  const tables = ['microdollar_usage', 'microdollar_usage_metadata', 'kilocode_users'];
  const payer = await addFullPayer(fixture, 'user');
  for (const table of tables) {
    await a.rows(`alter table ${table} add named text generated always as ('of ' || id) stored`);
    await b.rows(`alter table ${table} add named integer`);
  }
  expect((await refusalOf(payer)).message).toContain('alter column named type text');
  for (const table of tables) await b.rows(`alter table ${table} alter column named type text`);
  expect(await moves.move(payer, 'b', { pageRows: 4 })).toMatchObject({ finished: true });
  // Of users there are more: those whose rows went along.
  const own = `named is distinct from 'of ' || id and $1 in (id::text, kilo_user_id)`;
  for (const table of tables) {
    const condition = table === 'kilocode_users' ? own.replace('kilo_user_id', 'id') : own;
    const wrong = await b.rows(`select from ${table} where ${condition}`, [idOf(payer)]);
    expect(wrong, table).toEqual([]);
  }
  await fixture.expectExact();
  await onBoth(...tables.map((table) => `alter table ${table} drop named`));
});

it('organizations move to where names are unique, and not empty', async () => {
  const { a, moves } = fixture;
  const payers = [
    await addFullPayer(fixture, 'organization'),
    await addFullPayer(fixture, 'organization'),
  ];
  await onBoth(
    'update organizations set name = id::text',
    'alter table organizations add constraint named unique (name), add check (length(name) > 0)',
  );
  for (const payer of payers) {
    await a.rows(`update organizations set name = 'name of ' || id where id = $1`, [idOf(payer)]);
  }
  for (const payer of payers)
    expect(await moves.move(payer, 'b')).toMatchObject({ finished: true });
  for (const payer of payers) await moves.move(payer, 'a');
  await fixture.expectExact();
  await onBoth('alter table organizations drop constraint named');
});

it.each([
  ['text', 'varchar(5)', `'longer'`, 'is past what character varying(5) holds in 1 rows'],
  ['numeric', 'numeric(10,2)', '1.234', 'is numeric(10,2) on shard b'],
  ['timestamptz', 'timestamptz(0)', 'now()', 'is timestamp(0) with time zone on shard b'],
  ['double precision', 'real', '0.123456789', 'is real on shard b'],
  ['text', 'boolean', `'maybe'`, 'is boolean on shard b'],
  ['bigint[]', 'integer[]', `'{1}'`, 'is integer[] on shard b'],
  ['plan', 'plan', `'y'`, `is plan ('x') on shard b`],
  ['positive', 'positive', '-1', 'is positive (integer, CHECK ((VALUE > 0))) on shard b'],
])(
  'a column that is %s and %s there refuses a move before anything is copied',
  async (...given) => {
    const [source, target, value, said] = given;
    const { a, b } = fixture;
    await onBoth('drop type if exists plan cascade', 'drop domain if exists positive cascade');
    await a.rows(`create type plan as enum ('x', 'y'); create domain positive as integer`);
    await b.rows(
      `create type plan as enum ('x'); create domain positive as integer check (value > 0)`,
    );
    await a.rows(`alter table kilocode_users add extra ${source}`);
    await b.rows(`alter table kilocode_users add extra ${target}`);
    try {
      const payer = { kilo_user_id: await a.addUser() };
      await a.rows(`update kilocode_users set extra = ${value} where id = $1`, [idOf(payer)]);
      expect((await refusalOf(payer)).message).toContain(`kilocode_users.extra ${said}`);
      expect(await directory(payer)).toEqual([]);
    } finally {
      await onBoth('alter table kilocode_users drop extra');
    }
  },
);

it('what the target has room for moves: wider, and shorter text', async () => {
  const { a, b } = fixture;
  await a.rows(
    'alter table kilocode_users add extra text, add digits numeric(10,2), add n smallint',
  );
  await b.rows(
    'alter table kilocode_users add extra varchar(5), add digits numeric, add n numeric',
  );
  const payer = await addFullPayer(fixture, 'user');
  await a.rows(`update kilocode_users set extra = 'short', digits = 1.25, n = 3 where id = $1`, [
    idOf(payer),
  ]);
  const before = await describePayer(a, payer);
  expect(await fixture.moves.move(payer, 'b')).toMatchObject({ finished: true });
  expect(await describePayer(b, payer)).toEqual(before);
  await onBoth('alter table kilocode_users drop extra, drop digits, drop n');
});

it('a rule of the target that a row breaks is told, and the move can be called off', async () => {
  const { a, b, moves } = fixture;
  const payer = await addFullPayer(fixture, 'organization');
  await b.rows(`alter table organizations add constraint closed check (name = 'never') not valid`);
  const before = await describePayer(a, payer);
  const { message } = await refusalOf(payer);
  expect(message).toContain('shard b refuses a row');
  expect(message).toContain('"closed"');
  expect(await directory(payer)).toMatchObject([{ step: 'copying' }]);
  await moves.cancel(payer);
  expect(await directory(payer)).toEqual([]);
  await b.rows('alter table organizations drop constraint closed');
  expect(await describePayer(a, payer)).toEqual(before);
  await expectMoves(payer);
});

it.each(['microdollar_usage', 'microdollar_usage_metadata', 'exa_usage_log', 'api_keys'])(
  'nothing is taken away where a trigger of the target leaves out rows of %s',
  async (table) => {
    const { a, b, moves } = fixture;
    const payer = await addFullPayer(fixture, 'user');
    const condition = table === 'microdollar_usage' ? 'new.cost = 0' : 'true';
    await b.rows(`create or replace function leave_out() returns trigger language plpgsql as $$
      begin if ${condition} then return null; end if; return new; end $$`);
    await b.rows(
      `create trigger leave_out before insert on ${table} for each row execute function leave_out()`,
    );
    const before = await describePayer(a, payer);
    expect((await refusalOf(payer)).message).toContain(`did not keep every row of ${table}`);
    expect(await describePayer(a, payer)).toEqual(before);
    await b.rows(`drop trigger leave_out on ${table}`);
    expect(await moves.resume()).toMatchObject([{ finished: true }]);
    expect(await describePayer(b, payer)).toEqual(before);
    await fixture.expectExact();
  },
);

it('nor where it leaves out metadata of one row, among others that an earlier mover wrote', async () => {
  const { a, b, moves, ledgers } = fixture;
  const payer = await addFullPayer(fixture, 'user');
  const record = (sessionId: string) =>
    ledgers.a.recordUsage({
      kilo_user_id: idOf(payer),
      cost: 5,
      metadata: { session_id: sessionId },
    });
  await b.rows(`create or replace function leave_out() returns trigger language plpgsql as $$
    begin if new.session_id = 'left out' then return null; end if; return new; end $$`);
  await b.rows(`create trigger leave_out before insert on microdollar_usage_metadata
    for each row execute function leave_out()`);
  const onPoint = async (point: string) => {
    if (point === 'copied') await record('kept');
    if (point === 'caught_up') throw new LedgerError('internal', 'stopped');
  };
  await expect(moves.move(payer, 'b', { onPoint })).rejects.toThrow('stopped');
  await moves.liftAbandoned();
  await record('left out');
  const { microdollar_usage_metadata: metadata } = await describePayer(a, payer);
  await expect(moves.resume()).rejects.toThrow(
    'did not keep every row of microdollar_usage_metadata',
  );
  await b.rows('drop trigger leave_out on microdollar_usage_metadata');
  expect(await moves.resume()).toMatchObject([{ finished: true }]);
  expect(await describePayer(b, payer)).toMatchObject({ microdollar_usage_metadata: metadata });
  await fixture.expectExact();
});
