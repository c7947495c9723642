import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Ledger } from '../../src/ledgerTypes.js';
import { addCredit, createUser, softDeleteUser } from '../../src/shards/accounts.js';
import { type Finder, introduceUser } from '../../src/shards/introduce.js';
import { LOCK_MOVES } from '../../src/shards/move/moves.sql.js';
import { bucketOf, keyOfPayer } from '../../src/shards/placement.js';
import { openSessions } from '../support/sessions.js';
import { ledgerErrorOf } from './ledgerHarness.js';
import { createShardFixture, type ShardFixture } from './shardHarness.js';

/** Payers that leave by hand, a step at a time, while others write, read and ask for them. */
let fixture: ShardFixture;
let ledger: Ledger;
/** Has read the directory, and does not know what the test does to it. */
let stale: Ledger;
let user: string;
let neighbour: string;

beforeAll(async () => {
  fixture = await createShardFixture(['home', 'b', 'c']);
  ledger = fixture.ledger;
});

afterAll(() => fixture.close());

beforeEach(async () => {
  stale = await fixture.open();
  user = await fixture.addUserOn('b');
  neighbour = await fixture.addUserOn('b');
});

const write = (by: Ledger, cost = 1) => by.recordUsage({ kilo_user_id: user, cost });

/** Of one payer, or with `bucket` of all of its bucket. */
async function direct(set: string, bucket: number | null = null): Promise<void> {
  const [scope, id] = bucket === null ? ['user', user] : [null, null];
  await fixture.rows(
    'home',
    'delete from microdollar_shard_directory where payer_id = $1 or bucket = $2',
    [id, bucket],
  );
  await fixture.rows(
    'home',
    `insert into microdollar_shard_directory (bucket, payer_scope, payer_id, shard, moving_to, step)
     select $1, $2, $3, ${set}`,
    [bucket, scope, id],
  );
}

const fence = (isElsewhere: boolean) =>
  fixture.rows('b', 'update kilocode_users set is_elsewhere = $2 where id = $1', [
    user,
    isElsewhere,
  ]);
/** As a mover would have copied it: with what was used before. */
const arrive = (used = 0) =>
  fixture.rows(
    'c',
    `insert into kilocode_users (id, microdollars_used, opening_microdollars_used) values ($1, $2, $2)`,
    [user, used],
  );
const leave = () => fixture.rows('b', 'delete from kilocode_users where id = $1', [user]);

describe('a payer on the way to another shard', () => {
  it('is waited for, and nobody else', async () => {
    await direct(`'b', 'c', 'fenced'`);
    await fence(true);
    const writing = write(ledger, 5);
    const crediting = addCredit(ledger, { kilo_user_id: user, usd: 1 });
    const reading = ledger.getUserBalance(user);
    await ledger.recordUsage({ kilo_user_id: neighbour, cost: 1 });
    await arrive();
    await direct(`'c', null, null`);
    expect(await writing).toMatchObject({ status: 'recorded', new_microdollars_used: 5 });
    expect(await crediting).toMatchObject({ status: 'recorded' });
    expect([0, 5]).toContain(await reading);
    await leave();
    expect(
      await fixture.rows('c', 'select from microdollar_usage where kilo_user_id = $1', [user]),
    ).toHaveLength(1);
    await fixture.expectExact();
  });

  it('for too long is unavailable, and can be sent again', async () => {
    // As a mover that lives: the fence of one that died is lifted.
    await using sessions = await openSessions(fixture.databases.get('home')?.url ?? '', 1);
    await sessions.all[0]?.run(LOCK_MOVES.text);
    await direct(`'b', 'c', 'fenced'`);
    await fence(true);
    const error = await ledgerErrorOf(write(ledger));
    expect(error).toMatchObject({ code: 'unavailable', retryable: true });
    expect(error.message).toMatch(/on the way/);
    expect(await ledgerErrorOf(ledger.getUserBalance(user))).toMatchObject({ code: 'unavailable' });
    // It stays after all.
    await fence(false);
    await fixture.rows('home', 'delete from microdollar_shard_directory where payer_id = $1', [
      user,
    ]);
    expect(await write(ledger)).toMatchObject({ status: 'recorded' });
    await fixture.expectExact();
  });

  it('is found by a process that has not heard of it, whether or not it left something behind', async () => {
    await write(stale, 7);
    await fixture.ledger.fold();
    await fence(true);
    await arrive(7);
    await direct(`'c', null, null`);
    // The old row still says 7, and what is read there would be old for ever.
    await fixture.rows(
      'c',
      'update kilocode_users set microdollars_used = 8, opening_microdollars_used = 8 where id = $1',
      [user],
    );
    expect(await stale.getUserBalance(user)).toBe(8);
    await fixture.rows('b', 'delete from microdollar_usage where kilo_user_id = $1', [user]);
    await fixture.rows('b', 'delete from microdollar_usage_daily where kilo_user_id = $1', [user]);
    await fixture.rows(
      'b',
      'delete from microdollar_usage_quarter_hourly where kilo_user_id = $1',
      [user],
    );
    await fixture.rows(
      'b',
      'delete from microdollar_usage_daily_by_dimension where kilo_user_id = $1',
      [user],
    );
    await leave();
    const other = await fixture.open();
    expect(await write(stale, 2)).toMatchObject({ new_microdollars_used: 10 });
    expect(await other.getUserBalance(user)).toBe(10);
    expect((await other.of({ kilo_user_id: user })).databaseUrl).toBe(
      fixture.databases.get('c')?.url,
    );
    const range = { from: '2020-01-01', until: '2999-01-01' };
    expect(await stale.getDailyUsage({ kilo_user_id: user, ...range })).toMatchObject([
      { total_cost_microdollars: 2 },
    ]);
  });

  it('to a shard that this process does not know is unavailable, naming it', async () => {
    await fence(true);
    await direct(`'z', null, null`);
    expect(await ledgerErrorOf(write(stale))).toMatchObject({
      code: 'unavailable',
      details: { shard: 'z' },
    });
    await fence(false);
    await fixture.rows('home', 'delete from microdollar_shard_directory where payer_id = $1', [
      user,
    ]);
  });
});

