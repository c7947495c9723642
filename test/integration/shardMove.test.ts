import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, onTestFinished, vi } from 'vitest';
import { LedgerError } from '../../src/errors.js';
import { archiveUsage } from '../../src/rollup/archive/archive.js';
import { verifyRollup } from '../../src/rollup/verify.js';
import { DAILY_ROLLUP } from '../../src/schema/rollups.js';
import { Moves } from '../../src/shards/move/moves.js';
import { STATE_TABLES } from '../../src/shards/move/payerTables.js';
import type { MovePoint } from '../../src/shards/move/types.js';
import { openSessions } from '../support/sessions.js';
import { daysAgo } from './archiveHarness.js';
import { ledgerErrorOf } from './ledgerHarness.js';
import {
  addFullPayer,
  createMoveFixture,
  describePayer,
  idOf,
  type MoveFixture,
  tablesNaming,
} from './shardMoveHarness.js';

let fixture: MoveFixture;

beforeAll(async () => {
  fixture = await createMoveFixture();
});

afterAll(() => fixture.close());

const directory = () =>
  fixture.a.rows('select shard, moving_to, moved_from, step from microdollar_shard_directory');

describe.each(['user', 'organization'] as const)('a move of a full %s', (scope) => {
  it('takes everything along, leaves nothing behind, and goes back', async () => {
    const { a, b, moves } = fixture;
    const payer = await addFullPayer(fixture, scope);
    await fixture.expectExact();
    const before = await describePayer(a, payer);
    for (const { name } of STATE_TABLES) {
      if (name === 'organization_memberships' && scope === 'user') continue;
      expect(before[name === 'headroom' ? 'slots' : name], name).not.toEqual([]);
    }

    const report = await moves.move(payer, 'b', { pageRows: 4, fenceMs: 60_000 });
    expect(report).toMatchObject({ from: 'a', to: 'b', finished: true, liftedFences: 0 });
    expect(await describePayer(b, payer)).toEqual(before);
    await fixture.expectExact();
    expect(await tablesNaming(a, payer)).toEqual(
      [scope === 'user' ? 'kilocode_users' : 'organizations', 'microdollar_shard_directory'].sort(),
    );
    expect(await directory()).toEqual([
      { shard: 'b', moving_to: null, moved_from: null, step: null },
    ]);
    await b.expectExact();
    expect(await describePayer(b, payer)).toEqual(before);

    await moves.move(payer, 'a');
    expect(await describePayer(a, payer)).toEqual(before);
    await fixture.expectExact();
    expect(await directory()).toEqual([]);
    expect(idOf(payer)).not.toBe('');
  });
});

class Stopped extends LedgerError {
  constructor(point: MovePoint) {
    super('unavailable', point);
  }
}

/** Where a move of the payer stands, and which shard takes its writes. */
async function standing(user: string) {
  const [move] = await fixture.a.rows<{ step: string | null; shard: string }>(
    'select step, shard from microdollar_shard_directory where payer_id = $1',
    [user],
  );
  const homes: string[] = [];
  for (const name of ['a', 'b'] as const) {
    const rows = await fixture[name].rows(
      'select from kilocode_users where id = $1 and not is_elsewhere',
      [user],
    );
    if (rows.length > 0) homes.push(name);
  }
  return { step: move?.step ?? null, shard: move?.shard ?? 'a', homes };
}

const POINTS: readonly [MovePoint, { step: string; homes: string[] }][] = [
  ['noted', { step: 'copying', homes: ['from'] }],
  ['prepared', { step: 'copying', homes: ['from'] }],
  ['page', { step: 'copying', homes: ['from'] }],
  ['copied', { step: 'copying', homes: ['from'] }],
  ['fence_noted', { step: 'fenced', homes: ['from'] }],
  ['fenced', { step: 'fenced', homes: [] }],
  ['waited', { step: 'fenced', homes: [] }],
  ['caught_up', { step: 'fenced', homes: [] }],
  ['read', { step: 'fenced', homes: [] }],
  ['written', { step: 'fenced', homes: ['to'] }],
  ['switched', { step: 'switched', homes: ['to'] }],
  ['handed_over', { step: 'switched', homes: ['to'] }],
  ['cleaning', { step: 'cleaning', homes: ['to'] }],
  ['cleaned_page', { step: 'cleaning', homes: ['to'] }],
  ['cleaned', { step: 'cleaning', homes: ['to'] }],
];

