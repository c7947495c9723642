import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startTestServer, type TestServer } from './serverHarness.js';

let service: TestServer;
let user: { id: string; key: string };
let other: { id: string; key: string };
let organization: string;
let strangeOrganization: string;

const ids = [randomUUID(), randomUUID(), randomUUID(), randomUUID()];

beforeAll(async () => {
  service = await startTestServer({ version: '9.9.9', statusParts });
  user = await service.newUser();
  other = await service.newUser();
  organization = await service.newOrganization(user.id);
  strangeOrganization = await service.newOrganization();
  const base = { kilo_user_id: user.id, model: 'a', input_tokens: 10, output_tokens: 2 };
  const events = [
    { ...base, id: ids[0], cost: 3_000_000, created_at: '2026-03-01T00:00:00Z' },
    { ...base, id: ids[1], cost: 500, created_at: '2026-03-01T23:59:59.999999Z', model: 'b' },
    { ...base, id: ids[2], cost: 40, created_at: '2026-03-02T00:00:00Z', has_error: true },
    {
      ...base,
      id: ids[3],
      cost: 7,
      created_at: '2026-03-01T12:00:00.123456+05:30',
      organization_id: organization,
    },
  ];
  const answer = await service.post('/api/usage', { events });
  expect(answer.body.results.map((result: { status: string }) => result.status)).toEqual(
    events.map(() => 'recorded'),
  );
});
afterAll(() => service?.stop());

const statusParts = {
  good: async () => ({ depth: 1 }),
  bad: async () => {
    throw new Error('secret of the part');
  },
};

const data = (answer: { body: { result: { data: unknown } } }) => answer.body.result.data;
const failure = (answer: { status: number; body: { error: { data: { ledgerCode: string } } } }) => [
  answer.status,
  answer.body.error?.data.ledgerCode,
];

describe('kiloPass.getAverageMonthlyUsageLast3Months', () => {
  const procedure = 'kiloPass.getAverageMonthlyUsageLast3Months';

  it('answers in plain JSON, and says in a header what answered', async () => {
    const answer = await service.query(procedure, { asOf: '2026-03-10T00:00:00Z' }, user.key);
    expect(answer.status).toBe(200);
    expect(answer.body).toEqual({ result: { data: { averageMonthlyUsageUsd: 1 } } });
    expect(answer.headers.get('x-microdollar-source')).toMatch(
      /^(rollup|raw); server=primary; as-of=\d{4}-/,
    );
    const now = await service.query(procedure, undefined, other.key);
    expect(data(now)).toEqual({ averageMonthlyUsageUsd: 0 });
  });

  it('keeps to the own user, unless the key is a service key', async () => {
    const input = { asOf: '2026-03-10T00:00:00Z', kiloUserId: user.id };
    expect(failure(await service.query(procedure, input, other.key))).toEqual([403, 'forbidden']);
    expect(data(await service.query(procedure, input, user.key))).toEqual({
      averageMonthlyUsageUsd: 1,
    });
    const serviceKey = await service.newServiceKey(['usage:read']);
    expect((await service.query(procedure, input, serviceKey)).status).toBe(200);
    const without = await service.query(procedure, undefined, serviceKey);
    expect(failure(without)).toEqual([400, 'invalid_request']);
    expect(without.body.error.message).toContain('kiloUserId');
    const limited = await service.newServiceKey(['usage:read'], organization);
    expect(failure(await service.query(procedure, input, limited))).toEqual([403, 'forbidden']);
  });

  it('refuses bad input, keys and scopes in the shape of tRPC, with our code', async () => {
    const call = (input: unknown, key?: string | null) => service.query(procedure, input, key);
    expect(failure(await call({ asOf: '2026-03-10' }, user.key))).toEqual([400, 'invalid_request']);
    expect(failure(await call({ since: 1 }, user.key))).toEqual([400, 'invalid_request']);
    const unauthorized = await call(undefined, null);
    expect(failure(unauthorized)).toEqual([401, 'unauthorized']);
    expect(unauthorized.headers.get('www-authenticate')).toBe('Bearer');
    expect(failure(await call(undefined, 'wrong'))).toEqual([401, 'unauthorized']);
    const writer = await service.newUser(['usage:write']);
    const lacking = await call(undefined, writer.key);
    expect(failure(lacking)).toEqual([403, 'forbidden']);
    expect(lacking.body.error.data.details).toEqual({ scope: 'usage:read' });
    const malformed = await service.get(`/api/trpc/${procedure}?input={`, user.key);
    expect(failure(malformed)).toEqual([400, 'invalid_request']);
    expect(malformed.body.error.data.stack).toBeUndefined();
    expect(failure(await service.get('/api/trpc/no.such', user.key))).toEqual([404, 'not_found']);
    const posted = await service.post(`/api/trpc/${procedure}`, {}, user.key);
    expect(failure(posted)).toEqual([405, 'invalid_request']);
  });

  it('answers a batch, up to its limit', async () => {
    const many = (n: number) => Array.from({ length: n }, () => procedure).join(',');
    const path = (n: number) => `/api/trpc/${many(n)}?batch=1&input={}`;
    const answer = await service.get(path(2), user.key);
    expect(answer.status).toBe(200);
    expect(answer.body).toHaveLength(2);
    expect((await service.get(path(21), user.key)).status).toBe(400);
  });
});

