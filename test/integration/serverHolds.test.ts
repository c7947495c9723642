import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createApiKey } from '../../src/accounts/apiKeys.js';
import { startTestServer, type TestServer } from './serverHarness.js';

let service: TestServer;
beforeAll(async () => {
  service = await startTestServer();
});
afterAll(() => service?.stop());

const credit = (id: string, usd: number) => service.post('/api/credits', { kilo_user_id: id, usd });

describe('holds over HTTP', () => {
  it('are granted, extended, settled and released by the key of their user', async () => {
    const { id: user, key, keyId } = await service.newUser();
    await credit(user, 1);
    const hold = { id: randomUUID(), kilo_user_id: user, amount: 400_000 };
    const granted = await service.post('/api/holds', hold, key);
    expect([granted.status, granted.body.status]).toEqual([200, 'granted']);
    expect((await service.post('/api/holds', hold, key)).body).toMatchObject({
      status: 'duplicate',
      amount: 400_000,
      available_microdollars: 600_000,
    });
    const path = `/api/holds/${hold.id}`;
    expect((await service.post(`${path}/extend`, { amount: 500_000 }, key)).body).toMatchObject({
      status: 'granted',
      amount: 500_000,
    });
    const stranger = await service.newUser();
    expect((await service.post(`${path}/release`, {}, stranger.key)).status).toBe(403);
    expect((await service.post('/api/holds', hold, stranger.key)).status).toBe(403);
    const event = { kilo_user_id: user, cost: 100_000 };
    const settled = await service.post(`${path}/settle`, { event }, key);
    expect(settled.body).toMatchObject({ id: hold.id, status: 'recorded' });
    const [row] = (
      await service.database.pool.query('select api_key_id from microdollar_usage where id = $1', [
        hold.id,
      ])
    ).rows;
    expect(row).toEqual({ api_key_id: keyId });
    const other = await service.post('/api/holds', { kilo_user_id: user, amount: 900_000 }, key);
    expect(other.body.status).toBe('granted');
    expect((await service.call('DELETE', `/api/holds/${other.body.id}`, { key })).body.status).toBe(
      'released',
    );
  });

  it('are released with any body, or none, under any content type', async () => {
    const { id: user, key } = await service.newUser();
    await credit(user, 1);
    const hold = { id: randomUUID(), kilo_user_id: user, amount: 1 };
    await service.post('/api/holds', hold, key);
    const json = { 'content-type': 'application/json' };
    const path = `/api/holds/${hold.id}`;
    const statuses = [];
    for (const how of [{ headers: json }, { headers: json, body: '' }, { body: {} }, {}]) {
      statuses.push((await service.call('POST', `${path}/release`, { key, ...how })).body.status);
    }
    statuses.push((await service.call('DELETE', path, { key, headers: json })).body.status);
    expect(statuses).toEqual(['released', 'duplicate', 'duplicate', 'duplicate', 'duplicate']);
    const empty = await service.call('POST', `${path}/extend`, { key, headers: json });
    expect([empty.status, empty.body.error.message]).toEqual([
      400,
      'the body is empty; send a JSON object',
    ]);
  });

  it('of a request in flight are the gateway’s to settle, and so is its usage', async () => {
    const { id: user, key } = await service.newUser();
    await credit(user, 1);
    const [held, begun] = [randomUUID(), randomUUID()];
    await service.database.pool.query(
      `insert into usage_holds (id, payer_scope, payer_id, kilo_user_id, owner, amount_microdollars,
         window_ids, expires_at)
       values ($1, 'user', $2, $2, gen_random_uuid(), 5, '{1}', now() + interval '1 hour')`,
      [held, user],
    );
    await service.database.pool.query(
      `insert into gateway_intents (id, owner, kilo_user_id, api_kind, input_tokens_estimate, streamed, created_at)
       values ($1, gen_random_uuid(), $2, 'openai', 1, true, now())`,
      [begun, user],
    );
    const free = { kilo_user_id: user, cost: 0 };
    for (const id of [held, held.toUpperCase(), begun]) {
      const answers = await Promise.all([
        service.post('/api/usage', { events: [{ ...free, id }] }, key),
        service.post(`/api/holds/${id}/settle`, { event: free }, key),
        service.post(`/api/holds/${id}/settle`, { event: { ...free, id } }, key),
      ]);
      const [usage, ...settled] = answers;
      expect(usage?.body.results[0]).toMatchObject({
        status: 'rejected',
        error: { code: 'forbidden', details: { field: 'id' } },
      });
      expect(settled.map(({ status }) => status)).toEqual([403, 403]);
    }
    expect((await service.post(`/api/holds/${held}/extend`, { amount: 9 }, key)).status).toBe(403);
    expect((await service.call('DELETE', `/api/holds/${held}`, { key })).status).toBe(403);
    // Whoever operates it may.
    expect((await service.call('DELETE', `/api/holds/${held}`)).body.status).toBe('released');
  });

  it('are refused with 402 by a balance, with 429 and its end by a window', async () => {
    const { id: user, key, keyId } = await service.newUser();
    await credit(user, 1);
    const hold = (amount: number) =>
      service.post('/api/holds', { kilo_user_id: user, amount }, key);
    const broke = await hold(1_000_001);
    expect([broke.status, broke.body.error.code]).toEqual([402, 'budget_exceeded']);
    expect(broke.headers.get('retry-after')).toBeNull();
    const budget = await service.post('/api/budgets', {
      scope: 'key',
      id: keyId,
      limit_usd: '0.5',
      window: 'day',
    });
    expect(budget.status).toBe(201);
    const endOfDay = () => new Date().setUTCHours(24, 0, 0, 0);
    const before = endOfDay();
    const limited = await hold(500_001);
    expect(limited.status).toBe(429);
    expect(limited.body.error).toMatchObject({
      code: 'budget_exceeded',
      details: { refused_by: { id: budget.body.id }, available_microdollars: 500_000 },
    });
    const retryAfter = Number(limited.headers.get('retry-after'));
    expect([before, endOfDay()]).toContain(Date.parse(limited.body.error.details.resets_at));
    expect(retryAfter).toBeGreaterThan(0);
    expect(retryAfter).toBeLessThanOrEqual(86_400);
  });

  it('of a key are bound by its budget, also where an organization pays', async () => {
    const { id: user, key, keyId } = await service.newUser();
    const organization = await service.newOrganization(user);
    await credit(user, 1);
    await service.post('/api/credits', { organization_id: organization, usd: 1 });
    const limit = { scope: 'key', id: keyId, limit_usd: '0.5', window: 'day' };
    const budget = await service.post('/api/budgets', limit);
    const own = await service.post('/api/holds', { kilo_user_id: user, amount: 300_000 }, key);
    expect(own.status).toBe(200);
    const paid = { kilo_user_id: user, organization_id: organization };
    const refused = await service.post('/api/holds', { ...paid, amount: 200_001 }, key);
    expect([refused.status, refused.body.error.details]).toMatchObject([
      429,
      { refused_by: { id: budget.body.id, scope: 'key' }, available_microdollars: 200_000 },
    ]);
    expect((await service.post('/api/holds', { ...paid, amount: 200_000 }, key)).status).toBe(200);
  });

  it('of a limited service key name keys of its organization, and its members’ own', async () => {
    const [member, stranger] = [await service.newUser(), await service.newUser()];
    const organization = await service.newOrganization(member.id);
    const other = await service.newOrganization(member.id);
    await service.post('/api/credits', { organization_id: organization, usd: 1 });
    const newKey = async (organization_id: string, kilo_user_id: string | null = null) => {
      const scopes = ['usage:write'] as const;
      const { pool } = service.ledger;
      return (await createApiKey(pool, { organization_id, kilo_user_id, scopes })).id;
    };
    const limited = await service.newServiceKey(['usage:write'], organization);
    const send = async (api_key_id: string, key = limited) => {
      const event = { kilo_user_id: member.id, organization_id: organization, api_key_id };
      const held = await service.post('/api/holds', { ...event, amount: 1 }, key);
      const { body } = await service.post('/api/usage', { events: [{ ...event, cost: 1 }] }, key);
      return [held.body.status ?? held.body.error.code, body.results[0].status];
    };
    const ofOther = await newKey(other);
    await service.post('/api/budgets', { scope: 'key', id: ofOther, limit_usd: 0, window: 'day' });
    const refused = ['forbidden', 'rejected'];
    expect(await send(ofOther)).toEqual(refused);
    expect(await send(ofOther.toUpperCase())).toEqual(refused);
    expect(await send(await newKey(other, member.id))).toEqual(refused);
    expect(await send(stranger.keyId)).toEqual(refused);
    const taken = ['granted', 'recorded'];
    expect(await send(await newKey(organization))).toEqual(taken);
    expect(await send(member.keyId)).toEqual(taken);
    expect(await send(randomUUID())).toEqual(taken);
    // Whoever is limited to none names any.
    const unlimited = await service.newServiceKey(['usage:write']);
    expect(await send(stranger.keyId, unlimited)).toEqual(taken);
    const begun = { kilo_user_id: member.id, organization_id: organization };
    const event = { ...begun, api_key_id: member.keyId };
    const [settled, sent] = [randomUUID(), randomUUID()];
    for (const id of [settled, sent]) {
      const held = await service.post('/api/holds', { ...event, id, amount: 1 }, limited);
      expect(held.body.status).toBe('granted');
    }
    const removed = `/api/organizations/${organization}/members/${member.id}`;
    expect((await service.call('DELETE', removed)).status).toBe(200);
    expect(await send(member.keyId)).toEqual(refused);
    // What was held before they left has happened since.
    const settling = { event: { ...event, cost: 1 } };
    const answer = await service.post(`/api/holds/${settled}/settle`, settling, limited);
    expect(answer.body.status).toBe('recorded');
    const events = [
      { ...event, id: sent.toUpperCase(), cost: 1 },
      { ...begun, cost: 1 },
    ];
    const { body } = await service.post('/api/usage', { events }, limited);
    expect(body.results.map(({ status }: { status: string }) => status)).toEqual(
      events.map(() => 'recorded'),
    );
    // Sent again, because the answer was lost, after the hold has gone with the fold.
    await service.ledger.keepBudgets();
    const again = await service.post(`/api/holds/${settled}/settle`, settling, limited);
    expect(again.body.status).toBe('duplicate');
  });

  it('of who has left the organization are settled by their own key, or given back', async () => {
    const [owner, member] = [await service.newUser(), await service.newUser()];
    const organization = await service.newOrganization(owner.id);
    await service.post('/api/credits', { organization_id: organization, usd: 1 });
    const members = `/api/organizations/${organization}/members`;
    await service.post(members, { kilo_user_id: member.id });
    const begun = { kilo_user_id: member.id, organization_id: organization };
    const [settled, sent, released] = [randomUUID(), randomUUID(), randomUUID()];
    for (const id of [settled, sent, released]) {
      const held = await service.post('/api/holds', { ...begun, id, amount: 1 }, member.key);
      expect(held.body.status).toBe('granted');
    }
    expect((await service.call('DELETE', `${members}/${member.id}`)).status).toBe(200);
    const send = async (...events: object[]) => {
      const { body } = await service.post('/api/usage', { events }, member.key);
      return body.results.map(({ status }: { status: string }) => status);
    };
    const { key: other } = await service.newUser();
    const settling = { event: { ...begun, cost: 1 } };
    const path = `/api/holds/${settled}/settle`;
    expect((await service.post(path, settling, other)).body.error.code).toBe('forbidden');
    // No more than was held, by the key that held it, and nothing new.
    const { body: second } = await service.post('/api/keys', {
      kilo_user_id: member.id,
      scopes: ['usage:write'],
    });
    const more = { amount: 2 };
    for (const [at, body, key] of [
      [path, { event: { ...begun, cost: 2 } }, member.key],
      [path, settling, second.key],
      [`/api/holds/${settled}/extend`, more, member.key],
      ['/api/holds', { ...begun, ...more, id: settled }, member.key],
    ] as const) {
      expect((await service.post(at, body, key)).body).toMatchObject({
        error: { code: 'forbidden' },
      });
    }
    expect((await service.post(path, settling, member.key)).body.status).toBe('recorded');
    const unheld = { ...begun, id: randomUUID(), cost: 1 };
    const late = { ...begun, id: sent.toUpperCase(), cost: 1 };
    const foreign = { ...late, organization_id: await service.newOrganization(owner.id) };
    const events = [foreign, late, unheld, { ...begun, cost: 1 }];
    expect(await send(...events)).toEqual(['rejected', 'recorded', 'rejected', 'rejected']);
    await service.ledger.keepBudgets();
    expect(await send(late)).toEqual(['duplicate']);
    const anew = { ...begun, id: sent, amount: 1 };
    expect((await service.post('/api/holds', anew, member.key)).body.error.code).toBe('forbidden');
    const answer = await service.call('DELETE', `/api/holds/${released}`, { key: member.key });
    expect(answer.body.status).toBe('released');
  });

  it('expire by their time, for nobody lives who could end them', async () => {
    const { id: user, key } = await service.newUser();
    await credit(user, 1);
    const hold = { kilo_user_id: user, amount: 1_000_000, expires_in_ms: 1 };
    await service.post('/api/holds', hold, key);
    await expect
      .poll(async () => {
        await service.ledger.keepBudgets();
        return (await service.post('/api/holds', { ...hold, expires_in_ms: 60_000 }, key)).status;
      })
      .toBe(200);
  });
});

