import { randomUUID } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { inSchema } from '../../src/db/ledgerSchema.js';
import { archiveUsage } from '../../src/rollup/archive/archive.js';
import { verifyRollup } from '../../src/rollup/verify.js';
import { DAILY_ROLLUP } from '../../src/schema/rollups.js';
import {
  addCredit,
  addMember,
  createKey,
  createOrganization,
  createUser,
  listPayerCredits,
  softDeleteUser,
} from '../../src/shards/accounts.js';
import { migrateShards } from '../../src/shards/migrateShards.js';
import { createShardedLedger } from '../../src/shards/shardedLedger.js';
import { checkShards } from '../support/checkShards.js';
import { createTestDatabase } from '../support/database.js';
import { openPool } from '../support/openPool.js';
import { daysAgo } from './archiveHarness.js';
import { ledgerErrorOf } from './ledgerHarness.js';
import { createShardFixture, NAMES, type ShardFixture } from './shardHarness.js';

let fixture: ShardFixture;

beforeAll(async () => {
  fixture = await createShardFixture();
});

afterAll(() => fixture.close());

describe('a ledger of four shards', () => {
  it('records each payer where it is, once, and knows a replay from a conflict', async () => {
    const { ledger } = fixture;
    const users = await Promise.all(NAMES.map((name) => fixture.addUserOn(name)));
    const events = users.flatMap((kilo_user_id) =>
      [1, 2, 3].map((cost) => ({ id: randomUUID(), kilo_user_id, cost, metadata: { latency: 1 } })),
    );
    const answers = await ledger.recordUsageBatch(events);
    expect(answers.map(({ status }) => status)).toEqual(events.map(() => 'recorded'));
    const again = await ledger.recordUsageBatch([...events, { ...events[0], cost: 9 } as never]);
    expect(again.map(({ status }) => status)).toEqual([
      ...events.map(() => 'duplicate'),
      'rejected',
    ]);
    expect(again.at(-1)).toMatchObject({ error: { code: 'idempotency_conflict' } });
    for (const [index, name] of NAMES.entries()) {
      const id = users[index] as string;
      expect(await ledger.getUserBalance(id)).toBe(6);
      const stored = await fixture.rows(
        name,
        'select from microdollar_usage where kilo_user_id = $1',
        [id],
      );
      expect(stored).toHaveLength(3);
      const days = await ledger.getDailyUsage({
        kilo_user_id: id,
        from: '2020-01-01',
        until: '2999-01-01',
      });
      expect(days).toMatchObject([{ total_cost_microdollars: 6 }]);
      expect((await ledger.of({ kilo_user_id: id })).databaseUrl).toBe(
        fixture.databases.get(name)?.url,
      );
    }
    await fixture.expectExact();
  });

  it('records events of an organization by a user of another shard, who becomes known there', async () => {
    const { ledger } = fixture;
    const user = await fixture.addUserOn('b');
    const organization = await fixture.addOrganizationOn('c');
    const event = { kilo_user_id: user, organization_id: organization, cost: 7, model: 'm' };
    expect(await ledger.recordUsage(event)).toMatchObject({ new_microdollars_used: 7 });
    await ledger.recordExaUsage({
      kilo_user_id: user,
      organization_id: organization,
      cost: 5,
      path: '/x',
    });
    await ledger.recordUsage({ kilo_user_id: user, cost: 100, model: 'm' });
    expect(await ledger.getOrganizationBalance(organization)).toBe(7);
    expect(await ledger.getUserBalance(user)).toBe(100);
    const known = await fixture.rows(
      'c',
      'select name, is_elsewhere from kilocode_users where id = $1',
      [user],
    );
    expect(known).toEqual([{ name: null, is_elsewhere: true }]);
    const range = { from: '2020-01-01', until: '2021-01-01' };
    const today = new Date().toISOString().slice(0, 10);
    const query = { kilo_user_id: user, from: today, until: today, by: ['model' as const] };
    expect((await ledger.getUsageReport(query)).total).toMatchObject({ cost_microdollars: 100 });
    const whole = await ledger.getUsageReport({ ...query, organization_ids: [organization] });
    expect(whole).toMatchObject({
      total: { cost_microdollars: 107, requests: 2 },
      rows: [{ start: today, model: 'm', cost_microdollars: 107 }],
    });
    expect(
      await ledger.getDailyUsage({ kilo_user_id: user, organization_id: organization, ...range }),
    ).toEqual([]);
    await fixture.expectExact();
  });

  it('refuses as any ledger does', async () => {
    const { ledger } = fixture;
    const user = await fixture.addUserOn('d');
    const organization = await fixture.addOrganizationOn('b');
    const codes = await Promise.all(
      [
        ledger.recordUsage({ kilo_user_id: 'nobody', cost: 1 }),
        ledger.recordUsage({ kilo_user_id: user, organization_id: randomUUID(), cost: 1 }),
        ledger.recordUsage({ kilo_user_id: '', cost: 1 }),
        ledger.recordUsage({ kilo_user_id: 5 as never, cost: 1 }),
        ledger.recordUsage({ kilo_user_id: user, organization_id: 5 as never, cost: 1 }),
        ledger.recordUsage(undefined as never),
        ledger.recordUsage({ kilo_user_id: user, cost: 0.5 }),
        ledger.hold({ kilo_user_id: 'nobody', amount: 1 }),
        ledger.release(randomUUID()),
        addMember(ledger, randomUUID(), user),
        addMember(ledger, organization, 'nobody'),
        createUser(ledger, { id: user }),
        addCredit(ledger, { kilo_user_id: 'nobody', usd: 1 }),
        softDeleteUser(ledger, 'nobody'),
      ].map(async (work) => (await ledgerErrorOf(work)).code),
    );
    expect(codes).toEqual([
      'unknown_user',
      'unknown_organization',
      ...Array(5).fill('invalid_event'),
      'unknown_user',
      'not_found',
      'unknown_organization',
      'unknown_user',
      'already_exists',
      'unknown_user',
      'unknown_user',
    ]);
    expect(await ledger.getUserBalance('nobody')).toBeNull();
    expect(await ledger.getOrganizationBalance(randomUUID())).toBeNull();
  });

  it('holds, extends, settles and releases, whoever asks', async () => {
    const { ledger } = fixture;
    const other = await fixture.open();
    const user = await fixture.addUserOn('b');
    const organization = await fixture.addOrganizationOn('d');
    await addCredit(ledger, { organization_id: organization, usd: '0.001' });
    await addCredit(ledger, { kilo_user_id: user, usd: '0.0005' });
    const request = { kilo_user_id: user, organization_id: organization };
    const [first, second] = [
      await ledger.hold({ ...request, amount: 400 }),
      await ledger.hold({ ...request, amount: 500 }),
    ];
    expect(first).toMatchObject({ status: 'granted' });
    expect(await other.extend(first.id, 500)).toMatchObject({ status: 'granted', amount: 500 });
    expect(await ledger.hold({ ...request, amount: 1 })).toMatchObject({ status: 'refused' });
    expect(await other.release(second.id)).toMatchObject({ status: 'released' });
    expect(await other.findHolder(first.id)).toMatchObject({ organization_id: organization });
    expect(await ledger.settle(first.id, { ...request, cost: 300 })).toMatchObject({
      status: 'recorded',
      new_microdollars_used: 300,
    });
    const own = await ledger.hold({ kilo_user_id: user, amount: 500 });
    expect(own).toMatchObject({ status: 'granted' });
    expect(await ledger.release(own.id)).toMatchObject({ status: 'released' });
    expect(await ledger.release(own.id)).toMatchObject({ status: 'duplicate' });
    const credits = await listPayerCredits(ledger, { organization_id: organization });
    expect(credits.rows).toHaveLength(1);
    await fixture.expectExact();
  });

  it('deletes a user wherever they are known', async () => {
    const { ledger } = fixture;
    const user = await fixture.addUserOn('b');
    const organization = await fixture.addOrganizationOn('home');
    await addMember(ledger, organization, user);
    const key = await createKey(ledger, {
      kilo_user_id: user,
      organization_id: organization,
      scopes: ['gateway'],
    });
    const metadata = { user_prompt_prefix: 'dear diary' };
    await ledger.recordUsage({ kilo_user_id: user, cost: 1, metadata });
    await ledger.recordUsage({
      kilo_user_id: user,
      organization_id: organization,
      cost: 1,
      metadata,
    });
    expect(await softDeleteUser(ledger, user)).toMatchObject({ scrubbedEvents: 2 });
    for (const name of NAMES) {
      const personal =
        'select from microdollar_usage_metadata where user_prompt_prefix is not null and kilo_user_id = $1';
      expect(await fixture.rows(name, personal, [user])).toEqual([]);
    }
    const revoked = await fixture.rows('home', 'select revoked_at from api_keys where id = $1', [
      key.id,
    ]);
    expect(revoked).not.toEqual([{ revoked_at: null }]);
    // For the first time on a shard where they were not known: deleted there as well.
    const other = await fixture.addOrganizationOn('c');
    await ledger.recordUsage({ kilo_user_id: user, organization_id: other, cost: 1, metadata });
    expect(await ledgerErrorOf(addMember(ledger, other, user))).toMatchObject({
      code: 'unknown_user',
    });
    await fixture.expectExact();
  });

  it('is proven and archived by shard, totals unchanged', async () => {
    const { ledger } = fixture;
    const user = await fixture.addUserOn('b');
    const organization = await fixture.addOrganizationOn('c');
    const at = (days: number) => `${daysAgo(days)}T12:00:00Z`;
    const event = { id: randomUUID(), kilo_user_id: user, created_at: at(30), cost: 3 };
    const events = [
      { ...event, organization_id: organization },
      { ...event, id: randomUUID(), organization_id: organization, created_at: at(2) },
      { ...event, id: randomUUID() },
    ];
    await ledger.recordUsageBatch(events);
    await ledger.fold();
    for (const { databaseUrl: url } of fixture.shards) {
      expect((await verifyRollup({ url, rollup: DAILY_ROLLUP })).drifts).toEqual([]);
    }
    const directory = await mkdtemp(join(tmpdir(), 'microdollar-shards-'));
    try {
      const { databaseUrl: url } = fixture.shards[2] as { databaseUrl: string };
      const report = await archiveUsage({ url, until: daysAgo(10), directory });
      expect(report).toMatchObject({ rows: 1 });
    } finally {
      await rm(directory, { recursive: true });
    }
    expect(await ledger.getOrganizationBalance(organization)).toBe(6);
    const range = { from: daysAgo(40), until: daysAgo(0) };
    const of = { kilo_user_id: user, organization_id: organization };
    expect(await ledger.getDailyUsage({ ...of, ...range })).toHaveLength(2);
    const replays = await ledger.recordUsageBatch(events);
    expect(replays.map(({ status }) => status)).toEqual(['rejected', 'duplicate', 'duplicate']);
    expect(replays[0]).toMatchObject({ error: { code: 'archived_period' } });
    await fixture.expectExact();
  });

  it('tells its metrics by shard, and none of one database', async () => {
    const { ledger } = fixture;
    const user = await fixture.addUserOn('c');
    await ledger.recordUsage({ kilo_user_id: user, cost: 1 });
    const text = await ledger.metrics.registry.metrics();
    expect(text).toMatch(/microdollar_events_total\{.*shard="c".*\} [1-9]/);
    expect(text).toContain('microdollar_shard_open{shard="d"} 1');
    expect(() => ledger.pool).toThrow(/ledger.of/);
    expect(await ledger.getPendingStatus()).toMatchObject({ depth: expect.any(Number) });
    expect(ledger.getReadMode()).toMatchObject({ effective: 'rollup' });
    expect(ledger.backlog.depth).toBeGreaterThanOrEqual(0);
    expect(ledger.parts.map(({ name }) => name)).toEqual([...NAMES]);
  });
});

