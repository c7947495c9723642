import { randomUUID } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { adjustUsage } from '../../src/accounts/adjust.js';
import { revokeApiKey } from '../../src/accounts/apiKeys.js';
import { LedgerError } from '../../src/errors.js';
import type { Ledger } from '../../src/ledgerTypes.js';
import { archiveUsage } from '../../src/rollup/archive/archive.js';
import { verifyRollup } from '../../src/rollup/verify.js';
import { DAILY_ROLLUP } from '../../src/schema/rollups.js';
import {
  addCredit,
  addMember,
  createKey,
  createOrganization,
  softDeleteUser,
} from '../../src/shards/accounts.js';
import { atRow } from '../../src/shards/atRow.js';
import { authenticateKey } from '../../src/shards/authenticateKey.js';
import { isOrganizationMember, listMemberships } from '../../src/shards/memberships.js';
import { migrateShards } from '../../src/shards/migrateShards.js';
import type { MoveOptions, MovePoint } from '../../src/shards/move/types.js';
import { createShardedLedger } from '../../src/shards/shardedLedger.js';
import { createTestDatabase } from '../support/database.js';
import { makeDataDir, newIntent, openGateway, until } from '../support/gateway.js';
import { lockWaits, openSessions, type Session } from '../support/sessions.js';
import { daysAgo } from './archiveHarness.js';
import { ledgerErrorOf } from './ledgerHarness.js';
import { createMoveFixture, type MoveFixture } from './shardMoveHarness.js';

/** What is done to a payer between two steps of its move, by a process that has not heard of it. */
let fixture: MoveFixture;
let stale: Ledger;

beforeAll(async () => {
  fixture = await createMoveFixture();
});
afterAll(() => fixture?.close());

/** A ledger that has read the directory, and looks again when it is refused. */
async function openStale(): Promise<Ledger> {
  return await createShardedLedger({
    shards: [
      { name: 'a', databaseUrl: fixture.a.database.url },
      { name: 'b', databaseUrl: fixture.b.database.url },
    ],
    poolSize: 3,
    backgroundFold: false,
  });
}

/** As a client that is told to send again: on a busy machine the fence may be up for longer than a call waits. */
async function patiently<T>(send: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await send();
    } catch (error) {
      if (!(error instanceof LedgerError) || !error.retryable) throw error;
    }
  }
}

/** Moves to b, with something done at a point of it, once. */
async function moveBeside(
  payer: { kilo_user_id: string } | { organization_id: string },
  point: MovePoint,
  beside: () => Promise<unknown>,
  options: MoveOptions = {},
) {
  let isDone = false;
  return await fixture.moves.move(payer, 'b', {
    ...options,
    onPoint: async (at) => {
      if (at !== point || isDone) return;
      isDone = true;
      await beside();
    },
  });
}

async function expectExact(): Promise<void> {
  await fixture.sharded.fold();
  await fixture.expectExact();
}

const count = async (shard: 'a' | 'b', text: string, values: unknown[]) =>
  (await fixture[shard].rows(text, values)).length;