describe('a move that ends', () => {
  it('at any point leaves both shards exact, and goes on from the directory alone', async () => {
    // The fixture's ledger looks every five seconds, and would lift a fence before it is seen.
    const lifting = vi.spyOn(Moves.prototype, 'liftAbandoned').mockResolvedValue(0);
    onTestFinished(() => lifting.mockRestore());
    const payer = await addFullPayer(fixture, 'user');
    const before = await describePayer(fixture.a, payer);
    const shards = ['a', 'b'] as const;
    for (const [index, [point, expected]] of POINTS.entries()) {
      const [from, to] = index % 2 === 0 ? shards : [shards[1], shards[0]];
      const onPoint = (at: MovePoint) => {
        if (at === point) throw new Stopped(point);
      };
      await expect(fixture.moves.move(payer, to, { onPoint, pageRows: 6 })).rejects.toThrow(point);
      const { step, homes } = await standing(idOf(payer));
      expect({ step, homes }, point).toEqual({
        step: expected.step,
        homes: expected.homes.map((home) => (home === 'from' ? from : to)),
      });
      await fixture.expectExact();
      await fixture.moves.resume({ pageRows: 6 });
      expect(await describePayer(fixture[to], payer), point).toEqual(before);
      expect(await standing(idOf(payer))).toEqual({ step: null, shard: to, homes: [to] });
      expect(await tablesNaming(fixture[from], payer), point).not.toContain('microdollar_usage');
    }
  });

  it('by its signal goes on when it is called again', async () => {
    const user = await fixture.a.addUser();
    await fixture.ledgers.a.recordUsage({ kilo_user_id: user, cost: 5 });
    const stop = new AbortController();
    const options = {
      signal: stop.signal,
      onPoint: (at: MovePoint) => {
        if (at === 'copied') stop.abort();
      },
    };
    const payer = { kilo_user_id: user };
    expect(await fixture.moves.move(payer, 'b', options)).toMatchObject({ finished: false });
    expect(await standing(user)).toEqual({ step: 'copying', shard: 'a', homes: ['a'] });
    expect(await fixture.moves.move(payer, 'b')).toMatchObject({ finished: true });
  });

  it('called off leaves the payer where it was, and nothing at the other', async () => {
    const payer = await addFullPayer(fixture, 'user');
    const before = await describePayer(fixture.a, payer);
    for (const point of ['page', 'fenced', 'written'] as const) {
      const onPoint = (at: MovePoint) => {
        if (at === point) throw new Stopped(point);
      };
      await expect(fixture.moves.move(payer, 'b', { onPoint })).rejects.toThrow(point);
      await fixture.moves.cancel(payer);
      expect(await describePayer(fixture.a, payer), point).toEqual(before);
      expect(await tablesNaming(fixture.b, payer), point).toEqual(['kilocode_users']);
      expect(await standing(idOf(payer))).toEqual({ step: null, shard: 'a', homes: ['a'] });
      await fixture.expectExact();
    }
  });
});

