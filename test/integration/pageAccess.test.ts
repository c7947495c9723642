import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { writeKeyUses } from '../../src/accounts/keyUse.js';
import { addOrganizationMember } from '../../src/accounts/organizations.js';
import { startTestServer, type TestServer } from './serverHarness.js';

/** Who may see and change what, on every procedure of the page. */

let service: TestServer;
type Person = { id: string; key: string; keyId: string };
let owner: Person;
let member: Person;
let removed: Person;
let stranger: Person;
let organization: string;
const ids = { personal: randomUUID(), shared: randomUUID(), removed: randomUUID() };
const RANGE = { from: '2026-03-01', until: '2026-03-31' };

beforeAll(async () => {
  service = await startTestServer();
  const scopes = ['usage:write', 'usage:read', 'gateway'] as const;
  [owner, member, removed, stranger] = [
    await service.newUser([...scopes]),
    await service.newUser([...scopes]),
    await service.newUser([...scopes]),
    await service.newUser([...scopes]),
  ];
  organization = await service.newOrganization(member.id, removed.id);
  await addOrganizationMember(service.ledger.pool, organization, owner.id, 'owner');
  const at = '2026-03-10T12:00:00Z';
  const events = [
    { id: ids.personal, kilo_user_id: member.id, cost: 1_000, model: 'private', created_at: at },
    {
      id: ids.shared,
      kilo_user_id: member.id,
      organization_id: organization,
      cost: 20,
      model: 'shared',
      created_at: at,
      api_key_id: member.keyId,
      end_user: 'eve',
      tags: ['a', 'b'],
      metadata: { price_source: 'list', price_version: '2026-03', latency: 120 },
    },
    {
      id: ids.removed,
      kilo_user_id: removed.id,
      organization_id: organization,
      cost: 300,
      created_at: at,
    },
  ];
  const answer = await service.post('/api/usage', { events });
  expect(answer.body.results.map(({ status }: { status: string }) => status)).toEqual(
    events.map(() => 'recorded'),
  );
  const gone = await service.call(
    'DELETE',
    `/api/organizations/${organization}/members/${removed.id}`,
  );
  expect(gone.status).toBe(200);
});
afterAll(() => service?.stop());

// biome-ignore lint/suspicious/noExplicitAny: tests assert on the shape.
const dataOf = (answer: { status: number; body: any }) => {
  expect([answer.status, answer.body.error]).toEqual([200, undefined]);
  return answer.body.result.data;
};
// biome-ignore lint/suspicious/noExplicitAny: tests assert on the shape.
const codeOf = (answer: { body: any }) => answer.body.error?.data?.ledgerCode ?? 'allowed';
const mutate = (procedure: string, input: unknown, key: string) =>
  service.post(`/api/trpc/${procedure}`, input, key);

