import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Ledger } from '../../src/ledgerTypes.js';
import { insertUsageAndMetadataWithBalanceUpdate } from '../../src/record/onExecutor.js';
import type { UsageEvent } from '../../src/record/types.js';
import { startCuttingProxy } from '../support/cuttingProxy.js';
import { SEED_UPSERT } from '../support/seedUpsert.sql.js';
import { openSessions, type Session } from '../support/sessions.js';
import {
  createLedgerFixture,
  type LedgerFixture,
  ledgerErrorOf,
  PERSONAL_DAILY,
} from './ledgerHarness.js';

const AT = '2025-05-06T07:08:09Z';

let fixture: LedgerFixture;
let ledger: Ledger;

beforeAll(async () => {
  fixture = await createLedgerFixture();
  ledger = await fixture.open();
});

afterAll(() => fixture.close());

const usageCount = async (user: string) =>
  (await fixture.rows('select from microdollar_usage where kilo_user_id = $1', [user])).length;

describe('a batch', () => {
  it('answers each event in its place, and a bad one harms no neighbour', async () => {
    const user = await fixture.addUser();
    const good = { kilo_user_id: user, cost: 1, created_at: AT };
    const bad: [code: string, field: string, event: object][] = [
      ['unknown_user', 'kilo_user_id', { ...good, kilo_user_id: 'nobody' }],
      ['unknown_organization', 'organization_id', { ...good, organization_id: randomUUID() }],
      ['invalid_event', 'cost', { ...good, cost: 0.5 }],
      ['invalid_event', 'cost', { ...good, cost: 1_000_000_000_001 }],
      ['invalid_event', 'cost', { ...good, cost: -1_000_000_000_001 }],
      ['invalid_event', 'cost', { ...good, cost: Number.NaN }],
      ['invalid_event', 'cost', { kilo_user_id: user }],
      ['invalid_event', 'created_at', { ...good, created_at: '2025-05-06T07:08:09' }],
      ['invalid_event', 'created_at', { ...good, created_at: '9999-01-01T00:00:00Z' }],
      ['invalid_event', 'created_at', { ...good, created_at: '2014-12-31T23:59:59.999999Z' }],
      ['invalid_event', 'organisation_id', { ...good, organisation_id: null }],
      ['invalid_event', 'metadata.editor', { ...good, metadata: { editor: 'x' } }],
      ['invalid_event', 'model', { ...good, model: 'm'.repeat(513) }],
    ];
    const events = bad.flatMap(([, , event]) => [good, event as UsageEvent]);
    const results = await ledger.recordUsageBatch(events);
    const isGood = (_: unknown, index: number) => index % 2 === 0;
    expect(new Set(results.filter(isGood).map(({ status }) => status))).toEqual(
      new Set(['recorded']),
    );
    expect(results.filter((_, index) => !isGood(_, index))).toMatchObject(
      bad.map(([code, field]) => ({ status: 'rejected', error: { code, details: { field } } })),
    );
    expect(await usageCount(user)).toBe(bad.length);
    expect((await ledger.metrics.retries.get()).values).toEqual([]);
    await fixture.expectExact();
  });

  it('larger than a statement keeps its order', async () => {
    const users = await Promise.all([1, 2, 3].map(() => fixture.addUser()));
    const events = Array.from({ length: 1200 }, (_, index) => ({
      id: randomUUID(),
      kilo_user_id: users[index % 3] as string,
      cost: index,
      created_at: AT,
    }));
    const results = await ledger.recordUsageBatch(events);
    expect(results.map(({ id }) => id)).toEqual(events.map(({ id }) => id));
    expect(new Set(results.map(({ status }) => status))).toEqual(new Set(['recorded']));
    await fixture.expectExact();
  });

  it('of events of one payer on many days creates every daily row', async () => {
    const user = await fixture.addUser();
    const organization = await fixture.addOrganization();
    const events = Array.from({ length: 150 }, (_, index) => ({
      kilo_user_id: user,
      organization_id: index % 3 ? null : organization,
      cost: 1,
      created_at: new Date(Date.UTC(2024, 0, 1 + index)).toISOString(),
    }));
    const results = await ledger.recordUsageBatch(events);
    // Two statements side by side: who answers saw all of one, and all or none of the other.
    const answers = (of: string | null) => [
      ...new Set(
        results
          .filter((_, index) => events[index]?.organization_id === of)
          .map((each) => ('new_microdollars_used' in each ? each.new_microdollars_used : null)),
      ),
    ];
    for (const balance of answers(null)) expect([50, 100]).toContain(balance);
    for (const balance of answers(organization)) expect([25, 50]).toContain(balance);
    await fixture.expectExact();
    const days = 'select from microdollar_usage_daily where kilo_user_id = $1';
    expect(await fixture.rows(days, [user])).toHaveLength(150);
  });

  it('of nothing is nothing', async () => {
    expect(await ledger.recordUsageBatch([])).toEqual([]);
  });
});

