import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createApiKey } from '../../src/accounts/apiKeys.js';
import { removeOrganizationMember, setMemberRole } from '../../src/accounts/memberships.js';
import { setBudget } from '../../src/budgets/budgets.js';
import { startWebhookReceiver, type WebhookReceiver } from '../support/webhookReceiver.js';
import { budgetStore, spend } from './alertHarness.js';
import { type Answer, startTestServer, type TestServer } from './serverHarness.js';

let server: TestServer;
let receiver: WebhookReceiver;

beforeAll(async () => {
  receiver = await startWebhookReceiver();
  server = await startTestServer({}, undefined, { allowPrivateWebhooks: true });
});
afterAll(async () => {
  await server.stop();
  await receiver.close();
});

const del = (path: string, key: string) => server.call('DELETE', path, { key });

describe('a user', () => {
  it('sets, lists and deletes alerts of their own, and webhooks whose secret is shown once', async () => {
    const { id, key } = await server.newUser();
    const set = await server.post(
      '/api/alerts',
      { kind: 'balance', kilo_user_id: id, below_usd: '1.5' },
      key,
    );
    expect(set).toMatchObject({ status: 201, body: { below_microdollars: 1_500_000 } });
    const added = await server.post('/api/webhooks', { url: receiver.url }, key);
    expect(added).toMatchObject({
      status: 201,
      body: { kilo_user_id: id, secret: expect.stringMatching(/^whsec_/) },
    });
    const hook = added.body.id;
    expect((await server.get('/api/alerts', key)).body.alerts).toMatchObject([{ id: set.body.id }]);
    const list = await server.get('/api/webhooks', key);
    expect(list.body.webhooks).toMatchObject([{ id: hook, url: receiver.url }]);
    const rotated = await server.post(`/api/webhooks/${hook}/rotate`, { overlap_hours: 1 }, key);
    expect(rotated.body.secret).not.toBe(added.body.secret);
    expect((await server.post(`/api/webhooks/${hook}/test`, {}, key)).body).toMatchObject({
      delivered: true,
    });
    expect((await server.post(`/api/webhooks/${hook}/enable`, {}, key)).status).toBe(200);
    expect((await server.post(`/api/webhooks/${hook}/replay`, {}, key)).body).toEqual({
      replayed: 0,
    });
    expect((await del(`/api/webhooks/${hook}`, key)).body).toEqual({ id: hook });
    expect((await del(`/api/alerts/${set.body.id}`, key)).body).toEqual({ id: set.body.id });
    for (const shown of [list, await server.get('/api/webhooks', key), server.logLines]) {
      expect(JSON.stringify(shown)).not.toContain('whsec_');
    }
  });

  it('sees what was told and becomes of it, over HTTP and for the page', async () => {
    const { id, key } = await server.newUser();
    const budget = await setBudget(budgetStore(server.ledger), {
      scope: 'user',
      id,
      limit_usd: '0.0001',
      window: 'day',
      mode: 'soft',
    });
    const set = { kind: 'budget', budget_id: budget.id, thresholds_percent: [50] };
    expect((await server.post('/api/alerts', set, key)).status).toBe(201);
    expect((await server.post('/api/webhooks', { url: receiver.url }, key)).status).toBe(201);
    // Of everybody: the operator's, and not shown to users.
    expect((await server.post('/api/webhooks', { url: receiver.url })).status).toBe(201);
    await spend(server.ledger, id, 60);
    const told = { kind: 'budget', threshold: 50, spent_microdollars: 60, state: 'pending' };
    const list = await server.get('/api/alerts/deliveries?state=pending', key);
    expect(list.body.deliveries).toMatchObject([told]);
    const forPage = await server.query('alerts.deliveries', { kilo_user_id: id }, key);
    expect(forPage.body.result.data.deliveries).toMatchObject([told]);
    const page = await server.query('alerts.list', undefined, key);
    expect(page.body.result.data).toMatchObject({ alerts: [{ kind: 'budget' }], webhooks: [{}] });
    const all = await server.get(`/api/alerts/deliveries?kilo_user_id=${id}`);
    expect(all.body.deliveries).toHaveLength(2);
    const replay = `/api/alerts/deliveries/${list.body.deliveries[0].id}/replay`;
    expect((await server.post(replay, {}, key)).body).toEqual({ replayed: 0 });
    const shared = all.body.deliveries.find(
      (each: { id: string }) => each.id !== list.body.deliveries[0].id,
    );
    expect((await server.post(`/api/alerts/deliveries/${shared.id}/replay`, {}, key)).status).toBe(
      403,
    );
    for (const query of ['state=lost', 'limit=0', 'limit=x']) {
      expect((await server.get(`/api/alerts/deliveries?${query}`, key)).status).toBe(400);
    }
  });

  it('reaches nothing of others', async () => {
    const [ada, bob] = [await server.newUser(), await server.newUser()];
    const set = { kind: 'balance', kilo_user_id: ada.id, below_usd: 1 };
    const { body: alert } = await server.post('/api/alerts', set, ada.key);
    const { body: hook } = await server.post('/api/webhooks', { url: receiver.url }, ada.key);
    const refused = await Promise.all([
      server.post('/api/alerts', set, bob.key),
      server.get(`/api/alerts?kilo_user_id=${ada.id}`, bob.key),
      del(`/api/alerts/${alert.id}`, bob.key),
      server.post('/api/webhooks', { url: receiver.url, kilo_user_id: ada.id }, bob.key),
      server.get(`/api/webhooks?kilo_user_id=${ada.id}`, bob.key),
      del(`/api/webhooks/${hook.id}`, bob.key),
      ...['rotate', 'enable', 'test', 'replay'].map((what) =>
        server.post(`/api/webhooks/${hook.id}/${what}`, {}, bob.key),
      ),
      server.get(`/api/alerts/deliveries?kilo_user_id=${ada.id}`, bob.key),
      server.query('alerts.list', { kilo_user_id: ada.id }, bob.key),
      server.query('alerts.deliveries', { kilo_user_id: ada.id }, bob.key),
    ]);
    expect(refused.map(({ status }) => status)).toEqual(refused.map(() => 403));
    expect(await server.get(`/api/alerts?kilo_user_id=${ada.id}`)).toMatchObject({
      status: 200,
      body: { alerts: [{ id: alert.id }] },
    });
  });

  it('with a key that only reads sees, and changes nothing', async () => {
    const { id, key: actingKey } = await server.newUser();
    const set = { kind: 'balance', kilo_user_id: id, below_usd: 1 };
    const { body: alert } = await server.post('/api/alerts', set, actingKey);
    const { body: hook } = await server.post('/api/webhooks', { url: receiver.url }, actingKey);
    const reading = { kilo_user_id: id, scopes: ['usage:read' as const] };
    const { key } = await createApiKey(server.ledger.pool, reading);
    const refused = await Promise.all([
      server.post('/api/alerts', set, key),
      del(`/api/alerts/${alert.id}`, key),
      server.post('/api/webhooks', { url: receiver.url }, key),
      del(`/api/webhooks/${hook.id}`, key),
      ...['rotate', 'enable', 'test', 'replay'].map((what) =>
        server.post(`/api/webhooks/${hook.id}/${what}`, {}, key),
      ),
    ]);
    expect(refused.map(({ status, body }) => [status, body.error.details.field])).toEqual(
      refused.map(() => [403, 'scopes']),
    );
    expect((await server.get('/api/alerts', key)).body.alerts).toMatchObject([{ id: alert.id }]);
    expect((await server.get('/api/webhooks', key)).body.webhooks).toMatchObject([{ id: hook.id }]);
    expect((await server.get('/api/alerts/deliveries', key)).status).toBe(200);
  });

  it('with a key that may not read is refused', async () => {
    const { key } = await server.newUser(['usage:write']);
    expect((await server.get('/api/alerts', key)).status).toBe(403);
    expect((await server.get('/api/webhooks', key)).status).toBe(403);
    expect((await server.get('/api/webhooks', null)).status).toBe(401);
  });
});

