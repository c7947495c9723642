import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Settler } from '../../src/counter/settler.js';
import { type Query, queryOnPool } from '../../src/db/query.js';
import { USER_SCOPE } from '../../src/schema/unsettled.js';
import { openSessions } from '../support/sessions.js';
import { createLedgerFixture, type LedgerFixture } from './ledgerHarness.js';

let fixture: LedgerFixture;

beforeAll(async () => {
  fixture = await createLedgerFixture();
});
afterAll(() => fixture.close());

/** Rows of a payer that nobody can settle while its day is held. */
async function appendMany(user: string, rows: number): Promise<void> {
  await fixture.rows(
    `insert into microdollar_usage (id, kilo_user_id, cost, position)
     select gen_random_uuid(), $1, 1, microdollar_position() from generate_series(1, $2::integer)`,
    [user, rows],
  );
}

describe('a payer with a long tail that cannot be settled', () => {
  it('keeps nobody else waiting for a balance while its own is read', async () => {
    await using sessions = await openSessions(fixture.database.url, 1);
    const [holder] = sessions.all;
    const long = await fixture.addUser(`long ${randomUUID()}`);
    const other = await fixture.addUser();
    await fixture.rows('select microdollar_open_daily($1, null, (now() at time zone $2)::date)', [
      long,
      'UTC',
    ]);
    await appendMany(long, 500);
    await holder?.run('begin');
    await holder?.run('select from microdollar_usage_daily where kilo_user_id = $1 for update', [
      long,
    ]);

    const onPool = queryOnPool(fixture.database.pool, false);
    let isSlow = false;
    let letGo = () => {};
    const gate = new Promise<void>((resolve) => {
      letGo = resolve;
    });
    let asked = () => {};
    const isAsked = new Promise<void>((resolve) => {
      asked = resolve;
    });
    const query: Query = async (statement) => {
      if (isSlow && String(statement.values[0]).includes(long)) {
        asked();
        await gate;
      }
      return await onPool(statement);
    };
    const settler = new Settler({ query });
    settler.appended({ kilo_user_id: long, organization_id: null });
    // The first look learns how long it is.
    expect(await settler.balance({ kilo_user_id: long, organization_id: null })).toBe(500n);
    isSlow = true;
    const waiting = settler.balance({ kilo_user_id: long, organization_id: null });
    await isAsked;
    expect(await settler.balance({ kilo_user_id: other, organization_id: null })).toBe(0n);
    letGo();
    expect(await waiting).toBe(500n);

    await holder?.run('rollback');
    await settler.settle(USER_SCOPE, [long]);
    await fixture.expectExact();
  });
});

describe('a payer whose fold fails', () => {
  it('is named and left, and its neighbours are settled', async () => {
    const bad = await fixture.addUser(`bad ${randomUUID()}`);
    const good = [await fixture.addUser(), await fixture.addUser()];
    for (const user of [bad, ...good]) await appendMany(user, 2);
    await fixture.rows(
      `create function fail_for_bad() returns trigger language plpgsql as $$
       begin
         if new.id like 'bad %' then raise exception 'no' using errcode = '22003'; end if;
         return new;
       end $$`,
    );
    await fixture.rows(
      `create trigger fail_for_bad before update on kilocode_users
       for each row execute function fail_for_bad()`,
    );
    const failed: string[] = [];
    const settler = new Settler({
      query: queryOnPool(fixture.database.pool, false),
      onError: (_error, payer) => failed.push(payer),
    });
    const report = await settler.settle(USER_SCOPE, [bad, ...good]);
    expect(report).toMatchObject({ settled: 4 });
    expect(failed).toEqual([`user:${bad}`]);
    await fixture.rows('drop trigger fail_for_bad on kilocode_users');
    await fixture.expectExact();
  });
});