describe('a bucket that has left', () => {
  it('gets its new payers where it is, also by a process that has not heard of it', async () => {
    const id = fixture.userIdOn('b');
    const bucket = bucketOf(keyOfPayer({ kilo_user_id: id }));
    await fixture.rows(
      'b',
      `insert into microdollar_shard_directory (bucket, shard) values ($1, 'c')`,
      [bucket],
    );
    await direct(`'c', null, null`, bucket);
    await createUser(stale, { id });
    expect(
      await fixture.rows('c', 'select is_elsewhere from kilocode_users where id = $1', [id]),
    ).toEqual([{ is_elsewhere: false }]);
    expect(await fixture.rows('b', 'select from kilocode_users where id = $1', [id])).toEqual([]);
    expect(await ledger.recordUsage({ kilo_user_id: id, cost: 1 })).toMatchObject({
      status: 'recorded',
    });
    // One payer of it that was taken elsewhere again.
    await fixture.rows('home', `delete from microdollar_shard_directory where bucket = $1`, [
      bucket,
    ]);
    await fixture.rows('b', `delete from microdollar_shard_directory where bucket = $1`, [bucket]);
  });
});

describe('a user who is made known on another shard', () => {
  const deletedOn = async (shard: string) =>
    (
      await fixture.rows<{ is_deleted: boolean }>(
        shard,
        'select deleted_at is not null as is_deleted from kilocode_users where id = $1',
        [user],
      )
    )[0]?.is_deleted;

  it('while they are deleted is deleted there too, whoever comes first', async () => {
    const [onC] = ledger.parts.filter(({ name }) => name === 'c');
    let looks = 0;
    const deletesBetween: Finder = {
      at: async (payer, run) => {
        const answer = await ledger.at(payer, run);
        // After the first look, and before the row is written.
        if (looks++ === 0) await softDeleteUser(ledger, user);
        return answer;
      },
    };
    await introduceUser(deletesBetween, user, onC?.ledger as Ledger);
    expect(looks).toBe(2);
    expect(await deletedOn('c')).toBe(true);
    await introduceUser(ledger, user, ledger.parts[0]?.ledger as Ledger);
    expect(await deletedOn('home')).toBe(true);
  });

  it('is so for all that they send at that moment', async () => {
    const organization = await fixture.addOrganizationOn('c');
    const alone = await fixture.open({ groupCommit: false });
    for (let round = 0; round < 5; round++) {
      const users = await Promise.all([0, 1, 2].map(() => fixture.addUserOn('b')));
      const events = [...users, ...users, ...users].map((kilo_user_id) => ({
        kilo_user_id,
        organization_id: organization,
        cost: 1,
      }));
      const results = await alone.recordUsageBatch(events);
      expect(results.map(({ status }) => status)).toEqual(events.map(() => 'recorded'));
    }
  });

  it('again changes nothing, and nobody who is nowhere is', async () => {
    const [onC] = ledger.parts.filter(({ name }) => name === 'c');
    await introduceUser(ledger, user, onC?.ledger as Ledger);
    await introduceUser(ledger, user, onC?.ledger as Ledger);
    expect(await deletedOn('c')).toBe(false);
    const nobody = introduceUser(ledger, 'nobody', onC?.ledger as Ledger);
    expect(await ledgerErrorOf(nobody)).toMatchObject({ code: 'unknown_user' });
    // On their own shard they stay who they are.
    await introduceUser(ledger, user, await ledger.of({ kilo_user_id: user }));
    expect(await ledger.recordUsage({ kilo_user_id: user, cost: 1 })).toMatchObject({
      status: 'recorded',
    });
  });
});