describe('every scope of a user together', () => {
  const total = async (key: string, input: object = {}) => {
    const answer = await service.query(
      'usage.report',
      { ...RANGE, all_scopes: true, ...input },
      key,
    );
    return dataOf(answer).total.cost_microdollars;
  };

  it('is personal usage and the own part of each organization, for current members', async () => {
    expect(await total(member.key)).toBe(1_020);
    expect(await total(owner.key)).toBe(0);
    // What a removed member spent there is the organization's.
    expect(await total(removed.key)).toBe(0);
    expect(await total(stranger.key)).toBe(0);
    expect(await total(member.key, { api_key_id: member.keyId })).toBe(20);
  });

  it('is the same by HTTP, and by raw usage where nothing is proven', async () => {
    const search = 'from=2026-03-01&until=2026-03-31&all_scopes=true&by=model';
    const answer = await service.get(`/api/reports/usage?${search}`, member.key);
    expect(answer.body.rows.map((row: { model: string }) => row.model)).toEqual([
      'private',
      'shared',
    ]);
    expect(answer.body.source.mode).toBe('rollup');
    await service.ledger.pool.query('update ledger_settings set installed_empty = false');
    const raw = await service.get(`/api/reports/usage?${search}`, member.key);
    expect([raw.body.source.mode, raw.body.rows]).toEqual(['raw', answer.body.rows]);
    await service.ledger.pool.query('update ledger_settings set installed_empty = true');
  });

  it('is of no one else, and goes with no organization', async () => {
    const ask = (input: object, key: string) =>
      service.query('usage.report', { ...RANGE, all_scopes: true, ...input }, key);
    expect(codeOf(await ask({ kilo_user_id: member.id }, owner.key))).toBe('forbidden');
    expect(codeOf(await ask({ organization_id: organization }, member.key))).toBe(
      'invalid_request',
    );
    const limited = await service.newServiceKey(['usage:read'], organization);
    expect(codeOf(await ask({ kilo_user_id: member.id }, limited))).toBe('forbidden');
    expect(
      await total(await service.newServiceKey(['usage:read']), { kilo_user_id: member.id }),
    ).toBe(1_020);
  });

  it('is read by every key of the user, whoever pays for what that one passes', async () => {
    const { body } = await service.post('/api/keys', {
      kilo_user_id: member.id,
      organization_id: organization,
      scopes: ['usage:read'],
    });
    expect(await total(body.key)).toBe(1_020);
    const { keys } = dataOf(await service.query('keys.list', undefined, body.key));
    expect(keys.map(({ id }: { id: string }) => id)).toContain(member.keyId);
    const { budgets } = dataOf(await service.query('budgets.list', {}, body.key));
    expect(budgets).toMatchObject([{ is_balance: true, kilo_user_id: member.id }]);
    // It makes none that pay from elsewhere.
    const personal = await mutate('keys.create', { scopes: ['usage:read'] }, body.key);
    expect(codeOf(personal)).toBe('forbidden');
  });
});