describe('a process with an old directory', () => {
  it('extends, settles and releases what it held where it is now', async () => {
    stale = await openStale();
    try {
      const user = await fixture.a.addUser();
      await addCredit(stale, { kilo_user_id: user, usd: 1 });
      const hold = (amount: number) => stale.hold({ kilo_user_id: user, amount });
      const [settled, released, extended] = [
        await hold(1_000),
        await hold(2_000),
        await hold(3_000),
      ];
      await fixture.moves.move({ kilo_user_id: user }, 'b');
      expect(await stale.extend(extended.id, 4_000)).toMatchObject({ status: 'granted' });
      expect(await stale.release(released.id)).toMatchObject({ status: 'released' });
      expect(await stale.settle(settled.id, { kilo_user_id: user, cost: 900 })).toMatchObject({
        status: 'recorded',
        new_microdollars_used: 900,
      });
      expect(await stale.release(extended.id)).toMatchObject({ status: 'released' });
      await expectExact();
    } finally {
      await stale.close();
    }
  });

  it('is known to live where its holds have gone', async () => {
    stale = await openStale();
    let id = '';
    try {
      const user = await fixture.a.addUser();
      await addCredit(stale, { kilo_user_id: user, usd: 1 });
      ({ id } = await stale.hold({ kilo_user_id: user, amount: 1_000 }));
      await fixture.moves.move({ kilo_user_id: user }, 'b');
      await stale.keepBudgets();
      const owned = `select from usage_holds as h join gateway_instances as i on i.owner = h.owner
        where h.id = $1`;
      expect(await count('b', owned, [id])).toBe(1);
    } finally {
      await stale.close();
    }
    // At its end it gives back what it held, also there.
    const open = 'select from usage_holds where id = $1 and released_at is null';
    expect(await count('b', open, [id])).toBe(0);
  });

  it('releases first of all, when nothing else has told it', async () => {
    stale = await openStale();
    try {
      const user = await fixture.a.addUser();
      await addCredit(stale, { kilo_user_id: user, usd: 1 });
      const { id } = await stale.hold({ kilo_user_id: user, amount: 1_000 });
      await fixture.moves.move({ kilo_user_id: user }, 'b');
      expect(await stale.release(id)).toMatchObject({ status: 'released' });
      const open = 'select from usage_holds where id = $1 and released_at is null';
      expect([await count('a', open, [id]), await count('b', open, [id])]).toEqual([0, 0]);
      await expectExact();
    } finally {
      await stale.close();
    }
  });

  it('knows a replay, members and keys, and lets no stranger write', async () => {
    stale = await openStale();
    try {
      const user = await fixture.a.addUser();
      const stranger = await fixture.a.addUser();
      const { id: organization } = await createOrganization(stale, { name: 'o' });
      await addMember(stale, organization, user);
      const key = await createKey(stale, {
        kilo_user_id: user,
        organization_id: organization,
        scopes: ['gateway'],
      });
      const event = {
        kilo_user_id: user,
        organization_id: organization,
        cost: 7,
        id: randomUUID(),
      };
      await stale.recordUsage(event);
      expect(await authenticateKey(stale, key.key)).toMatchObject({ id: key.id });
      await fixture.moves.move({ organization_id: organization }, 'b');
      expect(await isOrganizationMember(stale, organization, stranger)).toBe(false);
      expect(await isOrganizationMember(stale, organization, user)).toBe(true);
      expect(await listMemberships(stale, user)).toEqual([
        { organization_id: organization, role: 'member' },
      ]);
      expect(await stale.recordUsage(event)).toMatchObject({ status: 'duplicate' });
      // Of a process that never saw it, and of one that did, as long as it believes what it knew.
      const young = await openStale();
      try {
        expect(await authenticateKey(young, key.key)).toMatchObject({ id: key.id });
      } finally {
        await young.close();
      }
      expect(await authenticateKey(stale, key.key)).toMatchObject({ id: key.id });
      await expectExact();
    } finally {
      await stale.close();
    }
  });
});