describe('a fence whose mover has died', () => {
  it('is lifted by whoever looks, but not while the mover lives', async () => {
    const user = await fixture.a.addUser();
    const payer = { kilo_user_id: user };
    await fixture.ledgers.a.recordUsage({ kilo_user_id: user, cost: 3 });
    let whileAlive: number | undefined;
    const onPoint = async (at: MovePoint) => {
      if (at === 'fenced') whileAlive = await fixture.moves.liftAbandoned();
      if (at === 'written') throw new Stopped(at);
    };
    await expect(fixture.moves.move(payer, 'b', { onPoint })).rejects.toThrow('written');
    expect(whileAlive).toBe(0);
    // Another who looks, as the fixture's ledger does every few seconds, may be before us.
    await fixture.moves.liftAbandoned();
    await expect.poll(() => standing(user)).toEqual({ step: 'copying', shard: 'a', homes: ['a'] });
    expect(await fixture.moves.liftAbandoned()).toBe(0);
    await fixture.sharded.recordUsage({ kilo_user_id: user, cost: 4 });
    await fixture.expectExact();
    await fixture.moves.resume();
    expect(await fixture.ledgers.b.getUserBalance(user)).toBe(7);
    await fixture.expectExact();
  });
});

describe('a transaction that stays open', () => {
  it('from before the fence: the fence is lifted, and writers go on', async () => {
    const user = await fixture.a.addUser();
    const payer = { kilo_user_id: user };
    await fixture.ledgers.a.recordUsage({ kilo_user_id: user, cost: 7 });
    await using sessions = await openSessions(fixture.a.database.url, 1);
    const [holder] = sessions.all;
    let opened = false;
    const homes: string[][] = [];
    const report = await fixture.moves.move(payer, 'b', {
      // Longer than anybody else's transaction is open on a busy machine.
      fenceMs: 1_000,
      onPoint: async (at) => {
        if (at !== 'fence_noted') return;
        homes.push((await standing(user)).homes);
        if (opened) return;
        opened = true;
        await holder?.run('begin');
        await holder?.run('select txid_current()');
      },
      onNotice: async () => {
        await holder?.run('rollback');
      },
    });
    expect(report).toMatchObject({ finished: true, liftedFences: 1 });
    expect(homes).toEqual([['a'], ['a']]);
    expect(await fixture.ledgers.b.getUserBalance(user)).toBe(7);
    await fixture.expectExact();
  });

  it('too long: the move is refused, naming who holds it, and the payer is used where it is', async () => {
    const user = await fixture.a.addUser();
    const payer = { kilo_user_id: user };
    await using sessions = await openSessions(fixture.a.database.url, 1);
    const [holder] = sessions.all;
    await holder?.run('begin');
    await holder?.run('select txid_current()');
    const error = await ledgerErrorOf(fixture.moves.move(payer, 'b', { waitMs: 1 }));
    expect(error).toMatchObject({ code: 'unavailable', retryable: true });
    expect(error.message).toContain('idle in transaction');
    expect(await standing(user)).toEqual({ step: 'copying', shard: 'a', homes: ['a'] });
    await holder?.run('rollback');
    expect(await fixture.moves.move(payer, 'b')).toMatchObject({ finished: true });
  });
});

describe('a move is refused, and nothing is changed', () => {
  const cases: [string, () => Promise<[object, string]>, object][] = [
    [
      'to where the payer is',
      async () => [{ kilo_user_id: await fixture.a.addUser() }, 'a'],
      { code: 'invalid_request', details: { field: 'to' } },
    ],
    [
      'to a shard that is not there',
      async () => [{ kilo_user_id: await fixture.a.addUser() }, 'c'],
      { code: 'invalid_request', details: { field: 'to' } },
    ],
    [
      'of a payer that is not there',
      async () => [{ kilo_user_id: 'nobody' }, 'b'],
      { code: 'unknown_user', details: { field: 'payer' } },
    ],
  ];
  it.each(cases)('%s', async (_, given, expected) => {
    const [payer, to] = await given();
    const before = await directory();
    const error = await ledgerErrorOf(fixture.moves.move(payer as { kilo_user_id: string }, to));
    expect(error).toMatchObject(expected);
    expect(await directory()).toEqual(before);
  });

  it('of a payer with a balance that is not derived yet', async () => {
    const user = await fixture.a.addUser();
    const set = 'update kilocode_users set opening_microdollars_used = $2 where id = $1';
    await fixture.a.rows(set, [user, null]);
    const error = await ledgerErrorOf(fixture.moves.move({ kilo_user_id: user }, 'b'));
    expect(error.message).toContain('not derived yet');
    await fixture.a.rows(set, [user, 0]);
  });

  it('while somebody else moves', async () => {
    const users = [await fixture.a.addUser(), await fixture.a.addUser()];
    const [first, second] = users.map((id) => ({ kilo_user_id: id }));
    let refused: unknown;
    await fixture.moves.move(first as { kilo_user_id: string }, 'b', {
      onPoint: async (at) => {
        if (at !== 'copied') return;
        refused = await ledgerErrorOf(fixture.moves.move(second as { kilo_user_id: string }, 'b'));
      },
    });
    expect(refused).toMatchObject({ code: 'unavailable', retryable: true });
    expect((await standing(users[1] ?? '')).homes).toEqual(['a']);
  });
});