describe('budgets over HTTP', () => {
  it('are set by an admin, changed, listed by their user, and removed', async () => {
    const { id: user, key } = await service.newUser();
    const wanted = {
      scope: 'user',
      id: user,
      limit_usd: 2,
      window: 'month',
      time_zone: 'Asia/Tokyo',
    };
    const stranger = await service.newUser();
    expect((await service.post('/api/budgets', wanted, stranger.key)).status).toBe(403);
    const { body: budget } = await service.post('/api/budgets', wanted);
    const path = `/api/budgets/${budget.id}`;
    const raise = { raise_usd: 1, raise_until: '2999-01-01T00:00:00Z' };
    expect((await service.call('PATCH', path, { body: raise })).body).toMatchObject({
      limit_microdollars: 3_000_000,
    });
    expect((await service.call('PATCH', path, { body: raise, key })).status).toBe(403);
    const listed = await service.get('/api/budgets', key);
    expect(listed.body.budgets).toMatchObject([{ is_balance: true }, { id: budget.id }]);
    expect((await service.get(`/api/budgets?kilo_user_id=${user}`, stranger.key)).status).toBe(403);
    expect((await service.call('DELETE', path)).status).toBe(200);
    expect((await service.call('DELETE', path)).status).toBe(404);
  });

  it('of an organization are its owner’s to set, and of no other', async () => {
    const owner = await service.newUser();
    const organization = await service.newOrganization();
    await service.post(`/api/organizations/${organization}/members`, {
      kilo_user_id: owner.id,
      role: 'owner',
    });
    const budget = { limit_usd: 1, window: 'day' };
    const own = { ...budget, scope: 'organization', id: organization };
    expect((await service.post('/api/budgets', own, owner.key)).status).toBe(201);
    const other = { ...own, id: await service.newOrganization() };
    expect((await service.post('/api/budgets', other, owner.key)).status).toBe(403);
    const { keyId } = await service.newUser();
    const foreign = { ...budget, scope: 'key', id: keyId, organization_id: organization };
    expect((await service.post('/api/budgets', foreign, owner.key)).status).toBe(403);
  });
});
