import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createApiKey } from '../../src/accounts/apiKeys.js';
import { SCOPES, type Scope } from '../../src/accounts/scopes.js';
import { createServer } from '../../src/server/index.js';
import { OPERATIONS, openApiDocument } from '../../src/server/openapi/document.js';
import { EXAMPLE } from '../../src/server/openapi/examples.js';
import type { BodyDoc, Method, Operation } from '../../src/server/openapi/types.js';
import { compileSchemas } from '../support/openApiSchemas.js';
import { startWebhookReceiver, type WebhookReceiver } from '../support/webhookReceiver.js';
import { ADMIN_KEY, type Answer, startTestServer, type TestServer } from './serverHarness.js';

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

const document = openApiDocument();
const compile = compileSchemas(document);
const operationOf = (id: string) => {
  const doc = OPERATIONS.find((each) => each.id === id);
  const operation = doc && document.paths[doc.path]?.[doc.method];
  if (doc === undefined || operation === undefined) throw new Error(`no operation ${id}`);
  return { doc, operation };
};

/** The answer has a schema, and is of it: no field more, none less. */
function expectDocumented(operation: Operation, { status, headers, body }: Answer): void {
  const response = operation.responses[status];
  const type = (headers.get('content-type') ?? '').split(';', 1)[0] ?? '';
  const media = response?.content?.[type];
  const told = `${operation.operationId}: ${status} ${type} ${JSON.stringify(body).slice(0, 300)}`;
  expect(media, told).toBeDefined();
  if (media !== undefined) expect(compile(media.schema, { isClosed: true })(body), told).toBeNull();
}

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

interface Step {
  id: string;
  /** Of the path, in place of those that come from answers before. */
  values?: Record<string, string> | (() => Promise<Record<string, string>>);
  /** What must be there before. */
  prepare?: () => Promise<unknown>;
  /** In place of the administrator's. */
  key?: () => Promise<string>;
  /** Fields in place of the example's: nothing is sent out of here. */
  changed?: () => object;
}

const post = (path: string, body: unknown) => service.post(path, body);
const heldOther = () =>
  post('/api/holds', { id: EXAMPLE.otherHold, kilo_user_id: EXAMPLE.user, amount: 1 });

/** The id of the first in a list. */
const firstOf = (path: string, list: string) => async () => ({
  id: (await service.get(path)).body[list][0].id as string,
});
const keyOfUser = async (scopes: Scope[]) =>
  (await createApiKey(service.ledger.pool, { kilo_user_id: EXAMPLE.user, scopes })).key;

const organization = { id: EXAMPLE.organization, user: EXAMPLE.user };
const STEPS: readonly Step[] = [
  { id: 'createUser' },
  { id: 'createOrganization' },
  { id: 'addMember', values: organization },
  { id: 'setMemberRole', values: organization },
  {
    id: 'removeMember',
    values: organization,
    prepare: async () => {
      await post('/api/users', { id: 'charles' });
      const member = { kilo_user_id: 'charles', role: 'owner' };
      await post(`/api/organizations/${EXAMPLE.organization}/members`, member);
    },
  },
  {
    id: 'leaveOrganization',
    values: organization,
    prepare: () =>
      post(`/api/organizations/${EXAMPLE.organization}/members`, { kilo_user_id: EXAMPLE.user }),
    key: () => keyOfUser(['usage:read', 'usage:write']),
  },
  { id: 'createKey' },
  { id: 'listKeys' },
  { id: 'revokeKey' },
  { id: 'addWebhook', changed: () => ({ url: receiver.url }) },
  { id: 'listWebhooks' },
  { id: 'rotateWebhookSecret' },
  { id: 'enableWebhook' },
  { id: 'testWebhook' },
  { id: 'replayWebhook' },
  // Nothing is left of the balance yet: told at once.
  { id: 'setAlert' },
  { id: 'listAlerts' },
  { id: 'listDeliveries' },
  { id: 'replayDelivery', values: firstOf('/api/alerts/deliveries', 'deliveries') },
  { id: 'removeAlert' },
  { id: 'removeWebhook', values: firstOf('/api/webhooks', 'webhooks') },
  { id: 'addCredit' },
  { id: 'listCredits' },
  { id: 'setBudget' },
  { id: 'listBudgets' },
  { id: 'changeBudget' },
  { id: 'hold' },
  { id: 'extendHold', values: { id: EXAMPLE.hold } },
  { id: 'settleHold', values: { id: EXAMPLE.hold } },
  { id: 'releaseHold', values: { id: EXAMPLE.otherHold }, prepare: heldOther },
  { id: 'deleteHold', values: { id: EXAMPLE.otherHold } },
  { id: 'recordUsage' },
  { id: 'adjustUsage' },
  { id: 'getUsageReport' },
  { id: 'removeBudget' },
  { id: 'getHealth' },
  { id: 'getReadiness' },
  { id: 'getMetrics' },
  { id: 'getOpenApi' },
  { id: 'getReference' },
];
/** Searches that answer something. */
const SEARCH: Readonly<Record<string, string>> = {
  listCredits: `?kilo_user_id=${EXAMPLE.user}`,
  listBudgets: `?kilo_user_id=${EXAMPLE.user}`,
  getUsageReport: `?kilo_user_id=${EXAMPLE.user}&by=model&compare=previous`,
};