describe('usage that was archived', () => {
  const archive = async (name: 'a' | 'b') => {
    const { url } = fixture[name].database;
    await fixture.ledgers[name].fold();
    const directory = await mkdtemp(join(tmpdir(), `microdollar-move-${name}-`));
    await verifyRollup({ url, rollup: DAILY_ROLLUP });
    const report = await archiveUsage({ url, until: daysAgo(9), directory });
    await rm(directory, { recursive: true });
    return report;
  };

  it('moves to a shard that has archived as much, and is reported as before', async () => {
    const [user, other] = [await fixture.a.addUser(), await fixture.b.addUser()];
    const payer = { kilo_user_id: user };
    const at = (days: number) => `${daysAgo(days)}T10:00:00Z`;
    for (const [index, days] of [12, 10, 10, 1].entries()) {
      await fixture.ledgers.a.recordUsage({
        kilo_user_id: user,
        cost: 100 + index,
        created_at: at(days),
        model: `m${index % 2}`,
      });
    }
    for (const days of [12, 10]) {
      await fixture.ledgers.b.recordUsage({ kilo_user_id: other, cost: 7, created_at: at(days) });
    }
    expect(await archive('a')).toMatchObject({ failures: [] });
    const reported = async (name: 'a' | 'b') => {
      const { daily, by_dimension, quarter_hourly, balance } = await describePayer(
        fixture[name],
        payer,
      );
      const report = await fixture.ledgers[name].getUsageReport({
        kilo_user_id: user,
        from: daysAgo(20),
        until: daysAgo(0),
        grain: 'day',
        by: ['model'],
      });
      return {
        daily,
        by_dimension,
        quarter_hourly,
        balance,
        rows: report.rows,
        total: report.total,
      };
    };
    const before = await reported('a');
    expect(before.balance).toEqual(['406']);
    const refused = await ledgerErrorOf(fixture.moves.move(payer, 'b'));
    expect(refused).toMatchObject({ code: 'invalid_request' });
    expect(refused.message).toContain('archive it as far first');
    expect(await standing(user)).toEqual({ step: null, shard: 'a', homes: ['a'] });

    expect(await archive('b')).toMatchObject({ failures: [] });
    await fixture.moves.move(payer, 'b');
    expect(await reported('b')).toEqual(before);
    await fixture.expectExact();
    await fixture.moves.move(payer, 'a');
    expect(await reported('a')).toEqual(before);
    await fixture.expectExact();
    expect(await tablesNaming(fixture.b, payer)).toEqual(['kilocode_users']);
  });
});