describe('requests', () => {
  const list = (input: object, key: string) => service.query('usage.requests', input, key);
  const idsOf = async (input: object, key: string) =>
    dataOf(await list(input, key)).requests.map(({ id }: { id: string }) => id);

  it('are the own ones by scope, all of them for an owner', async () => {
    expect(await idsOf({}, member.key)).toEqual([ids.personal]);
    expect((await idsOf({ all_scopes: true }, member.key)).sort()).toEqual(
      [ids.personal, ids.shared].sort(),
    );
    expect(await idsOf({ organization_id: organization, member: member.id }, member.key)).toEqual([
      ids.shared,
    ]);
    expect((await idsOf({ organization_id: organization }, owner.key)).sort()).toEqual(
      [ids.shared, ids.removed].sort(),
    );
    expect(await idsOf({ organization_id: organization, member: member.id }, owner.key)).toEqual([
      ids.shared,
    ]);
  });

  it('of others are out of reach', async () => {
    const shared = { organization_id: organization };
    for (const [input, key] of [
      [{ kilo_user_id: member.id }, owner.key],
      [{ kilo_user_id: member.id }, stranger.key],
      [shared, member.key],
      [{ ...shared, member: owner.id }, member.key],
      [shared, stranger.key],
      [{ ...shared, member: stranger.id }, stranger.key],
      [shared, removed.key],
      [{ ...shared, member: removed.id }, removed.key],
      [{ api_key_id: member.keyId }, stranger.key],
    ] as const) {
      expect([input, codeOf(await list(input, key))]).toEqual([input, 'forbidden']);
    }
    // Another user beside the own name: of whom are the requests then?
    for (const key of [member.key, owner.key]) {
      const both = { ...shared, member: member.id, kilo_user_id: removed.id };
      expect(codeOf(await list(both, key))).toBe('invalid_request');
    }
    expect(await idsOf({}, removed.key)).toEqual([]);
    expect(await idsOf({ all_scopes: true }, removed.key)).toEqual([]);
  });

  it('that were made for an organization are its own, the last ones too', async () => {
    const lastOf = async (key: string, input?: object) =>
      dataOf(await service.query('usage.recent', input, key)).map(({ id }: { id: string }) => id);
    expect(await lastOf(removed.key)).toEqual([]);
    expect(dataOf(await service.query('profile.account', undefined, removed.key)).recent).toEqual(
      [],
    );
    expect((await lastOf(member.key)).sort()).toEqual([ids.personal, ids.shared].sort());
    // However many of them are newer than the own ones.
    const personal = randomUUID();
    const addRequests = `insert into microdollar_usage (id, kilo_user_id, organization_id, cost, created_at)
      select coalesce($3, gen_random_uuid()), $1, $2, 1, now() - $5::integer * interval '1 hour'
      from generate_series(1, $4::integer)`;
    await service.database.pool.query(addRequests, [removed.id, organization, null, 1_500, 0]);
    await service.database.pool.query(addRequests, [removed.id, null, personal, 1, 1]);
    expect(await lastOf(removed.key)).toEqual([personal]);
    await service.database.pool.query(
      `delete from microdollar_usage
       where kilo_user_id = $1 and id <> $2`,
      [removed.id, ids.removed],
    );
    // An administrator reads them all.
    const admin = await service.newServiceKey(['usage:read']);
    expect(await lastOf(admin, { kiloUserId: removed.id })).toEqual([ids.removed]);
  });

  it('are filtered, and paged without a gap or a repeat', async () => {
    const lister = await service.newUser();
    const events = Array.from({ length: 57 }, (_, index) => ({
      id: randomUUID(),
      kilo_user_id: lister.id,
      cost: index % 10 === 9 ? -5 : index,
      model: `model-${index % 3}`,
      has_error: index % 7 === 0,
      // Many at one instant.
      created_at: `2026-03-0${1 + (index % 2)}T00:00:00Z`,
    }));
    await service.ledger.recordUsageBatch(events);
    const seen: string[] = [];
    let cursor: string | null = null;
    do {
      const page: { requests: { id: string }[]; next: string | null } = dataOf(
        await list({ limit: 10, cursor }, lister.key),
      );
      seen.push(...page.requests.map(({ id }) => id));
      cursor = page.next;
    } while (cursor !== null);
    expect(seen).toHaveLength(events.length);
    expect(new Set(seen)).toEqual(new Set(events.map(({ id }) => id)));

    const found = async (input: object) =>
      (await idsOf({ limit: 100, ...input }, lister.key)).sort();
    const expected = (fits: (event: (typeof events)[number]) => boolean) =>
      events
        .filter(fits)
        .map(({ id }) => id)
        .sort();
    expect(await found({ model: 'MODEL-1' })).toEqual(expected(({ model }) => model === 'model-1'));
    expect(await found({ status: 'error' })).toEqual(expected(({ has_error }) => has_error));
    expect(await found({ status: 'refund' })).toEqual(
      expected(({ has_error, cost }) => !has_error && cost < 0),
    );
    expect(await found({ min_cost: 10, max_cost: 20 })).toEqual(
      expected(({ cost }) => cost >= 10 && cost <= 20),
    );
    expect(await found({ from: '2026-03-02T00:00:00Z' })).toEqual(
      expected(({ created_at }) => created_at.startsWith('2026-03-02')),
    );
    expect(codeOf(await list({ cursor: 'x' }, lister.key))).toBe('invalid_request');
    expect(codeOf(await list({ status: 'odd' }, lister.key))).toBe('invalid_request');
    expect(codeOf(await list({ limit: 101 }, lister.key))).toBe('invalid_request');
  });

  it('look through a bounded number a page, and say how far', async () => {
    const busy = await service.newUser();
    await service.ledger.pool.query(
      `insert into microdollar_usage (id, kilo_user_id, model, cost, created_at)
       select gen_random_uuid(), $1, case when n = 1 then 'needle' else 'hay' end, 1,
         timestamptz '2026-03-01' + n * interval '1 second'
       from generate_series(1, 20500) as n`,
      [busy.id],
    );
    const first = dataOf(await list({ model: 'needle' }, busy.key));
    expect(first.requests).toEqual([]);
    expect(first.lookedUntil).toMatch(/^2026-03-01T00:08:21/);
    const second = dataOf(await list({ model: 'needle', cursor: first.next }, busy.key));
    expect(second.requests).toHaveLength(1);
    expect([second.next, second.lookedUntil]).toEqual([null, null]);
  });

  it('have a detail with price and attribution, for those who may see them', async () => {
    const detail = (id: string, key: string) => service.query('usage.request', { id }, key);
    const shared = dataOf(await detail(ids.shared, owner.key));
    expect(shared).toMatchObject({
      cost: 20,
      price_source: 'list',
      price_version: '2026-03',
      end_user: 'eve',
      tags: ['a', 'b'],
      organization_name: 'Acme',
      latency: 120,
      corrections: [],
    });
    expect(shared.key_prefix).toMatch(/^md_/);
    expect(dataOf(await detail(ids.shared, member.key)).id).toBe(ids.shared);
    for (const [id, key] of [
      [ids.personal, owner.key],
      [ids.personal, stranger.key],
      [ids.shared, stranger.key],
      [ids.shared, removed.key],
      [ids.removed, member.key],
      [ids.removed, removed.key],
      [randomUUID(), owner.key],
    ] as const) {
      expect(codeOf(await detail(id, key))).toBe('not_found');
    }
    const limited = await service.newServiceKey(['usage:read'], organization);
    expect(dataOf(await detail(ids.shared, limited)).id).toBe(ids.shared);
    expect(codeOf(await detail(ids.personal, limited))).toBe('not_found');
  });

  it('tell the refund of a request with it', async () => {
    const id = randomUUID();
    await service.ledger.recordUsage({ id, kilo_user_id: member.id, cost: 900, model: 'm' });
    await service.post('/api/adjustments', { usage_id: id, usd: '-0.0004' });
    const { corrections } = dataOf(await service.query('usage.request', { id }, member.key));
    expect(corrections).toMatchObject([{ cost: -400 }]);
  });
});

