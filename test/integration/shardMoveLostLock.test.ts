import { afterAll, beforeAll, expect, it } from 'vitest';
import type { MovePoint } from '../../src/shards/move/types.js';
import { createMoveFixture, type MoveFixture } from './shardMoveHarness.js';

/**
 * The lock of movers goes with a connection that is idle while somebody moves: where that is ended, by a
 * network or a timeout, the mover does not hear of it, and another may lift its fence or go on with its move.
 */
let fixture: MoveFixture;
beforeAll(async () => {
  fixture = await createMoveFixture();
});
afterAll(() => fixture?.close());

type User = { kilo_user_id: string };

const END_LOCK = `
  select pg_terminate_backend(l.pid)
  from pg_locks as l
  where l.locktype = 'advisory'
    and l.classid = 1297369172
    and l.granted
    and l.database = (select oid from pg_database where datname = current_database())`;

async function addPayer(): Promise<User> {
  const user = await fixture.a.addUser();
  await fixture.ledgers.a.recordUsage({ kilo_user_id: user, cost: 3 });
  return { kilo_user_id: user };
}

async function homesOf({ kilo_user_id: user }: User): Promise<string[]> {
  const homes: string[] = [];
  for (const name of ['a', 'b'] as const) {
    const statement = 'select from kilocode_users where id = $1 and not is_elsewhere';
    if ((await fixture[name].rows(statement, [user])).length > 0) homes.push(name);
  }
  return homes;
}

/** A move that loses its lock at that point, and goes on after what is done meanwhile. */
async function moveUnaware(
  payer: User,
  point: MovePoint,
  meanwhile: () => Promise<unknown>,
): Promise<void> {
  let isEnded = false;
  const onPoint = async (at: MovePoint) => {
    if (at !== point || isEnded) return;
    isEnded = true;
    expect(await fixture.a.rows(END_LOCK)).toHaveLength(1);
    await meanwhile();
  };
  const moving = fixture.moves.move(payer, 'b', { onPoint });
  await expect(moving).rejects.toThrow('somebody else changed the move');
}

it.each(['fence_noted', 'fenced', 'waited', 'caught_up'] as const)(
  'hands nobody over whose fence was lifted meanwhile: %s',
  async (point) => {
    const payer = await addPayer();
    await moveUnaware(payer, point, async () => {
      await fixture.moves.liftAbandoned();
      await expect.poll(() => homesOf(payer)).toEqual(['a']);
      await fixture.sharded.recordUsage({ ...payer, cost: 4 });
    });
    expect(await homesOf(payer)).toEqual(['a']);
    await fixture.expectExact();
    await fixture.moves.resume();
    expect(await homesOf(payer)).toEqual(['b']);
    expect(await fixture.ledgers.b.getUserBalance(payer.kilo_user_id)).toBe(7);
    await fixture.expectExact();
  },
);

it.each(['page', 'copied', 'fence_noted', 'fenced', 'caught_up'] as const)(
  'changes nothing of who was moved by another meanwhile: %s',
  async (point) => {
    const payer = await addPayer();
    await moveUnaware(payer, point, async () => {
      await fixture.moves.resume();
      await fixture.sharded.recordUsage({ ...payer, cost: 4 });
    });
    expect(await homesOf(payer)).toEqual(['b']);
    expect(await fixture.ledgers.b.getUserBalance(payer.kilo_user_id)).toBe(7);
    await fixture.expectExact();
  },
);

it.each(['page', 'caught_up'] as const)(
  'ends no later move of the same payer: %s',
  async (point) => {
    const payer = await addPayer();
    await moveUnaware(payer, point, async () => {
      await fixture.moves.resume();
      await fixture.moves.move(payer, 'a');
      await fixture.sharded.recordUsage({ ...payer, cost: 4 });
    });
    expect(await homesOf(payer)).toEqual(['a']);
    expect(await fixture.ledgers.a.getUserBalance(payer.kilo_user_id)).toBe(7);
    await fixture.expectExact();
  },
);