describe('an archived period', () => {
  it('refuses new events, and still answers for those it has', async () => {
    const user = await fixture.addUser();
    const known = { id: randomUUID(), kilo_user_id: user, cost: 3, created_at: AT };
    const first = await ledger.recordUsage(known);
    await fixture.rows(`update ledger_settings set archive_horizon = '2025-06-01T00:00:00Z'`);
    const appending = await fixture.open({ appendAlways: true, groupCommit: false });
    const old = { kilo_user_id: user, cost: 1, created_at: '2025-05-31T23:59:59.999999Z' };
    const ways: ((event: UsageEvent) => Promise<unknown>)[] = [
      (event) => ledger.recordUsage(event),
      (event) => appending.recordUsage(event),
      (event) => insertUsageAndMetadataWithBalanceUpdate(fixture.database.pool, event),
    ];
    for (const record of ways) {
      expect(await ledgerErrorOf(record(old))).toMatchObject({
        code: 'archived_period',
        details: { field: 'created_at' },
      });
      expect(await record(known)).toEqual({ ...first, status: 'duplicate' });
    }
    const results = await ledger.recordUsageBatch([
      old,
      known,
      { ...old, created_at: '2025-06-01T00:00:00Z' },
      { ...old, created_at: null },
    ]);
    expect(results.map(({ status }) => status)).toEqual([
      'rejected',
      'duplicate',
      'recorded',
      'recorded',
    ]);
    await fixture.rows('update ledger_settings set archive_horizon = null');
    await fixture.expectExact();
  });
});

describe('NUL bytes', () => {
  it('are removed and counted, and lose no event', async () => {
    const user = await fixture.addUser();
    const before = (await ledger.metrics.nulBytesRemoved.get()).values[0]?.value ?? 0;
    const { id } = await ledger.recordUsage({
      kilo_user_id: `${user}\0`,
      cost: 1,
      model: '\0m\0',
      metadata: { editor_name: 'e\0', user_prompt_prefix: '\0p' },
    });
    const [row] = await fixture.rows(
      `select u.kilo_user_id, u.model, m.user_prompt_prefix, editor_name
       from microdollar_usage as u join microdollar_usage_metadata as m using (id)
       join editor_name using (editor_name_id) where id = $1`,
      [id],
    );
    const clean = { kilo_user_id: user, model: 'm', user_prompt_prefix: 'p', editor_name: 'e' };
    expect(row).toEqual(clean);
    expect((await ledger.metrics.nulBytesRemoved.get()).values[0]?.value).toBe(before + 5);
  });
});

