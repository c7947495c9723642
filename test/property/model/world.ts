import { randomBytes, randomUUID } from 'node:crypto';
import type pg from 'pg';
import { expect } from 'vitest';
import { CONNECTION_USES } from '../../../src/connections.js';
import { Settler } from '../../../src/counter/settler.js';
import { Sweep } from '../../../src/counter/sweep.js';
import { createPool } from '../../../src/db/pool.js';
import { queryOnPool } from '../../../src/db/query.js';
import { createLedger } from '../../../src/ledger.js';
import type { Ledger, LedgerOptions, NamedPayer } from '../../../src/ledgerTypes.js';
import { insertUsageAndMetadataWithBalanceUpdate } from '../../../src/record/onExecutor.js';
import type { RecordResult, UsageEvent } from '../../../src/record/types.js';
import { ORGANIZATION_SCOPE, USER_SCOPE } from '../../../src/schema/unsettled.js';
import type { Accounts } from '../../../src/shards/accounts.js';
import { migrateShards } from '../../../src/shards/migrateShards.js';
import { Moves } from '../../../src/shards/move/moves.js';
import type { MoveShard, PayerName } from '../../../src/shards/move/types.js';
import { keyOfPayer } from '../../../src/shards/placement.js';
import { createShardedLedger } from '../../../src/shards/shardedLedger.js';
import { createTestDatabase, type TestDatabase } from '../../support/database.js';
import { setExaAllowance } from '../../support/exaAllowance.js';
import { openPool } from '../../support/openPool.js';
import { shardOf } from '../../support/shardIds.js';
import {
  asAnswer,
  balanceOf,
  CLOSED,
  dailyTotals,
  type LedgerModel,
  type ModelEvent,
  newLedgerModel,
  type Payer,
} from './ledgerModel.js';

export const USERS = 3;
export const SESSIONS = 2;
const EXA_ALLOWANCE = 1000;
/** The last user's balance is about to pass what a number holds. */
const OPENING = new Map([[String(USERS - 1), 2n ** 53n - 1_500_000_000_000n]]);

/** The ledgers under test, shared by all programs of a run. */
export interface World extends AsyncDisposable {
  /** The only one; of shards, home. */
  database: TestDatabase;
  /** Of shards one each. */
  databases: readonly TestDatabase[];
  /** Each statement planned once: planning is most of what a program costs. */
  pools: readonly pg.Pool[];
  /** With group commit, one by one, settling in the background alone. */
  writers: Ledger[];
  /** Of a host that has no ledger; there is none of shards. */
  hostPool: pg.Pool;
  /** Where credits are added, and users deleted. */
  accounts: Accounts;
  sweeps: readonly Sweep[];
  settlers: readonly Settler[];
  /** On every database; the rows of all. */
  query<Row>(config: pg.QueryConfig): Promise<Row[]>;
  /** Which of the databases has a payer. */
  placeOf(payer: NamedPayer): number;
  /** Moves a payer to another of the databases. */
  move(payer: PayerName, to: number): Promise<void>;
  /** The same event again, by another way than a writer's. */
  replay(event: UsageEvent): Promise<RecordResult>;
  newProgram(): Promise<Program>;
}

/** The payers and sessions of one program, and the model of what they must report. */
export interface Program {
  model: LedgerModel;
  world: World;
  users: string[];
  organization: string;
  sessions: pg.PoolClient[];
  /** How often reports were compared: whose turn it is. */
  comparisons: number;
  newId(): string;
  /** The event as the ledger takes it. */
  toEvent(
    event: Pick<ModelEvent, 'id' | 'user' | 'isOrganization' | 'cost' | 'givenAt' | 'model'>,
  ): UsageEvent;
  /** Ends the sessions, folds, and compares everything with the model. */
  finish(): Promise<void>;
  /** Ends the sessions and gives them back. */
  release(): Promise<void>;
}

