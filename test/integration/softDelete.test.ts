import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, it, onTestFinished, vi } from 'vitest';
import { createApiKey, renameApiKey } from '../../src/accounts/apiKeys.js';
import { addOrganizationMember } from '../../src/accounts/organizations.js';
import { finishScrubs, softDeleteUser } from '../../src/accounts/softDelete.js';
import { createLedger } from '../../src/ledger.js';
import type { Ledger } from '../../src/ledgerTypes.js';
import { insertUsageAndMetadataWithBalanceUpdate } from '../../src/record/onExecutor.js';
import type { UsageMetadata } from '../../src/record/types.js';
import { openPool } from '../support/openPool.js';
import { SEED_UPSERT } from '../support/seedUpsert.sql.js';
import { lockWaits, openSessions, type Session, untilBlocked } from '../support/sessions.js';
import { createLedgerFixture, type LedgerFixture, ledgerErrorOf } from './ledgerHarness.js';

const AT = '2025-05-06T07:08:09Z';
const PERSONAL: UsageMetadata = {
  http_user_agent: 'agent of one person',
  http_ip: '192.0.2.1',
  vercel_ip_city: 'Springfield',
  vercel_ip_country: 'XX',
  vercel_ip_latitude: 1.5,
  vercel_ip_longitude: 2.5,
  ja4_digest: 'ja4',
  machine_id: 'machine',
  session_id: 'session',
  user_prompt_prefix: 'dear diary',
  system_prompt_prefix: 'you are',
};
const KEPT: UsageMetadata = { feature: 'chat', status_code: 200, latency: 7 };
/** Metadata columns as they are stored; null in all of these = scrubbed. */
const PERSONAL_COLUMNS = [...Object.keys(PERSONAL).map(storedName), 'lookup_values'];

function storedName(field: string): string {
  const isLookup = /^(http|vercel_ip_c|ja4|system_prompt_prefix)/.test(field);
  return isLookup ? `${field}_id` : field;
}

let fixture: LedgerFixture;
let ledger: Ledger;

beforeAll(async () => {
  fixture = await createLedgerFixture();
  ledger = await fixture.open();
});

afterAll(() => fixture.close());

const pool = () => fixture.database.pool;

/** Metadata rows of the user in which any personal column is set. */
async function personalRows(user: string, from = fixture): Promise<number> {
  const [row] = await from.rows<{ n: number }>(
    `select count(*)::integer as n from microdollar_usage_metadata
     where kilo_user_id = $1 and num_nonnulls(${PERSONAL_COLUMNS.join(', ')}) > 0`,
    [user],
  );
  return row?.n ?? -1;
}

const isUnfinished = async (user: string, on = fixture): Promise<boolean> =>
  (
    await on.rows('select from kilocode_users where id = $1 and scrub_after_xid is not null', [
      user,
    ])
  ).length > 0;

/** As the server's background does, until it is final. */
async function finishAll(user: string, on = fixture): Promise<void> {
  do {
    await finishScrubs(on.database.pool);
    await sleep(5);
  } while (await isUnfinished(user, on));
}

/** With one event, where no ledger is open whose background would scrub in place of the call. */
async function addUserAlone(): Promise<{ own: LedgerFixture; user: string }> {
  const own = await createLedgerFixture();
  onTestFinished(() => own.close());
  const user = await own.addUser();
  const core = { kilo_user_id: user, cost: 1 };
  await insertUsageAndMetadataWithBalanceUpdate(own.database.pool, core, PERSONAL);
  return { own, user };
}