describe('beside the fence', () => {
  it('credit that waits for the payer’s row is given where the payer is then', async () => {
    const user = await fixture.a.addUser();
    await using sessions = await openSessions(fixture.a.database.url, 1);
    const [holder] = sessions.all;
    let crediting: Promise<unknown> | undefined;
    const id = randomUUID();
    await moveBeside({ kilo_user_id: user }, 'fence_noted', async () => {
      // It has the row before the fence comes; the credit and the fence wait behind it.
      await holder?.run('begin');
      await holder?.run(`select from kilocode_users where id = '${user}' for update`);
      crediting = patiently(() => addCredit(fixture.sharded, { kilo_user_id: user, usd: 3, id }));
      await holder?.run('commit');
    });
    await crediting;
    const rows = 'select from credit_transactions where id = $1';
    expect([await count('a', rows, [id]), await count('b', rows, [id])]).toEqual([0, 1]);
    expect(await addCredit(fixture.sharded, { kilo_user_id: user, usd: 3, id })).toMatchObject({
      status: 'duplicate',
    });
    await expectExact();
  });

  it.each(['fenced', 'written', 'cleaning'] as const)(
    'at %s a refund, a credit and a key are made once, where they count',
    async (point) => {
      const user = await fixture.a.addUser();
      const usage = await fixture.sharded.recordUsage({ kilo_user_id: user, cost: 5_000 });
      const credit = randomUUID();
      let pending: Promise<unknown[]> | undefined;
      await moveBeside({ kilo_user_id: user }, point, async () => {
        pending = Promise.all([
          patiently(() =>
            atRow(fixture.sharded, 'microdollar_usage', usage.id, (part) =>
              adjustUsage(part, usage.id, '-0.002'),
            ),
          ),
          patiently(() => addCredit(fixture.sharded, { kilo_user_id: user, usd: 1, id: credit })),
          patiently(() => createKey(fixture.sharded, { kilo_user_id: user, scopes: ['gateway'] })),
        ]);
        // Those that are refused meanwhile wait; the others have answered.
        pending.catch(() => {});
      });
      const [adjusted, , key] = (await pending) as [object, object, { id: string; key: string }];
      expect(adjusted).toMatchObject({ status: 'recorded', kilo_user_id: user });
      expect(await authenticateKey(fixture.sharded, key.key)).toMatchObject({ id: key.id });
      expect(await fixture.sharded.getUserBalance(user)).toBe(3_000);
      const rows = [
        ['select from microdollar_usage where kilo_user_id = $1', user, 2],
        ['select from credit_transactions where id = $1', credit, 1],
        ['select from api_keys where id = $1', key.id, 1],
      ] as const;
      for (const [text, value, expected] of rows) {
        expect([await count('a', text, [value]), await count('b', text, [value])]).toEqual([
          0,
          expected,
        ]);
      }
      await expectExact();
    },
  );

  it('a hold is taken before it or after it, and settled once', async () => {
    const user = await fixture.a.addUser();
    await addCredit(fixture.sharded, { kilo_user_id: user, usd: 1 });
    const before = await fixture.sharded.hold({ kilo_user_id: user, amount: 600_000 });
    const id = randomUUID();
    let pending: Promise<{ status: string }[]> | undefined;
    await moveBeside({ kilo_user_id: user }, 'fenced', async () => {
      pending = Promise.all([
        patiently(() => fixture.sharded.settle(before.id, { kilo_user_id: user, cost: 100_000 })),
        patiently(() => fixture.sharded.hold({ id, kilo_user_id: user, amount: 950_000 })),
      ]);
      pending.catch(() => {});
    });
    const [settled, held] = await (pending as Promise<{ status: string }[]>);
    expect([settled?.status, held?.status]).toEqual(['recorded', 'refused']);
    expect(await fixture.sharded.hold({ kilo_user_id: user, amount: 900_000 })).toMatchObject({
      status: 'granted',
    });
    await expectExact();
  });
});

describe('a user who is deleted while an organization of theirs moves', () => {
  const personal = `select from microdollar_usage_metadata as m
    join microdollar_usage as u on u.id = m.id
    where u.kilo_user_id = $1 and (m.session_id is not null or m.machine_id is not null)`;
  const undeleted = 'select from kilocode_users where id = $1 and deleted_at is null';

  async function newMember() {
    const user = await fixture.a.addUser();
    const { id: organization } = await createOrganization(fixture.sharded, { name: 'o' });
    await addMember(fixture.sharded, organization, user);
    for (const cost of [0, 5, 6]) {
      await fixture.sharded.recordUsage({
        kilo_user_id: user,
        organization_id: organization,
        cost,
        metadata: { session_id: 'secret', machine_id: 'm' },
      });
    }
    return { user, organization };
  }

  it.each(['page', 'caught_up', 'read', 'cleaning'] as const)(
    'at %s is deleted on both shards, with what had been copied',
    async (point) => {
      const { user, organization } = await newMember();
      let deleting: Promise<unknown> | undefined;
      await moveBeside(
        { organization_id: organization },
        point,
        async () => {
          deleting = softDeleteUser(fixture.sharded, user);
          // Within the hand-over it waits for the move itself.
          if (point !== 'read') await deleting;
          deleting.catch(() => {});
        },
        { pageRows: 1 },
      );
      await deleting;
      for (const shard of ['a', 'b'] as const) {
        expect([shard, await count(shard, personal, [user])]).toEqual([shard, 0]);
        expect([shard, await count(shard, undeleted, [user])]).toEqual([shard, 0]);
      }
      expect(await listMemberships(fixture.sharded, user)).toEqual([]);
      await expectExact();
    },
  );

  it('is so too where a page was read before, and is written after', async () => {
    const { user, organization } = await newMember();
    await using sessions = await openSessions(fixture.b.database.url, 1);
    const [holder] = sessions.all as [Session];
    let deleting: Promise<unknown> | undefined;
    await moveBeside({ organization_id: organization }, 'noted', async () => {
      // The page waits at b for a row that another one makes of the user, and then does not.
      await holder.run('begin');
      await holder.run('insert into kilocode_users (id, is_elsewhere) values ($1, true)', [user]);
      deleting = (async () => {
        while (!(await waitsFor(holder))) await sleep(5);
        await softDeleteUser(fixture.sharded, user);
        await holder.run('rollback');
      })();
    });
    await deleting;
    for (const shard of ['a', 'b'] as const) {
      expect([shard, await count(shard, personal, [user])]).toEqual([shard, 0]);
      expect([shard, await count(shard, undeleted, [user])]).toEqual([shard, 0]);
    }
    await expectExact();
  });

  async function waitsFor({ pid }: Session): Promise<boolean> {
    const waits = await lockWaits(fixture.b.database.pool);
    return waits.some(({ blockedBy }) => blockedBy.includes(pid));
  }
});