export async function createWorld(): Promise<World> {
  const database = await createTestDatabase();
  const open = (options: Partial<LedgerOptions>) =>
    createLedger({ databaseUrl: database.url, ...OPTIONS, ...options });
  return await openWorld([database], open, () => ({
    accounts: database.pool,
    placeOf: () => 0,
    move: async () => {},
    replay: (event, hostPool) => insertUsageAndMetadataWithBalanceUpdate(hostPool, event),
  }));
}

/** The same, of a ledger of shards. */
export async function createShardedWorld(names: readonly string[]): Promise<World> {
  const databases = await Promise.all(names.map(() => createTestDatabase()));
  const shards = names.map((name, index) => ({ name, databaseUrl: databases[index]?.url ?? '' }));
  await migrateShards(shards);
  const open = (options: Partial<LedgerOptions>) =>
    createShardedLedger({ shards, ...OPTIONS, ...options });
  const places = new Map<string, number>();
  const moved = databases.map(({ pool }, index) => ({ name: names[index] ?? '', pool }));
  const moves = new Moves({ shards: moved as [MoveShard, ...MoveShard[]] });
  return await openWorld(databases, open, (writers) => ({
    accounts: writers[0] as Ledger,
    placeOf: (payer) => places.get(keyOfPayer(payer)) ?? names.indexOf(shardOf(payer, names)),
    move: async (payer, to) => {
      expect(await moves.move(payer, names[to] ?? '')).toMatchObject({ finished: true });
      places.set(keyOfPayer(payer), to);
    },
    replay: (event) => (writers[1] as Ledger).recordUsage(event),
  }));
}

const OPTIONS = { poolSize: 2, backgroundFold: false, lockTimeoutMs: 500 } as const;

interface Kind {
  accounts: Accounts;
  placeOf(payer: NamedPayer): number;
  move(payer: PayerName, to: number): Promise<void>;
  replay(event: UsageEvent, hostPool: pg.Pool): Promise<RecordResult>;
}

async function openWorld(
  databases: readonly TestDatabase[],
  open: (options: Partial<LedgerOptions>) => Promise<Ledger>,
  kindOf: (writers: readonly Ledger[]) => Kind,
): Promise<World> {
  const [database] = databases as [TestDatabase, ...TestDatabase[]];
  for (const { pool } of databases) await setExaAllowance(pool, EXA_ALLOWANCE);
  const hostPool = openPool({ connectionString: database.url, max: 2 });
  const pools = databases.map(({ url }) =>
    createPool({
      url,
      size: 2,
      applicationName: 'model',
      lockTimeoutMs: 500,
      statementTimeoutMs: 60_000,
      settings: CONNECTION_USES.settle.settings,
    }),
  );
  const writers = [
    await open({}),
    await open({ groupCommit: false }),
    await open({ appendAlways: true }),
  ];
  const kind = kindOf(writers);
  const settlers = pools.map((pool) => new Settler({ query: queryOnPool(pool, true) }));
  const world: World = {
    database,
    databases,
    pools,
    writers,
    hostPool,
    ...kind,
    replay: (event) => kind.replay(event, hostPool),
    settlers,
    sweeps: settlers.map(
      (settler, index) => new Sweep(queryOnPool(pools[index] as pg.Pool, true), settler),
    ),
    query: async <Row>(config: pg.QueryConfig) => {
      const results = await Promise.all(pools.map((pool) => pool.query(config)));
      return results.flatMap(({ rows }) => rows as Row[]);
    },
    newProgram: () => newProgram(world),
    [Symbol.asyncDispose]: async () => {
      await Promise.all(writers.map((writer) => writer.close()));
      await hostPool.end();
      await Promise.all(pools.map((pool) => pool.end()));
      await Promise.all(databases.map((each) => each.drop()));
    },
  };
  return world;
}

