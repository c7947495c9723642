import { randomBytes, randomUUID } from 'node:crypto';
import type pg from 'pg';
import { expect } from 'vitest';
import type { UsageEvent } from '../../../src/record/types.js';
import { ORGANIZATION_SCOPE, USER_SCOPE } from '../../../src/schema/unsettled.js';
import { compareBaseTables, compareReports } from './compare.js';
import { CLOSED, type LedgerModel, type ModelEvent, newLedgerModel } from './ledgerModel.js';
import { EXA_ALLOWANCE, type World } from './world.js';

export const USERS = 3;
export const SESSIONS = 2;
/** The last user's balance is about to pass what a number holds. */
const OPENING = new Map([[String(USERS - 1), 2n ** 53n - 1_500_000_000_000n]]);

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

export async function newProgram(world: World): Promise<Program> {
  const name = randomBytes(5).toString('hex');
  const users = Array.from({ length: USERS }, (_, index) => `${name} ${index}`);
  const organization = randomUUID();
  await introduce(world, name, users, organization);
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

/** The payers of a program, each in its place. */
async function introduce(world: World, name: string, users: string[], organization: string) {
  for (const [place, pool] of world.pools.entries()) {
    const here = users.flatMap((id, user) =>
      world.placeOf({ kilo_user_id: id }) === place
        ? [{ id, opening: OPENING.get(String(user)) ?? 0n }]
        : [],
    );
    const isHere = world.placeOf({ organization_id: organization }) === place;
    if (here.length === 0 && !isHere) continue;
    await pool.query({
      name: 'introduce',
      text: `with organization as (
          insert into organizations (id, name) select o, $3 from unnest($4::uuid[]) as o
        )
        insert into kilocode_users (id, microdollars_used, opening_microdollars_used)
        select u.id, u.opening, u.opening from unnest($1::text[], $2::bigint[]) as u(id, opening)`,
      values: [
        here.map(({ id }) => id),
        here.map(({ opening }) => opening),
        name,
        isHere ? [organization] : [],
      ],
    });
  }
}

async function endSessions({ model, sessions }: Program): Promise<void> {
  for (const [index, session] of sessions.entries()) {
    if (!model.sessions[index]?.isOpen) continue;
    await session.query('rollback');
    model.events = model.events.filter((event) => event.session !== index);
    model.sessions[index] = { ...CLOSED };
  }
}

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