describe('soft-deleting a user', () => {
  it('scrubs the person, revokes the keys, and keeps usage, rollup and balance', async () => {
    const own = await createLedgerFixture();
    onTestFinished(() => own.close());
    const { pool, url: databaseUrl } = own.database;
    const writing = await createLedger({ databaseUrl, backgroundFold: false });
    const user = await own.addUser();
    const neighbour = await own.addUser();
    const organization = await own.addOrganization();
    await own.rows('update kilocode_users set email = $2, name = $2 where id = $1', [
      user,
      'a person',
    ]);
    await addOrganizationMember(pool, organization, user);
    await createApiKey(pool, { kilo_user_id: user, name: 'of Ada', scopes: ['usage:read'] });
    const metadata = { ...PERSONAL, ...KEPT };
    const event = { kilo_user_id: user, cost: 70, created_at: AT, metadata };
    const { id } = await writing.recordUsage(event);
    await writing.recordUsage({ ...event, organization_id: organization });
    await writing.recordExaUsage({ kilo_user_id: user, cost: 5, path: '/search', created_at: AT });
    await writing.recordUsage({ ...event, kilo_user_id: neighbour });
    const billing = () =>
      own.rows(
        `select to_jsonb(u) as row from microdollar_usage as u where kilo_user_id = $1
         union all select to_jsonb(d) from microdollar_usage_daily as d where kilo_user_id = $1
         union all select to_jsonb(x) from exa_usage_log as x where kilo_user_id = $1
         union all select to_jsonb(m) from exa_monthly_usage as m where kilo_user_id = $1
         union all select to_jsonb(b) from kilocode_user_balances as b where kilo_user_id = $1`,
        [user],
      );
    const before = await billing();
    expect(before).toHaveLength(7);

    // Its background would scrub in place of the call.
    await writing.close();
    expect((await softDeleteUser(pool, user)).scrubbedEvents).toBe(2);

    expect(await billing()).toEqual(before);
    expect(await personalRows(user, own)).toBe(0);
    expect(await personalRows(neighbour, own)).toBe(1);
    const [kept] = await own.rows(
      `select feature, status_code, latency from microdollar_usage_metadata
       join feature using (feature_id) where id = $1`,
      [id],
    );
    expect(kept).toEqual(KEPT);
    expect(
      await own.rows(
        `select email, name, deleted_at is not null as is_deleted,
           (select count(*)::integer from organization_memberships
           where kilo_user_id = u.id) as memberships,
           (select bool_and(revoked_at is not null and name is null) from api_keys
           where kilo_user_id = u.id) as is_revoked
         from kilocode_users as u where id = $1`,
        [user],
      ),
    ).toEqual([{ email: null, name: null, is_deleted: true, memberships: 0, is_revoked: true }]);
    await own.expectExact();
  });

  it('takes no name for a key afterwards, of who was let in a moment before', async () => {
    const { own, user } = await addUserAlone();
    const { pool } = own.database;
    const { id } = await createApiKey(pool, { kilo_user_id: user, scopes: ['usage:read'] });
    expect((await softDeleteUser(pool, user)).isFinal).toBe(true);
    await expect(renameApiKey(pool, id, 'of Ada')).rejects.toMatchObject({ code: 'not_found' });
    expect(await own.rows('select name from api_keys where id = $1', [id])).toEqual([
      { name: null },
    ]);
  });

  it('again is harmless', async () => {
    const { own, user } = await addUserAlone();
    const { pool } = own.database;
    const deletedAt = 'select deleted_at::text from kilocode_users where id = $1';
    expect((await softDeleteUser(pool, user)).scrubbedEvents).toBe(1);
    const first = await own.rows(deletedAt, [user]);
    expect((await softDeleteUser(pool, user)).scrubbedEvents).toBe(0);
    expect(await own.rows(deletedAt, [user])).toEqual(first);
    await finishAll(user, own);
    await softDeleteUser(pool, user);
    await finishAll(user, own);
    expect(await personalRows(user, own)).toBe(0);
  });

  it('that does not exist is an unknown_user', async () => {
    const error = await ledgerErrorOf(softDeleteUser(pool(), 'nobody'));
    expect(error).toMatchObject({ code: 'unknown_user', details: { field: 'id' } });
  });

  it('lets later writes be billed, without their metadata, on every way in', async () => {
    const user = await fixture.addUser();
    await softDeleteUser(pool(), user);
    const appending = await fixture.open({ appendAlways: true, groupCommit: false });
    const event = () => ({ kilo_user_id: user, cost: 10, metadata: PERSONAL });
    const { metadata, ...core } = event();
    await ledger.recordUsage(event());
    await ledger.recordUsageBatch([event(), event()]);
    await appending.recordUsage(event());
    await insertUsageAndMetadataWithBalanceUpdate(pool(), core, metadata);
    const client = await pool().connect();
    await client.query('begin');
    await insertUsageAndMetadataWithBalanceUpdate(client, core, metadata);
    await client.query('commit');
    client.release();
    expect(await ledger.getUserBalance(user)).toBe(60);
    const rows = 'select id from microdollar_usage_metadata where kilo_user_id = $1';
    expect(await fixture.rows(rows, [user])).toEqual([]);
    await fixture.expectExact();
  });
});