async function newProgram(world: World): Promise<Program> {
  const name = randomBytes(5).toString('hex');
  const users = Array.from({ length: USERS }, (_, index) => `${name} ${index}`);
  const organization = randomUUID();
  for (const [user, id] of users.entries()) {
    await world.pools[world.placeOf({ kilo_user_id: id })]?.query({
      name: 'new_user',
      text: `insert into kilocode_users (id, microdollars_used, opening_microdollars_used)
        values ($1, $2, $2)`,
      values: [id, OPENING.get(String(user)) ?? 0n],
    });
  }
  await world.pools[world.placeOf({ organization_id: organization })]?.query({
    name: 'new_organization',
    text: 'insert into organizations (id, name) values ($1, $2)',
    values: [organization, name],
  });
  const sessions = await Promise.all(
    Array.from({ length: SESSIONS }, () => world.database.pool.connect()),
  );
  const model = newLedgerModel(USERS, SESSIONS, EXA_ALLOWANCE, OPENING);
  const program: Program = {
    model,
    world,
    users,
    organization,
    sessions,
    comparisons: 0,
    newId: () =>
      `${randomBytes(4).toString('hex')}-${name.slice(0, 4)}-4${name.slice(4, 7)}-8${name.slice(7)}-${String(model.nextId++).padStart(12, '0')}`,
    toEvent: (event) => ({
      id: event.id,
      kilo_user_id: users[event.user] ?? '',
      organization_id: event.isOrganization ? organization : null,
      cost: event.cost,
      model: event.model,
      ...(event.givenAt === null ? {} : { created_at: event.givenAt }),
    }),
    finish: async () => {
      await endSessions(program);
      await compareReports(program, 'all');
      await settleAll(program);
      await compareBaseTables(program);
    },
    release: async () => {
      await endSessions(program);
      for (const session of sessions) session.release();
    },
  };
  return program;
}

async function endSessions({ model, sessions }: Program): Promise<void> {
  for (const [index, session] of sessions.entries()) {
    await session.query('rollback');
    model.events = model.events.filter((event) => event.session !== index);
    model.sessions[index] = { ...CLOSED };
  }
}

const RANGE = { from: '2025-01-01', until: '9999-12-31' };

/** One fold of the program's payers: with nothing open, nothing is left. */
async function settleAll({ world, users, organization }: Program) {
  for (const [place, settler] of world.settlers.entries()) {
    const here = {
      users: users.filter((id) => world.placeOf({ kilo_user_id: id }) === place),
      organizations:
        world.placeOf({ organization_id: organization }) === place ? [organization] : [],
    };
    const settled = [
      await settler.settle(USER_SCOPE, here.users),
      await settler.settle(ORGANIZATION_SCOPE, here.organizations),
    ];
    expect(settled.map(({ left }) => left)).toEqual([0, 0]);
  }
}

/**
 * Balances and days of every payer by the views, as any SQL client reads them; through the library
 * those of one user, each in turn, or of `all`.
 */
export async function compareReports(program: Program, how: 'all' | 'some' = 'some') {
  const { model, world, users, organization } = program;
  const [ledger] = world.writers;
  if (!ledger) throw new Error('no ledger');
  const compareDays = async (user: number, isOrganization: boolean) => {
    const days = await ledger.getDailyUsage({
      kilo_user_id: users[user] ?? '',
      organization_id: isOrganization ? organization : null,
      ...RANGE,
    });
    const reported = days.map((day) => [day.usage_date, day.total_cost_microdollars]);
    expect(reported).toEqual([...dailyTotals(model, user, isOrganization)]);
  };
  const compareBalance = async (balance: Promise<number | bigint | null>, payer: Payer) => {
    expect(await balance).toBe(asAnswer(balanceOf(model, payer)));
  };
  const compareUser = (user: number) => [
    compareBalance(ledger.getUserBalance(users[user] ?? ''), user),
    compareDays(user, false),
    compareDays(user, true),
  ];
  const turn = program.comparisons++ % USERS;
  await Promise.all([
    compareViews(program),
    ...(how === 'all' ? users.flatMap((_, user) => compareUser(user)) : compareUser(turn)),
    ...(how === 'all' || turn === 0
      ? [compareBalance(ledger.getOrganizationBalance(organization), 'organization')]
      : []),
  ]);
}

