import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import type { Ledger } from '../../src/ledgerTypes.js';
import { insertUsageAndMetadataWithBalanceUpdate } from '../../src/record/onExecutor.js';
import type { BatchResult, UsageEvent } from '../../src/record/types.js';
import { type CuttingProxy, startCuttingProxy } from '../support/cuttingProxy.js';
import { setExaAllowance } from '../support/exaAllowance.js';
import { openPool } from '../support/openPool.js';
import { SEED_UPSERT } from '../support/seedUpsert.sql.js';
import { lockWaits, openSessions, type Session } from '../support/sessions.js';
import { createLedgerFixture, type LedgerFixture, ledgerErrorOf } from './ledgerHarness.js';

const AT = '2025-05-06T07:08:09.101112Z';
const LOCK_TIMEOUT_MS = 300;
/** A host's pool goes straight to the log so long after it could not write in place. */
const CONTENDED_MS = 250;

let fixture: LedgerFixture;
let proxy: CuttingProxy;
let ledger: Ledger;

beforeAll(async () => {
  fixture = await createLedgerFixture();
  proxy = await startCuttingProxy(fixture.database.url);
  ledger = await fixture.open({ lockTimeoutMs: LOCK_TIMEOUT_MS });
});

afterAll(async () => {
  await fixture.close();
  await proxy[Symbol.asyncDispose]();
});

afterEach(() => void vi.useRealTimers());

const countOf = async (table: string, user: string) =>
  (
    await fixture.rows<{ n: number }>(
      `select count(*)::integer as n from ${table} where kilo_user_id = $1`,
      [user],
    )
  )[0]?.n;