describe('the balance an answer tells', () => {
  it('is at least what was answered before and at most what was sent, whoever writes and holds', async () => {
    const user = await fixture.addUser();
    const organization = await fixture.addOrganization();
    const rivals = await Promise.all([
      fixture.open({ backgroundFold: true }),
      fixture.open({ appendAlways: true, backgroundFold: true }),
      fixture.open({ groupCommit: false }),
    ]);
    const ways = [
      ...rivals.map((rival) => (event: UsageEvent) => rival.recordUsage(event)),
      (event: UsageEvent) => insertUsageAndMetadataWithBalanceUpdate(fixture.database.pool, event),
    ];
    const sums = () =>
      new Map<string | null, number>([
        [null, 0],
        [organization, 0],
      ]);
    const [sent, answered] = [sums(), sums()];
    const add = (to: Map<string | null, number>, payer: string | null, cost: number) =>
      to.set(payer, (to.get(payer) ?? 0) + cost);
    const outside: string[] = [];
    const callers = Array.from({ length: 24 }, async (_, caller) => {
      const record = ways[caller % ways.length] as (typeof ways)[number];
      const organization_id = caller % 8 < 4 ? organization : null;
      for (let round = 0; round < 25; round++) {
        const cost = 1 + ((caller + round) % 9);
        const least = (answered.get(organization_id) ?? 0) + cost;
        add(sent, organization_id, cost);
        const created_at = new Date(Date.UTC(2025, 4, 6 + (round % 3))).toISOString();
        const event = { kilo_user_id: user, organization_id, cost, created_at };
        const used = Number((await record(event)).new_microdollars_used);
        const most = sent.get(organization_id) ?? 0;
        if (!(used >= least && used <= most)) outside.push(`${used} is not in ${least}..${most}`);
        add(answered, organization_id, cost);
      }
    });
    let isDone = false;
    const holding = (async () => {
      await using sessions = await openSessions(fixture.database.url, 1);
      const holder = sessions.all[0] as Session;
      for (let turn = 0; !isDone; turn++) {
        await holder.run('begin');
        await holder.run(
          turn % 2
            ? 'select from organizations for update'
            : 'select from kilocode_users for update',
        );
        await holder.run('select pg_sleep(0.02)');
        await holder.run('commit');
      }
    })();
    await Promise.all(callers);
    isDone = true;
    await holding;
    expect(outside).toEqual([]);
    expect(await ledger.getUserBalance(user)).toBe(sent.get(null));
    expect(await ledger.getOrganizationBalance(organization)).toBe(sent.get(organization));
    await Promise.all(rivals.map((rival) => rival.close()));
    await fixture.expectExact();
  });

  const FAR = 2n ** 53n - 5n;
  const far = async (table: string, id: string, amount: bigint) => {
    await fixture.rows(
      `update ${table} set microdollars_used = $2, opening_microdollars_used = $2
       where id::text = $1`,
      [id, amount],
    );
  };
  const ways: [name: string, record: (event: UsageEvent) => Promise<unknown>][] = [
    ['alone', (event) => ledger.recordUsage(event)],
    ['in a batch', async (event) => (await ledger.recordUsageBatch([event]))[0]],
    ['on a pool', (event) => insertUsageAndMetadataWithBalanceUpdate(fixture.database.pool, event)],
    [
      'in a transaction',
      async (event) => {
        const client = await fixture.database.pool.connect();
        try {
          await client.query('begin');
          const result = await insertUsageAndMetadataWithBalanceUpdate(client, event);
          await client.query('commit');
          return result;
        } finally {
          client.release();
        }
      },
    ],
  ];

  it.each(
    ways.flatMap(([name, record]) =>
      [FAR, -FAR].flatMap((amount) =>
        ['user', 'organization'].map((payer) => ({ name, record, amount, payer })),
      ),
    ),
  )(
    'past 2^53 is exact, and what is recorded is said to be: $name, $amount, $payer (I9)',
    async ({ record, amount, payer }) => {
      const user = await fixture.addUser();
      const organization = payer === 'organization' ? await fixture.addOrganization() : null;
      const [table, id] = organization ? ['organizations', organization] : ['kilocode_users', user];
      await far(table as string, id as string, amount);
      const cost = amount > 0n ? 10 : -10;
      const event = {
        id: randomUUID(),
        kilo_user_id: user,
        organization_id: organization,
        cost,
        created_at: AT,
      };
      const exact = amount + BigInt(cost);
      expect(await record(event)).toMatchObject({
        status: 'recorded',
        new_microdollars_used: exact,
      });
      expect(await record(event)).toMatchObject({
        status: 'duplicate',
        new_microdollars_used: exact,
      });
      const balance = organization
        ? ledger.getOrganizationBalance(organization)
        : ledger.getUserBalance(user);
      expect(await balance).toBe(exact);
      expect(await usageCount(user)).toBe(1);
      const back = await record({ ...event, id: randomUUID(), cost: -cost });
      expect(back).toMatchObject({ status: 'recorded', new_microdollars_used: Number(amount) });
      await fixture.expectExact();
    },
  );

  it('is null where it cannot be read just now; what was recorded stays so (I9)', async () => {
    const own = await createLedgerFixture();
    const proxy = await startCuttingProxy(own.database.url);
    try {
      const [user, other] = [await own.addUser(), await own.addUser()];
      const cut = await own.open({ databaseUrl: proxy.url });
      const event = { id: randomUUID(), kilo_user_id: user, cost: 7, created_at: AT };
      for (const statement of ['microdollar_settle_user', 'microdollar_read_balances_user']) {
        proxy.cutNext(statement, 'beforeServer', 1_000);
        const answers = await Promise.all([
          cut.recordUsage({ ...event, id: randomUUID() }),
          cut.recordUsage({ ...event, id: randomUUID(), kilo_user_id: other }),
        ]);
        proxy.cutNext('nothing', 'beforeServer');
        for (const { status, new_microdollars_used: used } of answers) {
          expect(status).toBe('recorded');
          expect(used === null || (used as number) % 7 === 0).toBe(true);
        }
        if (statement.includes('settle')) {
          expect(answers.map((each) => each.new_microdollars_used)).toEqual([null, null]);
        }
      }
      const { values } = await cut.metrics.backgroundErrors.get();
      expect(values.some(({ labels }) => labels.task === 'settle')).toBe(true);
      expect(await own.rows('select from microdollar_usage')).toHaveLength(4);
      // Lost once only, it is asked again.
      proxy.cutNext('microdollar_settle_user', 'afterCommit', 1);
      expect(await cut.recordUsage(event)).toMatchObject({
        status: 'recorded',
        new_microdollars_used: 21,
      });
      await own.expectExact();
    } finally {
      await own.close();
      await proxy[Symbol.asyncDispose]();
    }
  });

  it('is not asked for where it is not wanted: the write is one insert', async () => {
    const user = await fixture.addUser();
    const quiet = await fixture.open();
    const event = { id: randomUUID(), kilo_user_id: user, cost: 3, created_at: AT };
    const none = { balance: false } as const;
    const first = await quiet.recordUsage(event, none);
    expect(first).toEqual({
      id: event.id,
      status: 'recorded',
      created_at: '2025-05-06T07:08:09.000000Z',
    });
    expect(await quiet.recordUsage(event, none)).toEqual({ ...first, status: 'duplicate' });
    const batch = await quiet.recordUsageBatch(
      [{ ...event, id: null }, { ...event, cost: 0.5 }, event],
      none,
    );
    expect(batch.map(({ status }) => status)).toEqual(['recorded', 'rejected', 'duplicate']);
    expect(batch[0]).not.toHaveProperty('new_microdollars_used');
    expect(quiet.backlog.depth).toBe(2);
    expect(await fixture.rows(PERSONAL_DAILY, [user])).toEqual([]);
    expect(await quiet.getUserBalance(user)).toBe(6);
    await fixture.expectExact();
  });
});