describe('usage.daily', () => {
  const march = { from: '2026-03-01', until: '2026-03-02' };

  it('answers personal days, until inclusive, and an organization apart', async () => {
    expect(data(await service.query('usage.daily', march, user.key))).toEqual([
      { usage_date: '2026-03-01', total_cost_microdollars: 3_000_500 },
      { usage_date: '2026-03-02', total_cost_microdollars: 40 },
    ]);
    const shared = { ...march, organizationId: organization };
    expect(data(await service.query('usage.daily', shared, user.key))).toEqual([
      { usage_date: '2026-03-01', total_cost_microdollars: 7 },
    ]);
  });

  it('works with braces in the URL as they are', async () => {
    const path = `/api/trpc/usage.daily?input={"from":"2026-03-01","until":"2026-03-02","organizationId":null}`;
    expect(data(await service.get(path, user.key))).toHaveLength(2);
  });

  it.each([
    ['no input', undefined],
    ['a day that is not', { from: '2026-02-30', until: '2026-03-02' }],
    ['an instant', { from: '2026-03-01T00:00:00Z', until: '2026-03-02' }],
    ['days swapped', { from: '2026-03-02', until: '2026-03-01' }],
    ['more than 1,100 days', { from: '2020-01-01', until: '2026-03-02' }],
    ['an unknown field', { ...march, user: 'x' }],
    ['an organization that is no UUID', { ...march, organizationId: 'acme' }],
  ])('refuses %s', async (_name, input) => {
    const answer = await service.query('usage.daily', input, user.key);
    expect(failure(answer)).toEqual([400, 'invalid_request']);
  });

  it('takes exactly 1,100 days', async () => {
    const answer = await service.query(
      'usage.daily',
      { from: '2023-02-27', until: '2026-03-02' },
      user.key,
    );
    expect(answer.status).toBe(200);
  });

  it('names a field as it was sent', async () => {
    const { body } = await service.query('usage.report', { kilo_user_id: user.id }, other.key);
    expect(body.error.data.details).toEqual({ field: 'kilo_user_id' });
    const keys = await service.query('keys.list', { kilo_user_id: user.id }, other.key);
    expect(keys.body.error.data.details).toEqual({ field: 'kilo_user_id' });
  });

  it("refuses another user's data and a foreign organization", async () => {
    const foreign = { ...march, kiloUserId: user.id };
    expect(failure(await service.query('usage.daily', foreign, other.key))).toEqual([
      403,
      'forbidden',
    ]);
    const strange = { ...march, organizationId: strangeOrganization };
    expect(failure(await service.query('usage.daily', strange, user.key))).toEqual([
      403,
      'forbidden',
    ]);
    const limited = await service.newServiceKey(['usage:read'], organization);
    const own = { ...foreign, organizationId: organization };
    expect((await service.query('usage.daily', own, limited)).status).toBe(200);
    expect((await service.query('usage.daily', foreign, limited)).status).toBe(403);
  });
});