describe('a connection that breaks between send and answer', () => {
  const ways = [
    { name: 'one by one', options: { groupCommit: false }, statement: 'microdollar_append' },
    { name: 'settled later', options: { appendAlways: true }, statement: 'microdollar_append' },
    { name: 'unprepared', options: { preparedStatements: false }, statement: 'microdollar.append' },
  ];
  const places = ['beforeServer', 'afterCommit'] as const;

  it.each(ways.flatMap((way) => places.map((place) => ({ ...way, place }))))(
    'is retried: one row, one effect, one answer ($name, cut $place)',
    async ({ options, statement, place }) => {
      const user = await fixture.addUser();
      const cutLedger = await fixture.open({ ...options, databaseUrl: proxy.url });
      await cutLedger.recordUsage({ kilo_user_id: user, cost: 1 });
      const cutsBefore = proxy.cuts;
      proxy.cutNext(statement, place, 2);
      const event = { id: randomUUID(), kilo_user_id: user, cost: 7, metadata: { latency: 1 } };
      const answer = await cutLedger.recordUsage(event);
      expect(proxy.cuts - cutsBefore).toBe(2);
      expect(answer).toMatchObject({
        id: event.id,
        status: place === 'afterCommit' ? 'duplicate' : 'recorded',
        new_microdollars_used: 8,
      });
      const again = await ledger.recordUsage(event);
      expect(again).toEqual({ ...answer, status: 'duplicate' });
      expect(await countOf('microdollar_usage', user)).toBe(2);
      expect(await countOf('microdollar_usage_metadata', user)).toBe(1);
      await fixture.expectExact();
    },
  );

  it.each(places)('is retried as a batch: each event once, in order (cut %s)', async (place) => {
    const users = [await fixture.addUser(), await fixture.addUser()];
    const cutLedger = await fixture.open({ databaseUrl: proxy.url });
    const events = Array.from({ length: 20 }, (_, index) => ({
      id: randomUUID(),
      kilo_user_id: users[index % 2] as string,
      cost: index - 3,
    }));
    proxy.cutNext('microdollar_append_batch', place);
    const results = await cutLedger.recordUsageBatch(events);
    expect(results.map(({ id }) => id)).toEqual(events.map(({ id }) => id));
    const status = place === 'afterCommit' ? 'duplicate' : 'recorded';
    expect(new Set(results.map((result) => result.status))).toEqual(new Set([status]));
    const replay = await ledger.recordUsageBatch(events);
    expect(replay.map(createdAt)).toEqual(results.map(createdAt));
    expect(await countOf('microdollar_usage', users[0] as string)).toBe(10);
    await fixture.expectExact();
  });

  it.each(places)('is retried for Exa too (cut %s)', async (place) => {
    const user = await fixture.addUser();
    await setExaAllowance(fixture.database.pool, 3);
    const cutLedger = await fixture.open({ databaseUrl: proxy.url });
    const usage = { id: randomUUID(), kilo_user_id: user, cost: 10, path: '/search' };
    proxy.cutNext('microdollar_append_exa', place, 2);
    const answer = await cutLedger.recordExaUsage(usage);
    expect(answer.new_microdollars_used).toBe(7);
    expect(await cutLedger.recordExaUsage(usage)).toEqual({ ...answer, status: 'duplicate' });
    expect(await countOf('exa_usage_log', user)).toBe(1);
    await fixture.expectExact();
  });

  it('gives up after bounded retries with a retryable error, and the replay is a no-op', async () => {
    const user = await fixture.addUser();
    const cutLedger = await fixture.open({ databaseUrl: proxy.url, groupCommit: false });
    const event = { id: randomUUID(), kilo_user_id: user, cost: 7 };
    proxy.cutNext('microdollar_append', 'afterCommit', 1_000);
    const error = await ledgerErrorOf(cutLedger.recordUsage(event));
    expect(error).toMatchObject({ code: 'unavailable', retryable: true });
    proxy.cutNext('nothing', 'beforeServer');
    expect(await cutLedger.recordUsage(event)).toMatchObject({
      status: 'duplicate',
      new_microdollars_used: 7,
    });
    await fixture.expectExact();
  });

  it.each(['microdollar_in_place', 'microdollar_append'])(
    'is the caller’s to retry on an executor of its own: %s',
    async (statement) => {
      const user = await fixture.addUser();
      const pool = openPool({ connectionString: proxy.url, max: 1 });
      const core = { id: randomUUID(), kilo_user_id: user, cost: 7 };
      // On a busy machine that moment may be over before the next statement.
      vi.useFakeTimers({ toFake: ['performance'] });
      // The day has no row yet: appended, and for a moment the next one goes straight to the log.
      await insertUsageAndMetadataWithBalanceUpdate(pool, { kilo_user_id: user, cost: 1 });
      if (statement === 'microdollar_in_place') vi.advanceTimersByTime(CONTENDED_MS);
      proxy.cutNext(statement, 'afterCommit');
      const error = await ledgerErrorOf(insertUsageAndMetadataWithBalanceUpdate(pool, core));
      expect(error).toMatchObject({ code: 'unavailable', retryable: true });
      const again = await insertUsageAndMetadataWithBalanceUpdate(pool, core);
      expect(again).toMatchObject({ status: 'duplicate', new_microdollars_used: 8 });
      await pool.end();
      await fixture.expectExact();
    },
  );

  it('ends with one row when the server ends the backend in the middle of the write', async () => {
    const user = await fixture.addUser();
    const event = { id: randomUUID(), kilo_user_id: user, cost: 7, created_at: AT };
    await using sessions = await openSessions(fixture.database.url, 1);
    const [twin] = sessions.all;
    if (!twin) throw new Error('no session');
    await twin.run('begin');
    await twin.run(SEED_UPSERT, [event.id, user, 7, AT]);
    const patient = await fixture.open({ lockTimeoutMs: 30_000 });
    const write = patient.recordUsage(event);
    const retries = async () =>
      (await patient.metrics.retries.get()).values.map(({ labels }) => labels.cause);
    // A wait is short, and may be over when its backend ends: until one was met amid it.
    while (!(await retries()).includes('57P01')) {
      for (const { pid } of await lockWaits(fixture.database.pool)) {
        await twin.run('select pg_terminate_backend($1)', [pid]);
      }
      await sleep(5);
    }
    await twin.run('rollback');
    expect(await write).toMatchObject({ status: 'recorded', new_microdollars_used: 7 });
    expect(await countOf('microdollar_usage', user)).toBe(1);
    await fixture.expectExact();
  });
});

const createdAt = (result: BatchResult) => ('created_at' in result ? result.created_at : null);