const VIEWS = {
  name: 'compare_views',
  text: `select 'balance ' || b.kilo_user_id as key, b.microdollars_used as total
    from kilocode_user_balances as b
    where b.kilo_user_id = any ($1::text[])
      and b.kilo_user_id not in (select u.id from kilocode_users as u where u.is_elsewhere)
    union all
    select 'balance organization', b.microdollars_used
    from organization_balances as b
    where b.organization_id = $2::uuid
      and b.organization_id not in (select o.id from organizations as o where o.is_elsewhere)
    union all
    select e.kilo_user_id || '|' || (e.organization_id is not null) || '|' || e.usage_date,
      e.total_cost_microdollars
    from microdollar_usage_daily_exact as e
    where e.kilo_user_id = any ($1::text[])
      and e.total_cost_microdollars <> 0`,
};

async function compareViews({ model, world, users, organization }: Program) {
  const rows = await world.query<{ key: string; total: string }>({
    ...VIEWS,
    values: [users, organization],
  });
  const balances = users.map((id, user) => [`balance ${id}`, balanceOf(model, user)] as const);
  const days = users.flatMap((id, user) =>
    [false, true].flatMap((isOrganization) =>
      [...dailyTotals(model, user, isOrganization)].map(
        ([day, total]) => [`${id}|${isOrganization}|${day}`, BigInt(total)] as const,
      ),
    ),
  );
  const expected: (readonly [string, bigint])[] = [
    ...balances,
    ['balance organization', balanceOf(model, 'organization')],
    ...days,
  ];
  expect(new Map(rows.map(({ key, total }) => [key, BigInt(total)]))).toEqual(new Map(expected));
}

/** After a fold without writers the base tables alone are right. */
async function compareBaseTables({ model, world, users, organization }: Program) {
  const balances = await world.query<{ id: string; used: string; acquired: number }>({
    name: 'base_balances',
    text: `select id, microdollars_used as used, total_microdollars_acquired::float8 as acquired
     from kilocode_users where id = any($1) and not is_elsewhere
     union all
     select id::text, microdollars_used, total_microdollars_acquired::float8
     from organizations where id = $2 and not is_elsewhere
     order by 1`,
    values: [users, organization],
  });
  const expected = [
    ...users.map((id, user) => ({
      id,
      used: String(balanceOf(model, user)),
      acquired: model.credits.get(String(user)) ?? 0,
    })),
    {
      id: organization,
      used: String(balanceOf(model, 'organization')),
      acquired: model.credits.get('organization') ?? 0,
    },
  ];
  const byId = (a: { id: string }, b: { id: string }) => (a.id < b.id ? -1 : 1);
  expect(balances.toSorted(byId)).toEqual(expected.toSorted(byId));
  const rows = await world.query<Record<'usage' | 'exa' | 'unsettled' | 'personal', number>>({
    name: 'base_rows',
    text: `select (select count(*)::integer from microdollar_usage where kilo_user_id = any($1)) as usage,
       (select count(*)::integer from exa_usage_log where kilo_user_id = any($1)) as exa,
       (select count(*)::integer from microdollar_usage as m
       join kilocode_users as u on u.id = m.kilo_user_id
       where m.kilo_user_id = any($1) and m.organization_id is null
         and (m.position >= u.settled_below or m.position = any (u.settled_except))) as unsettled,
       (select count(*)::integer from microdollar_usage_metadata as m
       join kilocode_users as u on u.id = m.kilo_user_id
       where u.id = any($1) and u.deleted_at is not null
         and m.user_prompt_prefix is not null) as personal`,
    values: [users],
  });
  const sumOf = (column: keyof (typeof rows)[number]) =>
    rows.reduce((sum, row) => sum + row[column], 0);
  expect({
    usage: sumOf('usage'),
    exa: sumOf('exa'),
    unsettled: sumOf('unsettled'),
    personal: sumOf('personal'),
  }).toEqual({ usage: model.events.length, exa: model.exa.length, unsettled: 0, personal: 0 });
}