describe('keys', () => {
  const list = (input: object, key: string) => service.query('keys.list', input, key);

  it('are made with no more scopes than the key in use, named, renamed and revoked', async () => {
    const made = dataOf(
      await mutate(
        'keys.create',
        { name: ' laptop ', scopes: ['gateway'], organization_id: organization },
        member.key,
      ),
    );
    expect(made).toMatchObject({
      name: 'laptop',
      kilo_user_id: member.id,
      organization_id: organization,
      scopes: ['gateway'],
    });
    expect(made.key).toMatch(/^md_/);
    const { keys } = dataOf(await list({}, member.key));
    expect(keys.map(({ id }: { id: string }) => id)).toEqual(
      expect.arrayContaining([member.keyId, made.id]),
    );
    expect(JSON.stringify(keys)).not.toContain(made.key);
    expect(
      dataOf(await mutate('keys.rename', { id: made.id, name: 'desk' }, member.key)).name,
    ).toBe('desk');
    expect(
      dataOf(await mutate('keys.revoke', { id: made.id }, member.key)).revoked_at,
    ).not.toBeNull();
    expect((await service.query('session.current', undefined, made.key)).status).toBe(401);
  });

  it('never reach further than the key in use, whoever owns them', async () => {
    const reader = dataOf(await mutate('keys.create', { scopes: ['usage:read'] }, member.key));
    for (const scopes of [['gateway'], ['usage:read', 'usage:write'], ['admin']]) {
      expect(codeOf(await mutate('keys.create', { scopes }, reader.key))).toBe('forbidden');
    }
    expect(codeOf(await mutate('keys.create', { scopes: ['admin'] }, member.key))).toBe(
      'forbidden',
    );
    expect(codeOf(await mutate('keys.create', { scopes: [] }, member.key))).toBe('invalid_request');
    // A key to read with cannot cut off those that pay.
    expect(codeOf(await mutate('keys.revoke', { id: member.keyId }, reader.key))).toBe('forbidden');
    expect(codeOf(await mutate('keys.rename', { id: member.keyId, name: 'x' }, reader.key))).toBe(
      'forbidden',
    );
  });

  it('of others are out of reach', async () => {
    for (const key of [owner.key, stranger.key, removed.key]) {
      expect(codeOf(await mutate('keys.revoke', { id: member.keyId }, key))).toBe('not_found');
      expect(codeOf(await mutate('keys.rename', { id: member.keyId, name: 'x' }, key))).toBe(
        'not_found',
      );
      expect(codeOf(await list({ kilo_user_id: member.id }, key))).toBe('forbidden');
      const forOther = { scopes: ['usage:read'], kilo_user_id: member.id };
      expect(codeOf(await mutate('keys.create', forOther, key))).toBe('forbidden');
    }
    for (const key of [member.key, stranger.key, removed.key]) {
      expect(codeOf(await list({ organization_id: organization }, key))).toBe('forbidden');
    }
    for (const key of [stranger.key, removed.key]) {
      const forOrganization = { scopes: ['usage:read'], organization_id: organization };
      expect(codeOf(await mutate('keys.create', forOrganization, key))).toBe('forbidden');
    }
  });

  it('that pay for an organization are seen and revoked by its owner', async () => {
    const made = dataOf(
      await mutate(
        'keys.create',
        { scopes: ['gateway'], organization_id: organization },
        member.key,
      ),
    );
    const { keys } = dataOf(await list({ organization_id: organization }, owner.key));
    expect(keys.map(({ id }: { id: string }) => id)).toContain(made.id);
    expect(keys.map(({ id }: { id: string }) => id)).not.toContain(member.keyId);
    expect(dataOf(await mutate('keys.revoke', { id: made.id }, owner.key)).id).toBe(made.id);
  });

  it('know when they were last used', async () => {
    const before = Date.now();
    await service.query('session.current', undefined, stranger.key);
    await writeKeyUses(service.ledger.pool);
    const { keys } = dataOf(await list({}, stranger.key));
    expect(Date.parse(keys[0].last_used_at)).toBeGreaterThanOrEqual(before - 1);
  });

  it('are used without waiting for who holds their row', async () => {
    const holder = await service.ledger.pool.connect();
    try {
      await holder.query('begin');
      await holder.query('select from api_keys where id = $1 for update', [stranger.keyId]);
      await service.query('session.current', undefined, stranger.key);
      await writeKeyUses(service.ledger.pool);
    } finally {
      await holder.query('rollback');
      holder.release();
    }
  });
});

describe('roles', () => {
  it('are owner and member, changed by an administrator', async () => {
    const path = `/api/organizations/${organization}/members/${member.id}`;
    const change = (role: string) => service.call('PATCH', path, { body: { role } });
    expect((await change('chief')).body.error).toMatchObject({
      code: 'invalid_request',
      details: { field: 'role' },
    });
    expect((await change('owner')).status).toBe(200);
    const all = { organization_id: organization };
    expect(codeOf(await service.query('usage.requests', all, member.key))).toBe('allowed');
    expect((await change('member')).status).toBe(200);
    expect(codeOf(await service.query('usage.requests', all, member.key))).toBe('forbidden');
    const unknown = `/api/organizations/${organization}/members/nobody`;
    expect((await service.call('DELETE', unknown)).status).toBe(404);
    expect((await service.call('DELETE', path, { key: member.key })).status).toBe(403);
    const added = await service.post(`/api/organizations/${organization}/members`, {
      kilo_user_id: stranger.id,
      role: 'reversed',
    });
    expect(added.status).toBe(400);
  });
});
