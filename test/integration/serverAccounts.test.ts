import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startTestServer, type TestServer } from './serverHarness.js';

let service: TestServer;
beforeAll(async () => {
  service = await startTestServer();
});
afterAll(() => service?.stop());

describe('account routes', () => {
  it('sets a user up from nothing to a first recorded event', async () => {
    const id = `user-${randomUUID()}`;
    const user = await service.post('/api/users', { id, email: 'a@example.org' });
    expect(user.status).toBe(201);
    expect(user.body).toMatchObject({ id, email: 'a@example.org', microdollars_used: 0 });
    const again = await service.post('/api/users', { id });
    expect([again.status, again.body.error.code]).toEqual([409, 'already_exists']);

    const organization = await service.post('/api/organizations', { name: 'Acme' });
    expect(organization.status).toBe(201);
    const organizationId = organization.body.id;
    const sameOrganization = await service.post('/api/organizations', organization.body);
    expect(sameOrganization.status).toBe(400);
    const twice = await service.post('/api/organizations', { name: 'B', id: organizationId });
    expect(twice.status).toBe(409);
    const members = `/api/organizations/${organizationId}/members`;
    expect((await service.post(members, { kilo_user_id: id })).status).toBe(201);
    expect((await service.post(members, { kilo_user_id: id })).status).toBe(409);

    const key = await service.post('/api/keys', { kilo_user_id: id, scopes: ['usage:write'] });
    expect(key.status).toBe(201);
    expect(key.body).toMatchObject({ id: expect.any(String), key: expect.stringMatching(/^md_/) });
    const event = { kilo_user_id: id, organization_id: organizationId, cost: 5 };
    const usage = await service.post('/api/usage', { events: [event] }, key.body.key);
    expect(usage.body.results[0].status).toBe('recorded');
    const usageId = usage.body.results[0].id;
    const refund = await service.post('/api/adjustments', { usage_id: usageId, usd: '-0.000005' });
    expect(refund.body).toMatchObject({ cost: -5, new_microdollars_used: 0 });

    const listed = await service.get('/api/keys');
    expect(listed.body.keys.map((one: { id: string }) => one.id)).toContain(key.body.id);
    expect(JSON.stringify(listed.body)).not.toContain(key.body.key);
  });

  it('adds credit, and takes an id to make a retry safe', async () => {
    const user = await service.newUser();
    const credit = { id: randomUUID(), kilo_user_id: user.id, usd: '1.5' };
    const answer = await service.post('/api/credits', credit);
    expect(answer.status).toBe(201);
    expect(answer.body).toMatchObject({
      amount_microdollars: 1_500_000,
      total_microdollars_acquired: 1_500_000,
    });
    const again = await service.post('/api/credits', credit);
    expect(again).toMatchObject({
      status: 201,
      body: { status: 'duplicate', total_microdollars_acquired: 1_500_000 },
    });
    const other = await service.post('/api/credits', { ...credit, usd: '2' });
    expect(other).toMatchObject({ status: 409, body: { error: { code: 'idempotency_conflict' } } });
  });

  it.each([
    ['/api/users', {}, 400, 'invalid_request'],
    ['/api/users', { id: 5 }, 400, 'invalid_request'],
    ['/api/users', { id: 'a\0b' }, 400, 'invalid_request'],
    ['/api/users', { id: 'x', admin: true }, 400, 'invalid_request'],
    ['/api/users', { id: 'y'.repeat(257) }, 400, 'invalid_request'],
    ['/api/organizations', { name: '' }, 400, 'invalid_request'],
    ['/api/organizations', { name: 'x', id: 'nope' }, 400, 'invalid_request'],
    ['/api/organizations/nope/members', { kilo_user_id: 'x' }, 400, 'invalid_request'],
    ['/api/keys', { scopes: ['everything'] }, 400, 'invalid_request'],
    ['/api/keys', { kilo_user_id: 'nobody', scopes: ['gateway'] }, 404, 'unknown_user'],
    ['/api/credits', { kilo_user_id: 'nobody', usd: 1 }, 404, 'unknown_user'],
    ['/api/credits', { kilo_user_id: 'nobody', usd: 'much' }, 400, 'invalid_request'],
    ['/api/credits', { usd: 1 }, 400, 'invalid_request'],
    ['/api/adjustments', { usage_id: randomUUID(), usd: 1 }, 404, 'unknown_usage'],
  ])('refuses %s %j', async (path, body, status, code) => {
    const answer = await service.post(path, body);
    expect([answer.status, answer.body.error.code]).toEqual([status, code]);
  });

  it('grants credit, and lists what is left of it', async () => {
    const user = await service.newUser();
    const expiresAt = '2999-01-01T00:00:00.000000Z';
    const grant = { kilo_user_id: user.id, usd: 1, expires_at: expiresAt, priority: 1, note: 'n' };
    const added = await service.post('/api/credits', grant);
    expect(added).toMatchObject({ status: 201, body: { expires_at: expiresAt, priority: 1 } });
    const path = `/api/credits?kilo_user_id=${encodeURIComponent(user.id)}`;
    const list = await service.get(path);
    expect(list.body).toMatchObject({
      credits: [{ id: added.body.id, description: 'n', grant: { left_microdollars: 1_000_000 } }],
      has_more: false,
      next_expiry_at: expiresAt,
    });
    expect((await service.get(path, user.key)).status).toBe(403);
    expect((await service.get('/api/credits?kilo_user_id=nobody')).status).toBe(404);
    const past = await service.post('/api/credits', {
      ...grant,
      expires_at: '2020-01-01T00:00:00Z',
    });
    expect(past).toMatchObject({
      status: 400,
      body: { error: { details: { field: 'expires_at' } } },
    });
  });

  it('is for admins alone', async () => {
    const user = await service.newUser();
    const paths = ['users', 'organizations', 'organizations/x/members', 'keys', 'credits'];
    for (const path of paths) {
      const answer = await service.post(`/api/${path}`, {}, user.key);
      expect([path, answer.status]).toEqual([path, 403]);
      expect((await service.post(`/api/${path}`, {}, null)).status).toBe(401);
    }
    expect((await service.get('/api/keys', user.key)).status).toBe(403);
  });
});
