import { expect } from 'vitest';
import type { Scope } from '../../src/accounts/scopes.js';
import { OPERATIONS, openApiDocument } from '../../src/server/openapi/document.js';
import { EXAMPLE } from '../../src/server/openapi/examples.js';
import type { BodyDoc, Method, Operation } from '../../src/server/openapi/types.js';
import { createKey } from '../../src/shards/accounts.js';
import { compileSchemas } from '../support/openApiSchemas.js';
import { ADMIN_KEY, type Answer, type ServedLedger } from './serverHarness.js';

export const document = openApiDocument();
export const compile = compileSchemas(document);
export const operationOf = (id: string) => {
  const doc = OPERATIONS.find((each) => each.id === id);
  const operation = doc && document.paths[doc.path]?.[doc.method];
  if (doc === undefined || operation === undefined) throw new Error(`no operation ${id}`);
  return { doc, operation };
};

/** The answer has a schema, and is of it: no field more, none less. */
export function expectDocumented(operation: Operation, { status, headers, body }: Answer): void {
  const response = operation.responses[status];
  const type = (headers.get('content-type') ?? '').split(';', 1)[0] ?? '';
  const media = response?.content?.[type];
  const told = `${operation.operationId}: ${status} ${type} ${JSON.stringify(body).slice(0, 300)}`;
  expect(media, told).toBeDefined();
  if (media !== undefined) expect(compile(media.schema, { isClosed: true })(body), told).toBeNull();
}

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

/** Every operation once, in an order in which each succeeds. */
function stepsOf(service: ServedLedger, webhookUrl: string): readonly Step[] {
  const post = (path: string, body: unknown) => service.post(path, body);
  const heldOther = () =>
    post('/api/holds', { id: EXAMPLE.otherHold, kilo_user_id: EXAMPLE.user, amount: 1 });
  /** The id of the first in a list. */
  const firstOf = (path: string, list: string) => async () => ({
    id: (await service.get(path)).body[list][0].id as string,
  });
  const organization = { id: EXAMPLE.organization, user: EXAMPLE.user };
  return [
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
      key: () => keyOfUser(service, ['usage:read', 'usage:write']),
    },
    { id: 'createKey' },
    { id: 'listKeys' },
    { id: 'revokeKey' },
    { id: 'addWebhook', changed: () => ({ url: webhookUrl }) },
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
}

export const keyOfUser = async (service: ServedLedger, scopes: Scope[]) =>
  (await createKey(service.ledger, { kilo_user_id: EXAMPLE.user, scopes })).key;

/** Searches that answer something. */
const SEARCH: Readonly<Record<string, string>> = {
  listCredits: `?kilo_user_id=${EXAMPLE.user}`,
  listBudgets: `?kilo_user_id=${EXAMPLE.user}`,
  getUsageReport: `?kilo_user_id=${EXAMPLE.user}&by=model&compare=previous`,
};

const successOf = ({ responses }: Operation) =>
  Number(Object.keys(responses).find((each) => /^2/.test(each)));

function send(
  service: ServedLedger,
  method: Method,
  path: string,
  type: string,
  body: unknown,
  key: string,
): Promise<Answer> {
  const headers: Record<string, string> = body === undefined ? {} : { 'content-type': type };
  return service.call(method.toUpperCase(), path, { key, body, headers });
}

/** Sends the examples of the reference; each is taken, and answered as is documented. */
export async function sendExamples(service: ServedLedger, webhookUrl: string): Promise<void> {
  const steps = stepsOf(service, webhookUrl);
  expect(steps.map(({ id }) => id).sort()).toEqual(OPERATIONS.map(({ id }) => id).sort());
  /** Ids that the server made, by what they are of. */
  const made: Record<string, string> = {};
  for (const { id, values: given = {}, prepare, key, changed } of steps) {
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
      const answer = await send(service, doc.method, url, mediaType, body, usedKey);
      const told = [id, mediaType, answer.status];
      expect(told, JSON.stringify(answer.body)).toEqual([id, mediaType, successOf(operation)]);
      expectDocumented(operation, answer);
      if (doc.method === 'post') made[doc.tag] = answer.body.id ?? made[doc.tag];
      for (const result of answer.body?.results ?? []) expect(result.status).not.toBe('rejected');
    }
  }
}

/** The tRPC queries whose examples need nothing but the user of the examples. */
export async function askExamples(service: ServedLedger): Promise<void> {
  const key = await keyOfUser(service, ['usage:read']);
  for (const [path, { get: operation }] of Object.entries(document.paths)) {
    if (operation?.tags[0] !== 'trpc' || operation['x-scope'] === 'admin') continue;
    const [input] = operation.parameters ?? [];
    const example = input?.content?.['application/json']?.example;
    // An id of something that is there is needed.
    if (example === undefined && input?.required) continue;
    const answer = await service.query(path.replace('/api/trpc/', ''), example, key);
    expect([path, answer.status], JSON.stringify(answer.body)).toEqual([path, 200]);
    expectDocumented(operation, answer);
  }
}