describe('usage.recent, usage.byModel, balance.current', () => {
  it('lists own requests, newest first, to the microsecond', async () => {
    const recent = data(await service.query('usage.recent', { limit: 3 }, user.key));
    expect(recent).toMatchObject([
      { id: ids[2], cost: 40, has_error: true, organization_id: null },
      { id: ids[1], created_at: '2026-03-01T23:59:59.999999Z', model: 'b' },
      {
        id: ids[3],
        created_at: '2026-03-01T06:30:00.123456Z',
        organization_id: organization,
        input_tokens: 10,
        output_tokens: 2,
      },
    ]);
    expect(data(await service.query('usage.recent', undefined, other.key))).toEqual([]);
    const tooMany = await service.query('usage.recent', { limit: 201 }, user.key);
    expect(failure(tooMany)).toEqual([400, 'invalid_request']);
  });

  it('reads recent usage by its index', async () => {
    const client = await service.database.pool.connect();
    try {
      const plan = await client.query(
        `explain (costs off) select id from microdollar_usage
         where kilo_user_id = 'x' order by created_at desc limit 50`,
      );
      const text = plan.rows.map((row) => row['QUERY PLAN']).join('\n');
      expect(text).toContain('idx_microdollar_usage_kilo_user_id_created_at');
      expect(text).not.toContain('Seq Scan');
    } finally {
      client.release();
    }
  });

  it('sums a UTC day by model in one scope', async () => {
    const tokens = {
      requests: 1,
      input_tokens: 10,
      output_tokens: 2,
      cache_write_tokens: 0,
      cache_hit_tokens: 0,
    };
    const input = { date: '2026-03-01' };
    expect(data(await service.query('usage.byModel', input, user.key))).toEqual([
      { model: 'a', cost: 3_000_000, ...tokens },
      { model: 'b', cost: 500, ...tokens },
    ]);
    const shared = { ...input, organizationId: organization };
    expect(data(await service.query('usage.byModel', shared, user.key))).toEqual([
      { model: 'a', cost: 7, ...tokens },
    ]);
  });

  it('answers the balance of the user and of their organizations, with what is held apart', async () => {
    await service.post('/api/credits', { kilo_user_id: user.id, usd: '10' });
    await service.post('/api/credits', { organization_id: organization, usd: 1 });
    const held = async (amount: number, organization_id: string | null) => {
      const hold = { kilo_user_id: user.id, organization_id, amount };
      const { body } = await service.post('/api/holds', hold, user.key);
      expect(body.status).toBe('granted');
      return body.id;
    };
    await held(40, null);
    await held(3, organization);
    await service.post(`/api/holds/${await held(50, null)}/release`, {}, user.key);
    expect(data(await service.query('balance.current', undefined, user.key))).toEqual({
      microdollars_used: 3_000_540,
      total_microdollars_acquired: 10_000_000,
      next_credit_expiry_at: null,
      remaining_microdollars: 6_999_460,
      held_microdollars: 40,
      organizations: [
        {
          organization_id: organization,
          name: 'Acme',
          role: 'member',
          microdollars_used: 7,
          total_microdollars_acquired: 1_000_000,
          next_credit_expiry_at: null,
          remaining_microdollars: 999_993,
          held_microdollars: 3,
        },
      ],
    });
    const unknown = await service.query('balance.current', { kiloUserId: 'nobody' });
    expect(failure(unknown)).toEqual([404, 'unknown_user']);
  });
});

describe('operations.status', () => {
  it('tells the admin how the service is; a failing part hides its reason', async () => {
    const answer = await service.query('operations.status');
    expect(data(answer)).toMatchObject({
      version: '9.9.9',
      isShuttingDown: false,
      readMode: 'rollup',
      database: { isReachable: true, reason: null },
      pending: { depth: expect.any(Number), oldestAgeMs: expect.any(Number) },
      parts: { good: { depth: 1 }, bad: { error: { code: 'internal' } } },
    });
    const { events } = data(answer) as { events: { outcome: string; count: number }[] };
    expect(events.find((event) => event.outcome === 'recorded')?.count).toBe(4);
    expect(JSON.stringify(answer.body)).not.toContain('secret of the part');
  });

  it('is not for other keys', async () => {
    expect(failure(await service.query('operations.status', undefined, user.key))).toEqual([
      403,
      'forbidden',
    ]);
  });
});

describe('requests without a price', () => {
  it('are told from those that cost nothing, in lists and in detail', async () => {
    const payer = await service.newUser();
    const [priced, waiting, late] = [randomUUID(), randomUUID(), randomUUID()];
    const of = (id: string, minute: number, metadata: object) => ({
      id,
      kilo_user_id: payer.id,
      cost: 0,
      created_at: `2026-03-01T00:0${minute}:00Z`,
      metadata,
    });
    await service.ledger.recordUsageBatch([
      of(priced, 3, { price_source: 'list' }),
      of(waiting, 2, { unpriced: true }),
      of(late, 1, { unpriced: true }),
      of(randomUUID(), 0, { adjusts_usage_id: late, price_source: 'late', correction_number: 1 }),
    ]);
    const expected = [
      { id: priced, unpriced: false },
      { id: waiting, unpriced: true },
      { id: late, unpriced: false },
    ];
    for (const name of ['usage.requests', 'usage.recent', 'profile.account']) {
      const { requests, recent, ...rows } = data(
        await service.query(name, undefined, payer.key),
      ) as Record<string, object[]>;
      const listed = requests ?? recent ?? Object.values(rows).flat();
      expect(listed.slice(0, 3)).toMatchObject(expected);
    }
    for (const each of expected) {
      const detail = await service.query('usage.request', { id: each.id }, payer.key);
      expect(data(detail)).toMatchObject(each);
    }
  });
});