describe('the examples of the reference', () => {
  it('are taken by a server, whose answers are as documented', async () => {
    expect(STEPS.map(({ id }) => id).sort()).toEqual(OPERATIONS.map(({ id }) => id).sort());
    /** Ids that the server made, by what they are of. */
    const made: Record<string, string> = {};
    for (const { id, values: given = {}, prepare, key, changed } of STEPS) {
      await prepare?.();
      const values = typeof given === 'function' ? await given() : given;
      const usedKey = (await key?.()) ?? ADMIN_KEY;
      const { doc, operation } = operationOf(id);
      const path = doc.path.replace(
        /\{(\w+)\}/g,
        (_, name: string) => values[name] ?? made[doc.tag] ?? 'none',
      );
      const bodies: readonly Partial<BodyDoc>[] = doc.bodies ?? [{}];
      for (const { example, mediaType = 'application/json' } of bodies) {
        const url = path + (SEARCH[id] ?? '');
        const body = changed === undefined ? example : { ...(example as object), ...changed() };
        const answer = await send(doc.method, url, mediaType, body, usedKey);
        expect([id, mediaType, answer.status]).toEqual([id, mediaType, successOf(operation)]);
        expectDocumented(operation, answer);
        if (doc.method === 'post') made[doc.tag] = answer.body.id ?? made[doc.tag];
        for (const result of answer.body?.results ?? []) expect(result.status).not.toBe('rejected');
      }
    }
    const answer = await service.post('/api/usage', { events: [{ kilo_user_id: EXAMPLE.user }] });
    expect(answer.body.results).toMatchObject([{ status: 'rejected' }]);
    expectDocumented(operationOf('recordUsage').operation, answer);
  });

  it('of a refused hold are as documented', async () => {
    const { operation } = operationOf('hold');
    const refused = await post('/api/holds', { kilo_user_id: EXAMPLE.user, amount: 10 ** 9 });
    expect([402, 429]).toContain(refused.status);
    expectDocumented(operation, refused);
  });

  it('of tRPC are taken', async () => {
    const key = await keyOfUser(['usage:read']);
    for (const [path, { get: operation }] of Object.entries(document.paths)) {
      if (operation?.tags[0] !== 'trpc' || operation['x-scope'] === 'admin') continue;
      const [input] = operation.parameters ?? [];
      const example = input?.content?.['application/json']?.example;
      // An id of something that is there is needed.
      if (example === undefined && input?.required) continue;
      const answer = await service.query(path.replace('/api/trpc/', ''), example, key);
      expect([path, answer.status]).toEqual([path, 200]);
      expectDocumented(operation, answer);
    }
    const refused = await service.query('usage.daily', { from: 'x', until: 'y' }, key);
    const error = document.components.schemas.TrpcError ?? {};
    expect(compile(error)(refused.body)).toBeNull();
    expect(refused.body.error.data.ledgerCode).toBe('invalid_request');
  });
});

const successOf = ({ responses }: Operation) =>
  Number(Object.keys(responses).find((each) => /^2/.test(each)));

function send(
  method: Method,
  path: string,
  type: string,
  body: unknown,
  key: string,
): Promise<Answer> {
  const headers: Record<string, string> = body === undefined ? {} : { 'content-type': type };
  return service.call(method.toUpperCase(), path, { key, body, headers });
}

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