describe('the same id with other content', () => {
  const changes: Record<string, (user: string, organization: string) => Partial<UsageEvent>> = {
    cost: () => ({ cost: 8 }),
    kilo_user_id: (user) => ({ kilo_user_id: user }),
    organization_id: (_, organization) => ({ organization_id: organization }),
    input_tokens: () => ({ input_tokens: 9 }),
    output_tokens: () => ({ output_tokens: 9 }),
    cache_write_tokens: () => ({ cache_write_tokens: 9 }),
    cache_hit_tokens: () => ({ cache_hit_tokens: 9 }),
    provider: () => ({ provider: 'other' }),
    'provider, now absent': () => ({ provider: null }),
    model: () => ({ model: 'other' }),
    requested_model: () => ({ requested_model: 'other' }),
    created_at: () => ({ created_at: '2025-05-06T07:08:09.101113Z' }),
  };
  const ways: { name: string; record: (event: UsageEvent) => Promise<unknown> }[] = [
    { name: 'recordUsage', record: (event) => ledger.recordUsage(event) },
    {
      name: 'a batch',
      record: async (event) => {
        const other = { kilo_user_id: await fixture.addUser(), cost: 1 };
        const results = await ledger.recordUsageBatch([other, event, other]);
        expect(results.map(({ status }) => status)).toEqual(['recorded', 'rejected', 'recorded']);
        throw (results[1] as { error: Error }).error;
      },
    },
    {
      name: 'an executor',
      record: ({ metadata, ...core }) =>
        insertUsageAndMetadataWithBalanceUpdate(fixture.database.pool, core, metadata ?? null),
    },
  ];

  it.each(ways.flatMap((way) => Object.keys(changes).map((change) => ({ ...way, change }))))(
    'is an idempotency_conflict by $name: $change',
    async ({ record, change }) => {
      const [user, otherUser] = [await fixture.addUser(), await fixture.addUser()];
      const organization = await fixture.addOrganization();
      const event: UsageEvent = {
        id: randomUUID(),
        kilo_user_id: user,
        cost: 7,
        input_tokens: 1,
        output_tokens: 2,
        cache_write_tokens: 3,
        cache_hit_tokens: 4,
        provider: 'p',
        model: 'm',
        requested_model: 'r',
        created_at: AT,
      };
      const first = await ledger.recordUsage(event);
      const state = async () =>
        await fixture.rows(
          `select to_jsonb(u) as row from microdollar_usage as u where kilo_user_id = any($1)
         union all select to_jsonb(d) from microdollar_usage_daily_exact as d
         where kilo_user_id = any($1)
         union all select to_jsonb(b) from kilocode_user_balances as b
         where kilo_user_id = any($1)`,
          [[user, otherUser]],
        );
      const before = await state();
      const conflicting = { ...event, ...changes[change]?.(otherUser, organization) };
      const error = await ledgerErrorOf(record(conflicting));
      expect(error).toMatchObject({
        code: 'idempotency_conflict',
        retryable: false,
        details: { field: 'id', id: event.id },
      });
      expect(await state()).toEqual(before);
      expect(await ledger.recordUsage(event)).toEqual({ ...first, status: 'duplicate' });
    },
  );

  it('is no conflict where null, absent and the default are the same, or metadata differs', async () => {
    const user = await fixture.addUser();
    const event = { id: randomUUID(), kilo_user_id: user, cost: 7 };
    const first = await ledger.recordUsage(event);
    for (const same of [
      { ...event, organization_id: null, provider: null, input_tokens: 0, created_at: null },
      { ...event, id: event.id.toUpperCase(), metadata: { latency: 5 } },
      { ...event, created_at: first.created_at },
      { ...event, cache_discount: 5, has_error: true, project_id: 'p', inference_provider: 'i' },
    ]) {
      expect(await ledger.recordUsage(same)).toEqual({ ...first, status: 'duplicate' });
    }
    expect(await countOf('microdollar_usage_metadata', user)).toBe(0);
    await fixture.expectExact();
  });

  it('is a conflict for Exa', async () => {
    const user = await fixture.addUser();
    const usage = {
      id: randomUUID(),
      kilo_user_id: user,
      cost: 5,
      path: '/search',
      created_at: AT,
    };
    await ledger.recordExaUsage(usage);
    const changed = [{ cost: 6 }, { path: '/other' }, { created_at: '2025-05-06T00:00:00Z' }];
    for (const change of changed) {
      const error = await ledgerErrorOf(ledger.recordExaUsage({ ...usage, ...change }));
      expect(error).toMatchObject({ code: 'idempotency_conflict', details: { field: 'id' } });
    }
    await fixture.expectExact();
  });
});