describe('what does not fit', () => {
  it('an id that the target has of somebody else: told, and the payer stays', async () => {
    const [user, other] = [await fixture.a.addUser(), await fixture.b.addUser()];
    const { id } = await fixture.ledgers.a.recordUsage({ kilo_user_id: user, cost: 5 });
    await fixture.ledgers.b.recordUsage({ id, kilo_user_id: other, cost: 5 });
    const payer = { kilo_user_id: user };
    const error = await ledgerErrorOf(fixture.moves.move(payer, 'b'));
    expect(error).toMatchObject({ code: 'idempotency_conflict', details: { id } });
    expect((await standing(user)).homes).toEqual(['a']);
    await fixture.moves.cancel(payer);
    expect(await standing(user)).toEqual({ step: null, shard: 'a', homes: ['a'] });
    expect(await tablesNaming(fixture.b, payer)).toEqual(['kilocode_users']);
    await fixture.expectExact();
  });

  it('counters that differ from usage: told, the fence lifted, and repaired it moves', async () => {
    const user = await fixture.a.addUser();
    const payer = { kilo_user_id: user };
    await fixture.ledgers.a.recordUsage({ kilo_user_id: user, cost: 5 });
    await fixture.ledgers.a.fold();
    const drift =
      'update kilocode_users set microdollars_used = microdollars_used + $2 where id = $1';
    await fixture.a.rows(drift, [user, 3]);
    const error = await ledgerErrorOf(fixture.moves.move(payer, 'b'));
    expect(error).toMatchObject({ code: 'unproven_window', details: { differs: ['balance'] } });
    expect(await standing(user)).toEqual({ step: 'copying', shard: 'a', homes: ['a'] });
    await fixture.a.rows(drift, [user, -3]);
    expect(await fixture.moves.move(payer, 'b')).toMatchObject({ finished: true });
    expect(await fixture.ledgers.b.getUserBalance(user)).toBe(5);
    await fixture.expectExact();
  });

  it('a row of another program, which came late and has no position, is not lost', async () => {
    const user = await fixture.a.addUser();
    await fixture.ledgers.a.recordUsage({ kilo_user_id: user, cost: 5 });
    const id = '00000000-0000-4000-8000-00000000f0e1';
    await fixture.moves.move({ kilo_user_id: user }, 'b', {
      onPoint: async (at) => {
        if (at !== 'switched') return;
        await fixture.a.rows(
          'insert into microdollar_usage (id, kilo_user_id, cost) values ($1, $2, 0)',
          [id, user],
        );
      },
    });
    expect(
      await fixture.b.rows('select cost::integer from microdollar_usage where id = $1', [id]),
    ).toEqual([{ cost: 0 }]);
  });
});

it('a payer of an adopted database, with rows that lack what new ones have, moves', async () => {
  const { a, b, ledgers, moves } = fixture;
  await a.rows(`alter table microdollar_usage alter has_error drop not null,
    alter input_tokens drop not null`);
  await a.rows(`alter table microdollar_usage_metadata alter kilo_user_id drop not null,
    alter created_at drop not null`);
  const payer = { kilo_user_id: await a.addUser() };
  for (const metadata of [{ feature: 'chat' }, {}, null]) {
    await ledgers.a.recordUsage({ ...payer, cost: 5, input_tokens: 3, metadata });
  }
  const ids = [idOf(payer)];
  await a.rows(
    `update microdollar_usage_metadata set kilo_user_id = null, created_at = null
     where id in (select id from microdollar_usage where kilo_user_id = $1)`,
    ids,
  );
  const changed = await a.rows(
    `update microdollar_usage set has_error = null, input_tokens = null
     where kilo_user_id = $1 returning id`,
    ids,
  );
  expect(await moves.move(payer, 'b', { pageRows: 4 })).toMatchObject({ finished: true });
  const moved = await b.rows(
    `select m.has_error, m.input_tokens, d.kilo_user_id = m.kilo_user_id as is_same_user,
       d.created_at = m.created_at as is_same_time
     from microdollar_usage as m
     left join microdollar_usage_metadata as d on d.id = m.id
     where m.kilo_user_id = $1`,
    ids,
  );
  expect(moved).toHaveLength(changed.length);
  expect(moved.filter((row) => row.is_same_user !== null)).not.toEqual([]);
  for (const row of moved) {
    expect(row).toMatchObject({ has_error: false, input_tokens: '0' });
    expect([null, true]).toContain(row.is_same_user);
    expect(row.is_same_time).toBe(row.is_same_user);
  }
  await fixture.expectExact();
});
