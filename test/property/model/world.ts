import { randomBytes } from 'node:crypto';
import pg from 'pg';
import { expect } from 'vitest';
import { Settler } from '../../../src/counter/settler.js';
import { Sweep } from '../../../src/counter/sweep.js';
import { queryOnPool } from '../../../src/db/query.js';
import { createLedger } from '../../../src/ledger.js';
import type { Ledger, LedgerOptions } from '../../../src/ledgerTypes.js';
import type { UsageEvent } from '../../../src/record/types.js';
import { createTestDatabase, type TestDatabase } from '../../support/database.js';
import { setExaAllowance } from '../../support/exaAllowance.js';
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
  database: TestDatabase;
  /** With group commit, one by one, settling in the background alone. */
  writers: Ledger[];
  /** Of a host that has no ledger. */
  hostPool: pg.Pool;
  sweep: Sweep;
  newProgram(): Promise<Program>;
}

/** The payers and sessions of one program, and the model of what they must report. */
export interface Program {
  model: LedgerModel;
  world: World;
  users: string[];
  organization: string;
  sessions: pg.PoolClient[];
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
    createLedger({
      databaseUrl: database.url,
      poolSize: 2,
      backgroundFold: false,
      lockTimeoutMs: 500,
      ...options,
    });
  await setExaAllowance(database.pool, EXA_ALLOWANCE);
  const hostPool = new pg.Pool({ connectionString: database.url, max: 2 });
  const query = queryOnPool(database.pool, false);
  const writers = [
    await open({}),
    await open({ groupCommit: false }),
    await open({ appendAlways: true }),
  ];
  const world: World = {
    database,
    writers,
    hostPool,
    sweep: new Sweep(query, new Settler({ query })),
    newProgram: () => newProgram(world),
    [Symbol.asyncDispose]: async () => {
      await Promise.all(writers.map((writer) => writer.close()));
      await hostPool.end();
      await database.drop();
    },
  };
  return world;
}

async function newProgram(world: World): Promise<Program> {
  const { pool } = world.database;
  const name = randomBytes(5).toString('hex');
  const users = Array.from({ length: USERS }, (_, index) => `${name} ${index}`);
  const created = await pool.query<{ id: string }>(
    `with users as (
       insert into kilocode_users (id, microdollars_used, opening_microdollars_used)
       select u.id, u.opening, u.opening from unnest($1::text[], $3::bigint[]) as u(id, opening)
     )
     insert into organizations (name) values ($2) returning id`,
    [users, name, users.map((_, user) => OPENING.get(String(user)) ?? 0n)],
  );
  const organization = created.rows[0]?.id ?? '';
  const sessions = await Promise.all(Array.from({ length: SESSIONS }, () => pool.connect()));
  const model = newLedgerModel(USERS, SESSIONS, EXA_ALLOWANCE, OPENING);
  const program: Program = {
    model,
    world,
    users,
    organization,
    sessions,
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
      await compareReports(program);
      expect(await world.writers[0]?.fold()).toMatchObject({ remaining: 0 });
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

/** Reports of every payer, through the library and, for any SQL client, the view. */
export async function compareReports(program: Program) {
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
  await Promise.all([
    ...users.flatMap((kilo_user_id, user) => [
      compareBalance(ledger.getUserBalance(kilo_user_id), user),
      compareDays(user, false),
      compareDays(user, true),
    ]),
    compareBalance(ledger.getOrganizationBalance(organization), 'organization'),
    compareView(program),
  ]);
}

async function compareView({ model, world, users }: Program) {
  const { rows } = await world.database.pool.query<{ key: string; total: string }>(
    `select kilo_user_id || '|' || (organization_id is not null) || '|' || usage_date as key,
       total_cost_microdollars as total
     from microdollar_usage_daily_exact
     where kilo_user_id = any ($1)
       and total_cost_microdollars <> 0`,
    [users],
  );
  const expected = users.flatMap((id, user) =>
    [false, true].flatMap((isOrganization) =>
      [...dailyTotals(model, user, isOrganization)].map(
        ([day, total]) => [`${id}|${isOrganization}|${day}`, total] as const,
      ),
    ),
  );
  expect(new Map(rows.map(({ key, total }) => [key, Number(total)]))).toEqual(new Map(expected));
}

/** After a fold without writers the base tables alone are right. */
async function compareBaseTables({ model, world, users, organization }: Program) {
  const { pool } = world.database;
  const balances = await pool.query(
    `select id, microdollars_used as used, total_microdollars_acquired::float8 as acquired
     from kilocode_users where id = any($1)
     union all
     select id::text, microdollars_used, total_microdollars_acquired::float8
     from organizations where id = $2
     order by 1`,
    [users, organization],
  );
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
  expect(balances.rows.toSorted(byId)).toEqual(expected.toSorted(byId));
  const rows = await pool.query(
    `select (select count(*)::integer from microdollar_usage where kilo_user_id = any($1)) as usage,
       (select count(*)::integer from exa_usage_log where kilo_user_id = any($1)) as exa,
       (select count(*)::integer from microdollar_usage as m
       join kilocode_users as u on u.id = m.kilo_user_id
       where m.kilo_user_id = any($1) and m.organization_id is null
         and (m.position >= u.settled_below or m.position = any (u.settled_except))) as unsettled,
       (select count(*)::integer from microdollar_usage_metadata as m
       join kilocode_users as u on u.id = m.kilo_user_id
       where u.id = any($1) and u.deleted_at is not null
         and m.user_prompt_prefix is not null) as personal`,
    [users],
  );
  expect(rows.rows).toEqual([
    { usage: model.events.length, exa: model.exa.length, unsettled: 0, personal: 0 },
  ]);
}