describe('a gateway beside a move', () => {
  it('settles what it has begun where the payer has gone, also after its end', async () => {
    const place = makeDataDir();
    const open = async () => {
      const ledger = await openStale();
      return await openGateway(fixture.a.database.url, place.dataDir, { ledger });
    };
    const user = await fixture.a.addUser();
    const [settled, lost] = [newIntent(user), newIntent(user)];
    try {
      const gateway = await open();
      try {
        for (const intent of [settled, lost]) await gateway.sink.begin(intent);
        await fixture.moves.move({ kilo_user_id: user }, 'b');
        const usage = { kilo_user_id: user, id: settled.id, cost: 70 };
        expect(await gateway.sink.settle(usage)).toMatchObject({ durable: 'database' });
      } finally {
        await gateway.stop();
      }
      const next = await open();
      await next.maintain();
      await next.stop();
    } finally {
      place.remove();
    }
    const intents = 'select from gateway_intents where kilo_user_id = $1';
    expect([await count('a', intents, [user]), await count('b', intents, [user])]).toEqual([0, 0]);
    const usage = 'select from microdollar_usage where id = any($1)';
    const ids = [[settled.id, lost.id]];
    expect([await count('a', usage, ids), await count('b', usage, ids)]).toEqual([0, 2]);
    await expectExact();
  });
});

describe('an archive beside a move', () => {
  const archive = async (name: 'a' | 'b', days: number) => {
    const { url } = fixture[name].database;
    await fixture.ledgers[name].fold();
    const directory = await mkdtemp(join(tmpdir(), `microdollar-beside-${name}-`));
    await verifyRollup({ url, rollup: DAILY_ROLLUP });
    const report = await archiveUsage({ url, until: daysAgo(days), directory });
    await rm(directory, { recursive: true });
    expect(report.failures).toEqual([]);
  };

  /** With usage that will be archived; on b too, so that its archive has something to do. */
  async function newOldPayer(horizon: number) {
    const [user, other] = [await fixture.a.addUser(), await fixture.b.addUser()];
    for (const days of [horizon + 3, horizon + 1, 1]) {
      const created_at = `${daysAgo(days)}T10:00:00Z`;
      await fixture.ledgers.a.recordUsage({ kilo_user_id: user, cost: 10, created_at });
      await fixture.ledgers.b.recordUsage({ kilo_user_id: other, cost: 7, created_at });
    }
    await untilNothingIsOlder();
    return { kilo_user_id: user };
  }

  /** Pages leave what is younger than some open transaction, also one of another test's on the server. */
  async function untilNothingIsOlder(): Promise<void> {
    const { pool } = fixture.ledgers.a;
    const { rows } = await pool.query('select txid_current()::text as id');
    await until(async () => {
      const { rows: now } = await pool.query(
        'select txid_snapshot_xmin(txid_current_snapshot()) > $1::bigint as is_over',
        [rows[0].id],
      );
      return now[0].is_over;
    });
  }

  async function killAt(payer: { kilo_user_id: string }, point: MovePoint): Promise<void> {
    const killed = moveBeside(payer, point, async () => {
      throw new Error('killed');
    });
    await expect(killed).rejects.toThrow();
  }

  async function expectWhole(payer: { kilo_user_id: string }): Promise<void> {
    expect(await fixture.moves.list()).toEqual([]);
    expect(await fixture.sharded.getUserBalance(payer.kilo_user_id)).toBe(30);
    expect(await fixture.sharded.recordUsage({ ...payer, cost: 1 })).toMatchObject({
      new_microdollars_used: 31,
    });
    await expectExact();
  }

  it.each([
    [['a', 'b'], 50, true],
    [['b', 'a'], 40, true],
    [['a'], 30, false],
    [['b'], 20, false],
  ] as [('a' | 'b')[], number, boolean][])(
    'of %s while it copies adds nothing and takes nothing away',
    async (archived, horizon, moves) => {
      const payer = await newOldPayer(horizon);
      await killAt(payer, 'copied');
      for (const name of archived) await archive(name, horizon);
      const refusal = await fixture.moves.resume().then(
        () => null,
        (error: LedgerError) => error.code,
      );
      // Told, and the payer stays; what was copied is taken away again.
      if (refusal !== null) await fixture.moves.cancel(payer);
      expect([refusal === null, refusal]).toEqual([moves, moves ? null : 'unproven_window']);
      await expectWhole(payer);
    },
  );

  it('of where it has gone does not bring back what is cleaned away', async () => {
    const payer = await newOldPayer(9);
    await killAt(payer, 'cleaning');
    await archive('b', 9);
    await fixture.moves.resume();
    await expectWhole(payer);
  });
});

