import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { OPERATIONS, openApiDocument } from '../../src/server/openapi/document.js';
import { EXAMPLE } from '../../src/server/openapi/examples.js';
import { createKey } from '../../src/shards/accounts.js';
import { checkInvariants } from '../support/checkInvariants.js';
import { NEITHER } from '../unit/gateway/hostileUsage.js';
import { startTestServer, type TestServer } from './serverHarness.js';

const VALUES = { 'an object': NEITHER, 'in a list': [NEITHER] };

let service: TestServer;
/** Each is checked by its own rules before an event is: whose it may write. */
let keys: Record<string, string>;
beforeAll(async () => {
  service = await startTestServer();
  const { id, key } = await service.newUser();
  const organization = await service.newOrganization(id);
  const { ledger } = service;
  const scopes = ['usage:write', 'usage:read'] as const;
  const ofMember = { kilo_user_id: id, organization_id: organization, scopes: [...scopes] };
  keys = {
    admin: (await createKey(ledger, { scopes: ['admin'] })).key,
    'a service': await service.newServiceKey([...scopes]),
    'an organization': await service.newServiceKey([...scopes], organization),
    'a user': key,
    'a member': (await createKey(ledger, ofMember)).key,
  };
});
afterAll(async () => {
  expect(await checkInvariants(service.database.pool)).toEqual([]);
  await service.stop();
});

const { schemas } = openApiDocument().components;

/** The example with each field that its schema knows replaced, also of objects in it. */
function spoil(example: unknown, names: readonly string[], value: unknown): unknown[] {
  if (Array.isArray(example)) {
    return [[value], ...example.flatMap((each) => spoil(each, [], value).map((one) => [one]))];
  }
  if (typeof example !== 'object' || example === null) return [];
  const members = example as Record<string, unknown>;
  return [...new Set([...Object.keys(members), ...names])].flatMap((name) => [
    { ...members, [name]: value },
    ...spoil(members[name], [], value).map((one) => ({ ...members, [name]: one })),
  ]);
}

const namesOf = (schema: string) =>
  Object.keys((schemas[schema] as { properties?: object } | undefined)?.properties ?? {});

const bodies = OPERATIONS.flatMap(({ id, method, path, bodies = [] }) =>
  bodies.map(({ schema, example, mediaType = 'application/json' }) => ({
    id,
    method: method.toUpperCase(),
    path: path.replace(/\{\w+\}/g, EXAMPLE.hold),
    schema,
    mediaType,
    example,
  })),
);

describe.each(Object.entries(VALUES))('a field that is neither text nor number, %s', (_, value) => {
  it.each(bodies)('is no failure of ours: $id of $schema', async (doc) => {
    const spoiled = spoil(doc.example, namesOf(doc.schema), value);
    expect(spoiled.length).toBeGreaterThan(0);
    for (const body of spoiled) {
      for (const [whose, key] of Object.entries(keys)) {
        const headers = { 'content-type': doc.mediaType };
        const answer = await service.call(doc.method, doc.path, { key, body, headers });
        const told = `${whose}: ${JSON.stringify(body)} ${JSON.stringify(answer.body)}`;
        expect(answer.status, told).toBeLessThan(500);
        for (const { code } of answer.body?.results ?? []) expect(code, told).not.toBe('internal');
      }
    }
  });
});