describe('an organization', () => {
  it('is watched by its owner, not by its members', async () => {
    const [owner, member] = [await server.newUser(), await server.newUser()];
    const organization = await server.newOrganization(owner.id, member.id);
    await setMemberRole(server.ledger.pool, organization, owner.id, 'owner');
    const set = { kind: 'spend', organization_id: organization };
    expect((await server.post('/api/alerts', set, member.key)).status).toBe(403);
    expect((await server.post('/api/alerts', set, owner.key)).body).toMatchObject({
      organization_id: organization,
      thresholds_percent: [300],
      floor_microdollars: 1_000_000,
    });
    const hook = { url: receiver.url, organization_id: organization };
    expect((await server.post('/api/webhooks', hook, member.key)).status).toBe(403);
    expect((await server.post('/api/webhooks', hook, owner.key)).status).toBe(201);
    const path = `/api/alerts/deliveries?organization_id=${organization}`;
    expect((await server.get(path, member.key)).status).toBe(403);
    expect((await server.get(path, owner.key)).body).toEqual({ deliveries: [] });
  });
});

describe('bad input', () => {
  it.each([
    ['/api/alerts', { kind: 'mood' }, 'kind'],
    ['/api/alerts', { kind: 'balance', mood: 1 }, 'mood'],
    ['/api/webhooks', { url: 'ftp://example.com' }, 'url'],
    ['/api/webhooks', {}, 'url'],
    ['/api/webhooks', { url: 'http://127.0.0.1', kilo_user_id: 'nobody' }, 'kilo_user_id'],
  ])('%s %j names the field', async (path, body, field) => {
    const answer = await server.post(path, body);
    expect(answer.status).toBeGreaterThanOrEqual(400);
    expect(answer.body.error.details.field).toBe(field);
  });
});