describe('a mover that dies before its switch', () => {
  it('loses no change by an id: it is made where the payer stays', async () => {
    const user = await fixture.a.addUser();
    const key = await createKey(fixture.sharded, { kilo_user_id: user, scopes: ['gateway'] });
    const killed = moveBeside({ kilo_user_id: user }, 'written', async () => {
      throw new Error('killed');
    });
    await expect(killed).rejects.toThrow();
    // Both shards have the key now, and b would take the change; the fence is lifted in some seconds.
    const revoke = () =>
      atRow(fixture.sharded, 'api_keys', key.id, ({ pool }) => revokeApiKey(pool, key.id));
    await until(async () => {
      const revoked = await revoke().catch((error: LedgerError) => {
        expect(error).toMatchObject({ code: 'unavailable' });
        return null;
      });
      return revoked !== null;
    });
    await fixture.moves.resume();
    expect(await authenticateKey(fixture.sharded, key.key)).toBeNull();
    const usable = 'select from api_keys where id = $1 and revoked_at is null';
    expect([await count('a', usable, [key.id]), await count('b', usable, [key.id])]).toEqual([
      0, 0,
    ]);
    await expectExact();
  });
});

describe('shards add beside a move', () => {
  it('joins, moves nothing before the other has ended, and places nobody twice', async () => {
    const third = await createTestDatabase();
    const shards = [
      { name: 'a', databaseUrl: fixture.a.database.url },
      { name: 'b', databaseUrl: fixture.b.database.url },
      { name: 'c', databaseUrl: third.url },
    ];
    const user = await fixture.a.addUser();
    try {
      await fixture.sharded.recordUsage({ kilo_user_id: user, cost: 3 });
      const moved = await moveBeside({ kilo_user_id: user }, 'fenced', async () => {
        await migrateShards(shards);
        const refused = fixture.moves.fill('b');
        expect(await ledgerErrorOf(refused)).toMatchObject({
          code: 'unavailable',
          details: { is_moving: true },
        });
      });
      expect(moved.finished).toBe(true);
      expect(await fixture.sharded.recordUsage({ kilo_user_id: user, cost: 4 })).toMatchObject({
        new_microdollars_used: 7,
      });
      const young = await createShardedLedger({ shards, poolSize: 2, backgroundFold: false });
      try {
        expect(await young.getUserBalance(user)).toBe(7);
        expect((await young.of({ kilo_user_id: user })).databaseUrl).toBe(fixture.b.database.url);
      } finally {
        await young.close();
      }
      await expectExact();
    } finally {
      await fixture.a.rows(`delete from microdollar_shards where name = 'c'`);
      await third.drop();
    }
  });
});