describe('the metrics', () => {
  it('count outcomes, refusals by code, and what is unsettled behind a row that is held', async () => {
    const user = await fixture.addUser();
    const metered = await fixture.open({ groupCommit: false });
    const countIn = async (metric: 'events' | 'rejections', label: object) => {
      const { values } = await metered.metrics[metric].get();
      const own = values.filter(({ labels }) =>
        Object.entries(label).every(([name, value]) => Reflect.get(labels, name) === value),
      );
      return own.reduce((sum, each) => sum + each.value, 0);
    };
    const event = { id: randomUUID(), kilo_user_id: user, cost: 1, created_at: AT };
    await metered.recordUsage(event);
    await metered.recordUsage(event);
    await ledgerErrorOf(metered.recordUsage({ ...event, cost: 2 }));
    await metered.recordExaUsage({ kilo_user_id: user, cost: 1, path: '/search' });
    await ledgerErrorOf(metered.recordExaUsage({ kilo_user_id: '?', cost: 1, path: '/search' }));
    expect(await countIn('events', { kind: 'usage', outcome: 'recorded' })).toBe(1);
    expect(await countIn('events', { kind: 'usage', outcome: 'duplicate' })).toBe(1);
    expect(await countIn('events', { kind: 'usage', outcome: 'rejected' })).toBe(1);
    expect(await countIn('events', { kind: 'exa', outcome: 'recorded' })).toBe(1);
    expect(await countIn('events', { kind: 'exa', outcome: 'rejected' })).toBe(1);
    expect(await countIn('rejections', { code: 'idempotency_conflict' })).toBe(1);
    expect(await countIn('rejections', { code: 'unknown_user' })).toBe(1);
    expect((await metered.metrics.retries.get()).values).toEqual([]);
    await metered.fold();
    const client = await fixture.database.pool.connect();
    await client.query('begin');
    await client.query('select from kilocode_users where id = $1 for update', [user]);
    await metered.recordUsage({ ...event, id: null });
    await metered.recordUsage({ ...event, id: null });
    await metered.recordExaUsage({ kilo_user_id: user, cost: 1, path: '/search' });
    expect(metered.backlog.depth).toBe(2);
    expect((await metered.fold()).remaining).toBe(3);
    expect((await metered.getPendingStatus()).depth).toBe(3);
    await client.query('commit');
    client.release();
    await metered.fold();
    expect(metered.backlog).toEqual({ depth: 0, oldestAgeMs: 0 });
    await fixture.expectExact();
  });
});