describe('for the page', () => {
  const call = (procedure: string, input: object, key: string) =>
    server.post(`/api/trpc/alerts.${procedure}`, input, key);
  const codeOf = ({ body }: Answer) => body.error?.data?.ledgerCode ?? 'allowed';

  it('alerts and webhooks are set and changed by whose they are, and by nobody else', async () => {
    const { id, key } = await server.newUser();
    const owner = await server.newUser();
    const member = await server.newUser();
    const removed = await server.newUser();
    const stranger = await server.newUser();
    const organization = await server.newOrganization(owner.id, member.id, removed.id);
    await setMemberRole(server.ledger.pool, organization, owner.id, 'owner');
    await removeOrganizationMember(server.ledger.pool, organization, removed.id);
    for (const [whose, by] of [
      [{ kilo_user_id: id }, key],
      [{ organization_id: organization }, owner.key],
    ] as const) {
      const alert = { kind: 'balance', ...whose, below_usd: '1' };
      const set = await call('set', alert, by);
      const added = await call('webhooks.add', { url: receiver.url, ...whose }, by);
      expect([codeOf(set), codeOf(added)]).toEqual(['allowed', 'allowed']);
      const alertId = { id: set.body.result.data.id };
      const hookId = { id: added.body.result.data.id };
      expect(added.body.result.data.secret).toMatch(/^whsec_/);
      for (const other of [member, removed, stranger]) {
        for (const [procedure, input] of [
          ['set', alert],
          ['remove', alertId],
          ['webhooks.add', { url: receiver.url, ...whose }],
          ...['rotate', 'enable', 'test', 'remove'].map(
            (name) => [`webhooks.${name}`, hookId] as const,
          ),
        ] as const) {
          expect([procedure, codeOf(await call(procedure, input, other.key))]).toEqual([
            procedure,
            'forbidden',
          ]);
        }
        expect(codeOf(await server.query('alerts.list', whose, other.key))).toBe('forbidden');
        expect(codeOf(await server.query('alerts.deliveries', whose, other.key))).toBe('forbidden');
      }
      const listed = await server.query('alerts.list', whose, by);
      expect(JSON.stringify(listed.body)).not.toContain('whsec_');
      for (const procedure of ['rotate', 'enable', 'test', 'remove']) {
        expect(codeOf(await call(`webhooks.${procedure}`, hookId, by))).toBe('allowed');
      }
      expect(codeOf(await call('remove', alertId, by))).toBe('allowed');
      expect(codeOf(await call('remove', alertId, by))).toBe('not_found');
    }
    const nowhere = await call('webhooks.add', { url: 'ftp://x' }, key);
    expect(nowhere.body.error.data).toMatchObject({ details: { field: 'url' } });
    expect(codeOf(await call('replay', { id: randomUUID() }, key))).toBe('not_found');
  });
});