/** Another URL of the same database. */
function sameAs(url: string): string {
  const other = new URL(url);
  other.searchParams.set('application_name', 'another');
  return other.href;
}

describe('shards that are named wrongly', () => {
  it('are refused with the reason, and nothing is changed', async () => {
    const [home, b, ...rest] = fixture.shards as [
      never,
      { name: string; databaseUrl: string },
      never,
    ];
    const stranger = await createTestDatabase();
    const told = async (shards: never[]) =>
      [
        (await ledgerErrorOf(migrateShards(shards))).message,
        (await ledgerErrorOf(createShardedLedger({ shards, poolSize: 2 }))).message,
      ].join('\n');
    const before = await fixture.rows('home', 'select * from microdollar_shards order by name');
    try {
      const twin = { name: 'e', databaseUrl: sameAs(b.databaseUrl) };
      expect(await told([home, b, ...rest, twin] as never)).toMatch(
        /"b" and "e" are one database[\s\S]*(is "b"|one database)/,
      );
      expect(await told([home, b] as never)).toMatch(/lack c, d[\s\S]*lack c, d/);
      expect(await told([home, { ...b, name: 'x' }, ...rest] as never)).toMatch(
        /is "b"[\s\S]*(is "b"|lack b)/,
      );
      expect(await told([b, home, ...rest] as never)).toMatch(/name it first[\s\S]*name it first/);
      await stranger.pool.query(`insert into kilocode_users (id) values ('theirs')`);
      const other = { name: 'e', databaseUrl: stranger.url };
      expect(await told([home, b, ...rest, other] as never)).toMatch(
        /only home may[\s\S]*run `microdollar migrate`/,
      );
      await migrateShards([{ name: 'e', databaseUrl: stranger.url }]);
      expect(await told([home, b, ...rest, other] as never)).toMatch(
        /another installation[\s\S]*another/,
      );
    } finally {
      await stranger.drop();
    }
    expect(await fixture.rows('home', 'select * from microdollar_shards order by name')).toEqual(
      before,
    );
  });

  it('an ordinary ledger with payers becomes home, and keeps them where they are', async () => {
    const databases = [await createTestDatabase(), await createTestDatabase()];
    const [one, two] = databases.map(({ url }) => url) as [string, string];
    const shards = [
      { name: 'one', databaseUrl: one },
      { name: 'two', databaseUrl: two },
      // Beside another one, in a schema of its own.
      { name: 'three', databaseUrl: two, schema: 'third' },
    ];
    const third = openPool({ connectionString: inSchema(two, 'third'), max: 2 });
    try {
      const ids = Array.from({ length: 20 }, (_, index) => `user ${index}`);
      await databases[0]?.pool.query('insert into kilocode_users (id) select unnest($1::text[])', [
        ids,
      ]);
      expect(await migrateShards(shards.slice(0, 2))).toMatchObject({ joined: ['one', 'two'] });
      const ledger = await createShardedLedger({
        shards: shards.slice(0, 2),
        backgroundFold: false,
        poolSize: 2,
      });
      const answers = await ledger.recordUsageBatch(
        ids.map((kilo_user_id) => ({ kilo_user_id, cost: 1 })),
      );
      expect(answers.map(({ status }) => status)).toEqual(ids.map(() => 'recorded'));
      expect(await migrateShards(shards)).toMatchObject({ joined: ['three'] });
      expect(await migrateShards(shards)).toMatchObject({ joined: [] });
      await createOrganization(ledger, { name: 'new' });
      await ledger.close();
      const pools = [...databases.map(({ pool }) => pool), third];
      const byName = shards.map(({ name }, index) => ({
        name,
        pool: pools[index] as typeof third,
      }));
      expect(await checkShards(byName)).toEqual([]);
      const all = await createShardedLedger({ shards, backgroundFold: false, poolSize: 2 });
      for (const { name, ledger: part } of all.parts) {
        const { rows } = await part.pool.query('select shard_name from ledger_settings');
        expect(rows).toEqual([{ shard_name: name }]);
      }
      await all.close();
      // A program of a version before would not look where a payer is.
      const breaking = await databases[1]?.pool.query(
        'select breaking_migrations as names from ledger_settings',
      );
      expect(breaking?.rows[0].names).toEqual([expect.stringMatching(/_shards$/)]);
    } finally {
      await third.end();
      await Promise.all(databases.map((database) => database.drop()));
    }
  });
});