describe('programs that know only the seed’s statement', () => {
  it('write beside the ledger, on the same user and day, and the ledger stays exact', async () => {
    const user = await fixture.addUser();
    const rival = await fixture.open({ groupCommit: false, backgroundFold: true });
    const foreign = Array.from({ length: 4 }, async () => {
      for (let round = 0; round < 20; round++) {
        await fixture.rows(SEED_UPSERT, [randomUUID(), user, 3, AT]);
      }
    });
    const own = Array.from({ length: 8 }, async () => {
      for (let round = 0; round < 20; round++) {
        await rival.recordUsage({ kilo_user_id: user, cost: 2, created_at: AT });
      }
    });
    await Promise.all([...foreign, ...own]);
    await rival.close();
    expect(await ledger.getUserBalance(user)).toBe(4 * 20 * 3 + 8 * 20 * 2);
    await fixture.expectExact();
  });
});

describe('close', () => {
  it('flushes what was accepted, then refuses', async () => {
    const user = await fixture.addUser();
    for (const options of [{}, { groupCommit: false }, { appendAlways: true }]) {
      const closing = await fixture.open(options);
      const event = { kilo_user_id: user, cost: 1, created_at: AT };
      const accepted = Array.from({ length: 700 }, () => closing.recordUsage(event));
      const exa = closing.recordExaUsage({ ...event, path: '/search' });
      const closed = closing.close();
      expect(closing.close()).toBe(closed);
      expect(await ledgerErrorOf(closing.recordUsage(event))).toMatchObject({
        code: 'unavailable',
        retryable: true,
      });
      await closed;
      const settled = await Promise.allSettled([...accepted, exa]);
      expect(settled.filter(({ status }) => status === 'rejected')).toEqual([]);
    }
    expect(await usageCount(user)).toBe(2100);
    await fixture.expectExact();
  });
});

describe('a database that cannot be reached', () => {
  it('is `unavailable` at the start', async () => {
    const open = fixture.open({ databaseUrl: 'postgres://postgres@127.0.0.1:1/x' });
    expect(await ledgerErrorOf(open)).toMatchObject({ code: 'unavailable', retryable: true });
  });
});