describe('batches', () => {
  const batchOf = (user: string, count: number) =>
    Array.from({ length: count }, (_, index) => ({
      id: randomUUID(),
      kilo_user_id: user,
      cost: index,
      created_at: AT,
    }));

  it('replayed in another order change nothing and give the first answers', async () => {
    const user = await fixture.addUser();
    const events = batchOf(user, 30);
    const first = await ledger.recordUsageBatch(events);
    const replay = await ledger.recordUsageBatch(events.toReversed());
    expect(replay).toEqual(
      first.toReversed().map((result) => ({
        ...result,
        status: 'duplicate',
        new_microdollars_used: 435,
      })),
    );
    await fixture.expectExact();
  });

  it('replayed with metadata that the first ones did not have write none', async () => {
    const user = await fixture.addUser();
    const events = batchOf(user, 5);
    await ledger.recordUsageBatch(events);
    const fresh = { ...batchOf(user, 1)[0], id: randomUUID(), kilo_user_id: user, cost: 3 };
    const replay = [...events, fresh].map((event) => ({ ...event, metadata: { latency: 5 } }));
    const statuses = (await ledger.recordUsageBatch(replay)).map(({ status }) => status);
    expect(statuses).toEqual([...events.map(() => 'duplicate'), 'recorded']);
    expect(await countOf('microdollar_usage_metadata', user)).toBe(1);
    await fixture.expectExact();
  });

  it('are inserted in the order of their ids (R11): two never wait for one another', async () => {
    const user = await fixture.addUser();
    const events = batchOf(user, 50).sort((a, b) => b.id.localeCompare(a.id));
    await ledger.recordUsageBatch(events);
    const rows = await fixture.rows<{ id: string }>(
      'select id from microdollar_usage where kilo_user_id = $1 order by ctid',
      [user],
    );
    expect(rows.map(({ id }) => id)).toEqual(events.map(({ id }) => id).toReversed());
  });

  it('that share ids in opposite orders, from several ledgers at once, never deadlock', async () => {
    const user = await fixture.addUser();
    const organization = await fixture.addOrganization();
    const rivals = await Promise.all([1, 2, 3].map(() => fixture.open()));
    for (let round = 0; round < 5; round++) {
      const events = batchOf(user, 300).map((event, index) => ({
        ...event,
        organization_id: index % 2 ? organization : null,
      }));
      const answers = await Promise.all([
        rivals[0]?.recordUsageBatch(events),
        rivals[1]?.recordUsageBatch(events.toReversed()),
        rivals[2]?.recordUsageBatch([...events.slice(150), ...events.slice(0, 150)]),
      ]);
      const statuses = answers.flatMap((results) => (results ?? []).map(({ status }) => status));
      expect(statuses.filter((status) => status === 'recorded')).toHaveLength(300);
      expect(statuses.filter((status) => status === 'duplicate')).toHaveLength(600);
    }
    expect(await countOf('microdollar_usage', user)).toBe(1500);
    // The server's own count of deadlocks comes late; a victim is sent again, which is counted.
    for (const rival of rivals) {
      const { values } = await rival.metrics.retries.get();
      // A twin that was met is no deadlock.
      expect(values.filter(({ labels }) => labels.cause !== '55P03')).toEqual([]);
    }
    await fixture.expectExact();
  });

  it('with the same id twice record it once', async () => {
    const user = await fixture.addUser();
    const event = { id: randomUUID(), kilo_user_id: user, cost: 5 };
    const results = await ledger.recordUsageBatch([
      event,
      { kilo_user_id: user, cost: 1 },
      event,
      { ...event, cost: 6 },
    ]);
    expect(results.map(({ status }) => status)).toEqual([
      'recorded',
      'recorded',
      'duplicate',
      'rejected',
    ]);
    expect(results[3]).toMatchObject({ error: { code: 'idempotency_conflict' } });
    expect(await ledger.getUserBalance(user)).toBe(6);
    await fixture.expectExact();
  });

  it.each(['commit', 'rollback'] as const)(
    'commit without an event whose twin is in an open transaction, which then ends by %s',
    async (end) => {
      const user = await fixture.addUser();
      const events = batchOf(user, 16).map((event) => ({ ...event, cost: event.cost + 1 }));
      const twin = events[5] as (typeof events)[number];
      const client = await fixture.database.pool.connect();
      try {
        await client.query('begin');
        await insertUsageAndMetadataWithBalanceUpdate(client, twin);
        const results = await ledger.recordUsageBatch(events);
        expect(results.map(({ status }) => status)).toEqual(
          events.map((event) => (event === twin ? 'rejected' : 'recorded')),
        );
        expect(results[5]).toMatchObject({ error: { code: 'unavailable', retryable: true } });
        await client.query(end);
      } finally {
        client.release();
      }
      expect(await ledger.recordUsage(twin)).toMatchObject({
        status: end === 'commit' ? 'duplicate' : 'recorded',
        new_microdollars_used: 136,
      });
      expect(await countOf('microdollar_usage', user)).toBe(16);
      await fixture.expectExact();
    },
  );

  it('that waited for a twin count beside what others settled meanwhile', async () => {
    const user = await fixture.addUser();
    const organization = await fixture.addOrganization();
    const ofBoth = (cost: number) =>
      [null, organization].map((organization_id) => ({
        kilo_user_id: user,
        organization_id,
        cost,
      }));
    const patient = await fixture.open({ lockTimeoutMs: 600_000 });
    const other = await fixture.open({ groupCommit: false });
    await other.recordUsageBatch(ofBoth(1));
    const events = batchOf(user, 8).map((event, index) => ({
      ...event,
      cost: 10,
      organization_id: index % 2 ? organization : null,
    }));
    await using sessions = await openSessions(fixture.database.url, 1);
    const holder = sessions.all[0] as Session;
    await holder.run('begin');
    await holder.run('insert into microdollar_usage (id, kilo_user_id, cost) values ($1, $2, 0)', [
      events[3]?.id,
      user,
    ]);
    const waiting = patient.recordUsageBatch(events);
    while ((await lockWaits(fixture.database.pool)).length === 0) await sleep(5);
    await other.recordUsageBatch(ofBoth(100));
    await other.fold();
    await holder.run('rollback');
    const statuses = (await waiting).map(({ status }) => status);
    expect(new Set(statuses)).toEqual(new Set(['recorded']));
    expect(await ledger.getUserBalance(user)).toBe(141);
    expect(await ledger.getOrganizationBalance(organization)).toBe(141);
    await fixture.expectExact();
  });

  it('isolate an event that the database refuses from its neighbours', async () => {
    const user = await fixture.addUser();
    await fixture.rows(
      `insert into microdollar_usage_metadata (id, kilo_user_id) values ($1, 'someone')`,
      ['00000000-0000-4000-8000-00000000dead'],
    );
    const bad = { id: '00000000-0000-4000-8000-00000000dead', metadata: { latency: 1 } };
    const events = batchOf(user, 9).map((event, index) =>
      index === 4 ? { ...event, ...bad } : event,
    );
    const results = await ledger.recordUsageBatch(events);
    expect(results.filter(({ status }) => status === 'recorded')).toHaveLength(8);
    expect(results[4]).toMatchObject({ status: 'rejected', error: { code: 'invalid_event' } });
    await fixture.rows('delete from microdollar_usage_metadata where id = $1', [bad.id]);
    await fixture.expectExact();
  });
});

describe('created_at', () => {
  it('that is absent is the first write’s, also for a replay', async () => {
    const user = await fixture.addUser();
    const event = { id: randomUUID(), kilo_user_id: user, cost: 5 };
    const first = await ledger.recordUsage(event);
    await sleep(2);
    expect((await ledger.recordUsage(event)).created_at).toBe(first.created_at);
  });

  it('is kept to the microsecond and compared as an instant', async () => {
    const user = await fixture.addUser();
    const event = { id: randomUUID(), kilo_user_id: user, cost: 5, created_at: AT };
    expect((await ledger.recordUsage(event)).created_at).toBe(AT);
    const elsewhere = { ...event, created_at: '2025-05-06T12:38:09.101112+05:30' };
    expect(await ledger.recordUsage(elsewhere)).toMatchObject({
      status: 'duplicate',
      created_at: AT,
    });
  });
});