describe('writes in flight while the user is deleted', () => {
  it('are scrubbed once their transaction ends', async () => {
    const user = await fixture.addUser();
    const client = await pool().connect();
    await client.query('begin');
    const core = { kilo_user_id: user, cost: 10 };
    await insertUsageAndMetadataWithBalanceUpdate(client, core, PERSONAL);
    const deleting = softDeleteUser(pool(), user);
    const mark = 'select from kilocode_users where id = $1 and deleted_at is not null';
    while ((await fixture.rows(mark, [user])).length === 0) await sleep(5);
    // The first scrub sees nothing of the open transaction.
    await sleep(60);
    await client.query('commit');
    client.release();
    // Whether this call or the background took the row does not matter, nor whether other test
    // files hold transactions, which keep it from being final.
    await deleting;
    expect(await personalRows(user)).toBe(0);
    expect(await ledger.getUserBalance(user)).toBe(10);
    await fixture.expectExact();
  });

  it('that outlast the call are scrubbed by the background', async () => {
    // No ledger is open there, whose background would come at any moment.
    const own = await createLedgerFixture();
    const { pool } = own.database;
    const user = await own.addUser();
    const client = await pool.connect();
    await client.query('begin');
    const core = { kilo_user_id: user, cost: 10 };
    await insertUsageAndMetadataWithBalanceUpdate(client, core, PERSONAL);
    expect(await softDeleteUser(pool, user)).toEqual({ scrubbedEvents: 0, isFinal: false });
    await finishScrubs(pool);
    await client.query('commit');
    client.release();
    expect(await personalRows(user, own)).toBe(1);
    await finishAll(user, own);
    expect(await personalRows(user, own)).toBe(0);
    await own.expectExact();
    await own.close();
  });

  it('of one whose metadata somebody holds keep nobody else from being scrubbed', async () => {
    const own = await createLedgerFixture();
    onTestFinished(() => own.close());
    const options = '-c lock_timeout=100';
    const pool = openPool({ connectionString: own.database.url, max: 3, options });
    onTestFinished(() => pool.end());
    const [held, other] = [await own.addUser(), await own.addUser()];
    await using sessions = await openSessions(own.database.url, 2);
    const [writer, holder] = sessions.all as [Session, Session];
    await writer.run('begin');
    for (const user of [held, other]) {
      const core = { kilo_user_id: user, cost: 10 };
      await insertUsageAndMetadataWithBalanceUpdate(writer.client, core, PERSONAL);
    }
    const deleted = await Promise.all([held, other].map((user) => softDeleteUser(pool, user)));
    expect(deleted.map(({ isFinal }) => isFinal)).toEqual([false, false]);
    await own.rows(
      `update kilocode_users set deleted_at = deleted_at - interval '1 hour' where id = $1`,
      [held],
    );
    await finishScrubs(pool);
    // What was looked through is, while whoever was waited for is there, as it was.
    const sent = vi.spyOn(pg.Client.prototype, 'query');
    onTestFinished(() => sent.mockRestore());
    for (let round = 0; round < 5; round++) expect(await finishScrubs(pool)).toBe(0);
    const pages = sent.mock.calls.filter(([given]) =>
      JSON.stringify(given).includes('microdollar.scrubPage'),
    );
    // Two a round otherwise. A session that connects elsewhere may be taken for a transaction that ended.
    expect.soft(pages.length).toBeLessThan(5);
    await writer.run('commit');
    await holder.run('begin');
    await holder.run('select from microdollar_usage_metadata where kilo_user_id = $1 for update', [
      held,
    ]);
    await expect(finishScrubs(pool)).rejects.toMatchObject({ code: '55P03' });
    expect(await personalRows(other, own)).toBe(0);
    expect(await isUnfinished(other, own)).toBe(false);
    expect(await isUnfinished(held, own)).toBe(true);
    await holder.run('rollback');
    await finishAll(held, own);
    expect(await personalRows(held, own)).toBe(0);
  });

  it('whose statement began before, and took its transaction id after, are scrubbed too', async () => {
    const user = await fixture.addUser();
    const other = await fixture.addUser();
    const twinId = '00000000-0000-4000-8000-000000000001';
    await using sessions = await openSessions(fixture.database.url, 1);
    const [holder] = sessions.all;
    if (!holder) throw new Error('no session');
    await holder.run('begin');
    await holder.run(SEED_UPSERT, [twinId, other, 1, AT]);
    const patient = await fixture.open({ lockTimeoutMs: 30_000 });
    // Its lookups exist, so that the batch is all that it sends.
    await patient.recordUsage({ kilo_user_id: other, cost: 1, metadata: PERSONAL });
    const writing = patient.recordUsageBatch([
      { id: twinId, kilo_user_id: other, cost: 1, created_at: AT },
      { id: randomUUID(), kilo_user_id: user, cost: 2, metadata: PERSONAL },
    ]);
    while ((await lockWaits(pool())).length === 0) await sleep(5);
    const deleting = softDeleteUser(pool(), user);
    const mark = 'select from kilocode_users where id = $1 and deleted_at is not null';
    while ((await fixture.rows(mark, [user])).length === 0) await sleep(5);
    await holder.run('commit');
    expect((await writing).map(({ status }) => status)).toEqual(['duplicate', 'recorded']);
    await deleting;
    await finishAll(user);
    expect(await personalRows(user)).toBe(0);
    await fixture.expectExact();
  });

  it('keep it from being final while one waits for a twin, with a snapshot and no id', async () => {
    const [user, other] = [await fixture.addUser(), await fixture.addUser()];
    const [a, b] = [randomUUID(), randomUUID()].sort();
    await using sessions = await openSessions(fixture.database.url, 3);
    const [first, second, writer] = sessions.all;
    if (!first || !second || !writer) throw new Error('no session');
    const hold = async (session: Session, id = '') => {
      await session.run('begin');
      await session.run(
        `insert into microdollar_usage (id, kilo_user_id, cost) values ($1, $2, 1)`,
        [id, other],
      );
    };
    await hold(first, a);
    // As every write of the ledger, one statement, which asks for the mark in its own snapshot; and as
    // programs that know no position, without an id until it inserts.
    const writing = writer.run(
      `with recorded as (
         insert into microdollar_usage (id, kilo_user_id, cost)
         select id, $2, 0 from unnest($1::uuid[]) as id order by id
         on conflict (id) do nothing
         returning id
       )
       insert into microdollar_usage_metadata (id, kilo_user_id, machine_id)
       select id, $2, 'machine' from recorded
       where (select u.deleted_at from kilocode_users as u where u.id = $2) is null`,
      [[a, b], user],
    );
    await untilBlocked(pool(), writer, writing);
    const deleting = softDeleteUser(pool(), user);
    const mark = 'select from kilocode_users where id = $1 and deleted_at is not null';
    while ((await fixture.rows(mark, [user])).length === 0) await sleep(5);
    // An id above every one that was given when the mark was set; so is the writer's own now.
    await hold(second, b);
    await first.run('rollback');
    expect(await deleting).toEqual({ scrubbedEvents: 0, isFinal: false });

    await fixture.rows(
      `update kilocode_users set deleted_at = deleted_at - interval '1 hour' where id = $1`,
      [user],
    );
    for (let round = 0; round < 3; round++) await finishScrubs(pool());
    expect(await isUnfinished(user)).toBe(true);
    await second.run('rollback');
    await writing;
    expect(await personalRows(user)).toBe(2);
    await finishAll(user);
    expect(await personalRows(user)).toBe(0);
    await fixture.expectExact();
  });

  it('keep it from being final while one is prepared, in this call and in the background', async () => {
    const user = await fixture.addUser();
    const name = randomUUID();
    const client = await pool().connect();
    await client.query('begin');
    await insertUsageAndMetadataWithBalanceUpdate(
      client,
      { kilo_user_id: user, cost: 3 },
      PERSONAL,
    );
    await client.query(`prepare transaction '${name}'`);
    client.release();
    expect((await softDeleteUser(pool(), user)).isFinal).toBe(false);
    for (let round = 0; round < 3; round++) await finishScrubs(pool());
    expect(await isUnfinished(user)).toBe(true);
    await fixture.rows(`commit prepared '${name}'`);
    expect(await personalRows(user)).toBe(1);
    await finishAll(user);
    expect(await personalRows(user)).toBe(0);
    await fixture.expectExact();
  });

  it('are not waited for where they have no snapshot: an idle session is no write', async () => {
    const { own, user } = await addUserAlone();
    const { pool } = own.database;
    await using sessions = await openSessions(own.database.url, 1);
    await sessions.all[0]?.run('begin');
    await sessions.all[0]?.run('select 1');
    expect(await softDeleteUser(pool, user)).toEqual({ scrubbedEvents: 1, isFinal: true });
    expect(await isUnfinished(user, own)).toBe(false);
  });

  it('keep no lookup value as text, and none is brought back by resolving', async () => {
    // Nor is a ledger open here before the end, to resolve the value before it is scrubbed.
    const own = await createLedgerFixture();
    const { pool } = own.database;
    const user = await own.addUser();
    const client = await pool.connect();
    await client.query('begin');
    const metadata = { http_ip: `198.51.100.${randomUUID()}`, feature: 'chat' };
    const core = { kilo_user_id: user, cost: 10 };
    await insertUsageAndMetadataWithBalanceUpdate(client, core, metadata);
    await client.query('commit');
    client.release();
    await softDeleteUser(pool, user);
    await (await own.open()).fold();
    expect(await personalRows(user, own)).toBe(0);
    const value = 'select http_ip from http_ip where http_ip = $1';
    expect(await own.rows(value, [metadata.http_ip])).toEqual([]);
    await own.close();
  });
});
