import { afterAll, beforeAll, expect, it } from 'vitest';
import { Moves } from '../../src/shards/move/moves.js';
import type { MovePoint } from '../../src/shards/move/types.js';
import { openPool } from '../support/openPool.js';
import { openSessions, type Session } from '../support/sessions.js';
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

it.each(['page', 'copied'] as const)('notes nothing of a move back: %s', async (point) => {
  const payer = await addPayer();
  await moveUnaware(payer, point, async () => {
    await fixture.moves.resume();
    const stopped = fixture.moves.move(payer, 'a', {
      onPoint: (at) => {
        if (at === 'copied') throw new Error('stopped');
      },
    });
    await expect(stopped).rejects.toThrow();
  });
  expect(await homesOf(payer)).toEqual(['b']);
  await fixture.expectExact();
  await fixture.moves.resume();
  expect(await homesOf(payer)).toEqual(['a']);
  await fixture.expectExact();
});

it('leaves the fence of who went on with the move', async () => {
  const payer = await addPayer();
  let goOn = () => {};
  let next: Promise<unknown> = Promise.resolve();
  await moveUnaware(payer, 'caught_up', async () => {
    await new Promise<void>((reached, failed) => {
      const onPoint = async (at: MovePoint) => {
        if (at !== 'caught_up') return;
        reached();
        await new Promise<void>((resolve) => {
          goOn = resolve;
        });
      };
      next = fixture.moves.resume({ onPoint });
      next.catch(failed);
    });
  });
  goOn();
  await next;
  expect(await homesOf(payer)).toEqual(['b']);
  await fixture.expectExact();
});

/** With connections of their own. */
function openMoves(options = ''): { moves: Moves } & AsyncDisposable {
  const open = (name: 'a' | 'b') => ({
    name,
    pool: openPool({ connectionString: fixture[name].database.url, max: 5, options }),
  });
  const [home, other] = [open('a'), open('b')];
  return {
    moves: new Moves({ shards: [home, other] }),
    [Symbol.asyncDispose]: async () => {
      await Promise.all([home.pool.end(), other.pool.end()]);
    },
  };
}

/** As a home that is started anew: its sessions that wait for the mover's next statement. */
const END_WAITING = `
  select pg_terminate_backend(pid)
  from pg_stat_activity
  where datname = current_database()
    and state = 'idle in transaction'`;

it.each([
  ['before it is at the target', 'select from kilocode_users where id = $1 for update', false],
  // What the hand-over comes to once it has locked the payer there.
  ['after it is at the target', 'lock table budgets in access exclusive mode', false],
  ['after that, and it is killed', 'lock table budgets in access exclusive mode', true],
] as const)('has nobody at home on both where home is lost %s', async (_when, hold, isKilled) => {
  const payer = await addPayer();
  await using sessions = await openSessions(fixture.b.database.url, 1);
  await using other = openMoves();
  const [holder] = sessions.all as [Session];
  const waiting = `select from pg_stat_activity where datname = current_database()
      and wait_event_type = 'Lock' and query like '/* shards.%'`;
  let lost: Promise<void> = Promise.resolve();
  const lose = async () => {
    let lifting: Promise<unknown> = Promise.resolve();
    try {
      await expect.poll(() => fixture.b.rows(waiting)).toHaveLength(1);
      expect(await fixture.a.rows(END_LOCK)).toHaveLength(1);
      expect(await fixture.a.rows(END_WAITING)).not.toEqual([]);
      lifting = other.moves.liftAbandoned();
      // It waits for the mover, or somebody else who lifts does.
      await expect.poll(() => fixture.b.rows(waiting)).toHaveLength(2);
    } finally {
      await holder.run('rollback');
    }
    await lifting;
    await expect.poll(() => homesOf(payer)).toEqual(['a']);
    await fixture.sharded.recordUsage({ ...payer, cost: 4 });
  };
  const onPoint = async (at: MovePoint) => {
    if (at === 'written' && isKilled) throw new Error('killed');
    if (at !== 'read') return;
    await holder.run('begin');
    await holder.run(hold, hold.includes('$1') ? [payer.kilo_user_id] : []);
    lost = lose();
  };
  await expect(fixture.moves.move(payer, 'b', { onPoint })).rejects.toThrow();
  await lost;
  expect(await homesOf(payer)).toEqual(['a']);
  await fixture.expectExact();
  await fixture.moves.resume();
  expect(await homesOf(payer)).toEqual(['b']);
  expect(await fixture.ledgers.b.getUserBalance(payer.kilo_user_id)).toBe(7);
  await fixture.expectExact();
});

it('hands over for longer than a transaction may be idle elsewhere', async () => {
  const payer = await addPayer();
  await using opened = openMoves('-c idle_in_transaction_session_timeout=100');
  const onPoint = async (at: MovePoint) => {
    if (at === 'written') await fixture.a.rows('select pg_sleep(0.4)');
  };
  await opened.moves.move(payer, 'b', { onPoint });
  expect(await homesOf(payer)).toEqual(['b']);
});
