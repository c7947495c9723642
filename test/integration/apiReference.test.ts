import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createApiKey } from '../../src/accounts/apiKeys.js';
import { SCOPES } from '../../src/accounts/scopes.js';
import { createServer } from '../../src/server/index.js';
import { OPERATIONS } from '../../src/server/openapi/document.js';
import { EXAMPLE } from '../../src/server/openapi/examples.js';
import { startWebhookReceiver, type WebhookReceiver } from '../support/webhookReceiver.js';
import {
  askExamples,
  compile,
  document,
  expectDocumented,
  keyOfUser,
  operationOf,
  sendExamples,
} from './referenceSteps.js';
import { startTestServer, type TestServer } from './serverHarness.js';

/** One server, to which everything that the reference shows is sent. */
let service: TestServer;
let receiver: WebhookReceiver;
beforeAll(async () => {
  receiver = await startWebhookReceiver();
  service = await startTestServer({}, undefined, { allowPrivateWebhooks: true });
});
afterAll(async () => {
  await service?.stop();
  await receiver?.close();
});

describe('every route of the server', () => {
  it('is in the reference, and what is in there is a route', async () => {
    const { app } = createServer({ ledger: service.ledger, port: 0, logLevel: 'silent' });
    const routes = new Set<string>();
    app.addHook('onRoute', ({ method, url }) => {
      for (const each of [method].flat()) if (each !== 'HEAD') routes.add(`${each} ${url}`);
    });
    await app.ready();
    await app.close();
    // All procedures are one route; a unit test holds them to the router.
    const own = [...routes].filter((route) => !route.includes('/api/trpc/'));
    const documented = OPERATIONS.map(
      ({ method, path }) => `${method.toUpperCase()} ${path.replace(/\{(\w+)\}/g, ':$1')}`,
    );
    expect(documented.sort()).toEqual(own.sort());
  });

  it('answers without a key, and without its scope, as the reference says', async () => {
    const keyWithout = new Map<string, string>();
    for (const scope of SCOPES) {
      const scopes = SCOPES.filter((each) => each !== scope && each !== 'admin');
      keyWithout.set(scope, (await createApiKey(service.ledger.pool, { scopes })).key);
    }
    for (const { id, method, path, scope } of OPERATIONS.filter((each) => each.scope !== null)) {
      const { operation } = operationOf(id);
      const url = path.replace(/\{\w+\}/g, EXAMPLE.hold);
      const anonymous = await service.call(method.toUpperCase(), url, { key: null });
      expect([id, anonymous.status]).toEqual([id, 401]);
      expect(anonymous.headers.get('www-authenticate')).toBe('Bearer');
      expectDocumented(operation, anonymous);
      const lacking = keyWithout.get(scope as string) ?? null;
      const refused = await service.call(method.toUpperCase(), url, { key: lacking });
      expect([id, refused.body.error.details]).toEqual([id, { scope }]);
      expectDocumented(operation, refused);
    }
  });
});

describe('the examples of the reference', () => {
  it('are taken by a server, whose answers are as documented', async () => {
    await sendExamples(service, receiver.url);
    const answer = await service.post('/api/usage', { events: [{ kilo_user_id: EXAMPLE.user }] });
    expect(answer.body.results).toMatchObject([{ status: 'rejected' }]);
    expectDocumented(operationOf('recordUsage').operation, answer);
  });

  it('of a refused hold are as documented', async () => {
    const { operation } = operationOf('hold');
    const refused = await service.post('/api/holds', {
      kilo_user_id: EXAMPLE.user,
      amount: 10 ** 9,
    });
    expect([402, 429]).toContain(refused.status);
    expectDocumented(operation, refused);
  });

  it('of a webhook that is tested too often are as documented, and say when', async () => {
    const { operation } = operationOf('testWebhook');
    const webhook = { url: receiver.url, kilo_user_id: EXAMPLE.user };
    const { id } = (await service.post('/api/webhooks', webhook)).body;
    const test = () => service.post(`/api/webhooks/${id}/test`, {});
    let answer = await test();
    for (let more = 5; more > 0 && answer.status !== 429; more--) answer = await test();
    expect(answer.status).toBe(429);
    expectDocumented(operation, answer);
    const seconds = String(answer.body.error.details.retry_after_seconds);
    expect(answer.headers.get('retry-after')).toBe(seconds);
    const called = await service.call('POST', '/api/trpc/alerts.webhooks.test', {
      body: { id },
    });
    expect(called.status).toBe(429);
    expect(called.headers.get('retry-after')).toMatch(/^\d+$/);
  });

  it('of tRPC are taken', async () => {
    await askExamples(service);
    const key = await keyOfUser(service, ['usage:read']);
    const refused = await service.query('usage.daily', { from: 'x', until: 'y' }, key);
    const error = document.components.schemas.TrpcError ?? {};
    expect(compile(error)(refused.body)).toBeNull();
    expect(refused.body.error.data.ledgerCode).toBe('invalid_request');
  });
});

describe('the page of the reference', () => {
  it('is one file under a policy that takes its own style alone', async () => {
    const answer = await service.get('/docs', null);
    expect(answer.headers.get('content-type')).toBe('text/html; charset=utf-8');
    expect(answer.headers.get('content-security-policy')).toContain(
      "default-src 'none'; style-src",
    );
    expect(answer.body).toContain('POST /api/usage');
    const served = await service.get('/api/openapi.json', null);
    expect(served.body).toEqual(JSON.parse(JSON.stringify(document)));
  });
});
