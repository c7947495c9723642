import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { revokeApiKey } from '../../src/accounts/apiKeys.js';
import { addCredit } from '../../src/accounts/credits.js';
import { createInFlightLimit } from '../../src/gateway/durable/inFlight.js';
import { WIRE_APIS, WIRE_PATHS, type WireApi } from '../support/answers/index.js';
import { startReplayUpstream } from '../support/replayUpstream.js';
import { FULL_SINK, startTestGateway, type TestGateway, type TestUser } from './gatewayHarness.js';

const BODY_LIMIT = 64 * 1024;

let gateway: TestGateway;
let user: TestUser;

beforeAll(async () => {
  gateway = await startTestGateway({ gateway: { limits: { bodyBytes: BODY_LIMIT } } });
  user = await gateway.newUser();
});
afterAll(() => gateway?.stop());

interface Ask {
  key?: string | null;
  body?: string;
  headers?: Record<string, string>;
  path?: string;
}

async function ask(api: WireApi, { key = user.key, body, headers = {}, path }: Ask = {}) {
  const response = await fetch(gateway.url + (path ?? WIRE_PATHS[api]), {
    method: 'POST',
    headers: {
      'content-type': 'application/json',
      ...(key === null ? {} : { authorization: `Bearer ${key}` }),
      ...headers,
    },
    body: body ?? JSON.stringify({ model: 'gpt-4.1-nano', messages: [] }),
  });
  const text = await response.text();
  return { status: response.status, headers: response.headers, body: JSON.parse(text), text };
}

/** In each API's own words. */
function expectRefusal(api: WireApi, body: unknown, openai: object, anthropicType: string): void {
  if (api === 'anthropic-messages') {
    expect(body).toEqual({
      type: 'error',
      error: { type: anthropicType, message: expect.any(String) },
    });
    return;
  }
  expect(body).toEqual({
    error: { message: expect.any(String), type: expect.any(String), param: null, ...openai },
  });
}

it('completions that are fetched later are refused by name: nobody could meter them', async () => {
  const before = gateway.upstream.requests.length;
  const request = { model: 'grok-4', messages: [{ role: 'user', content: 'Hi.' }] };
  for (const deferred of [true, 'true', 1]) {
    const answer = await ask('openai-chat', { body: JSON.stringify({ ...request, deferred }) });
    expect([answer.status, answer.body.error.param]).toEqual([400, 'deferred']);
  }
  expect(gateway.upstream.requests.length).toBe(before);
  await ask('openai-chat', { body: JSON.stringify({ ...request, deferred: false }) });
  expect(gateway.upstream.requests.length).toBe(before + 1);
});

describe.each(WIRE_APIS)('%s refuses', (api) => {
  it('without a key, and with a wrong one: 401', async () => {
    for (const key of [null, 'md_wrong', `md_${'x'.repeat(43)}`]) {
      const answer = await ask(api, { key });
      expect(answer.status).toBe(401);
      expectRefusal(
        api,
        answer.body,
        { type: 'authentication_error', code: 'unauthorized' },
        'authentication_error',
      );
      // The one key that a new operator has is none that a gateway takes.
      if (key !== null) expect(answer.body.error.message).toContain('neither its admin key');
    }
  });

  it('a key that was revoked: 401', async () => {
    const revoked = await gateway.newUser();
    expect((await ask(api, { key: revoked.key })).status).toBe(200);
    await revokeApiKey(gateway.ledger.pool, revoked.keyId);
    expect((await ask(api, { key: revoked.key })).status).toBe(401);
  });

  it('a key without the scope, and one without a user: 403', async () => {
    const other = await gateway.newUser({ scopes: ['usage:read', 'usage:write'] });
    for (const key of [other.key, await gateway.newKey(null, null)]) {
      const answer = await ask(api, { key });
      expect(answer.status).toBe(403);
      expectRefusal(
        api,
        answer.body,
        { type: 'permission_error', code: 'forbidden' },
        'permission_error',
      );
    }
  });

  it('an organization that is not the key’s to bill: 403; one that is no id: 400', async () => {
    const strangers = await gateway.newOrganization(10);
    const own = await gateway.newOrganization(10, user.id);
    const limited = await gateway.newKey(user.id, own);
    const other = await gateway.newOrganization(10, user.id);
    const header = (id: string) => ({ 'x-microdollar-organization-id': id });
    expect((await ask(api, { headers: header(strangers) })).status).toBe(403);
    expect((await ask(api, { headers: header(randomUUID()) })).status).toBe(403);
    expect((await ask(api, { key: limited, headers: header(other) })).status).toBe(403);
    expect((await ask(api, { headers: header('acme') })).status).toBe(400);

    const billed = await ask(api, { headers: header(own.toUpperCase()) });
    const usage = await gateway.usage(billed.headers.get('x-microdollar-usage-id') ?? '');
    expect(usage).toMatchObject({ kilo_user_id: user.id, organization_id: own });
  });

  it('a body that is no JSON object, empty or too large: 400, 413', async () => {
    for (const body of ['', '{"model":', '[]', 'null', '"text"']) {
      const answer = await ask(api, { body });
      expect(answer.status).toBe(400);
      expectRefusal(
        api,
        answer.body,
        { type: 'invalid_request_error', code: 'invalid_request' },
        'invalid_request_error',
      );
    }
    const large = await ask(api, { body: JSON.stringify({ text: 'x'.repeat(BODY_LIMIT) }) });
    expect(large.status).toBe(413);
    expectRefusal(
      api,
      large.body,
      { type: 'invalid_request_error', code: 'payload_too_large' },
      'request_too_large',
    );
  });

  it('a user and an organization without balance: 402, until a top-up', async () => {
    const poor = await gateway.newUser({ usd: 0 });
    const organization = await gateway.newOrganization(0, poor.id);
    const payers = [
      { key: poor.key, credit: { kilo_user_id: poor.id } },
      {
        key: await gateway.newKey(poor.id, organization),
        credit: { organization_id: organization },
      },
    ];
    for (const { key, credit } of payers) {
      const calls = gateway.upstream.calls;
      const refused = await ask(api, { key });
      expect(refused.status).toBe(402);
      expectRefusal(
        api,
        refused.body,
        { type: 'insufficient_quota', code: 'insufficient_balance' },
        'billing_error',
      );
      expect(gateway.upstream.calls).toBe(calls);
      await addCredit(gateway.ledger.pool, { ...credit, usd: 5 });
      // A second, in steps: the balance of a payer who was refused is read again at once.
      let status = 402;
      for (let tries = 0; tries < 20 && status === 402; tries++) {
        await new Promise((resolve) => setTimeout(resolve, 50));
        status = (await ask(api, { key })).status;
      }
      expect(status).toBe(200);
    }
  });
});

describe('refusals by the state of things', () => {
  it('429 beyond the cap of requests in flight per payer; others are served', async () => {
    const capped = await startTestGateway({ gateway: { inFlight: createInFlightLimit(2) } });
    try {
      const [payer, other] = [await capped.newUser(), await capped.newUser()];
      const send = (key: string, model: string) =>
        fetch(capped.url + WIRE_PATHS['openai-chat'], {
          method: 'POST',
          headers: { authorization: `Bearer ${key}` },
          body: JSON.stringify({ model }),
        });
      const opened: (() => void)[] = [];
      capped.upstream.script('held', (response) => void opened.push(() => response.end('{}')));
      const held = [send(payer.key, 'script:held'), send(payer.key, 'script:held')];
      while (opened.length < 2) await new Promise((resolve) => setTimeout(resolve, 5));
      const refused = await send(payer.key, 'script:held');
      expect(refused.status).toBe(429);
      // Nothing has ended yet: a guess, less what has passed of it.
      const retryAfterSeconds = Number(refused.headers.get('retry-after'));
      expect(retryAfterSeconds).toBeGreaterThan(0);
      expect(retryAfterSeconds).toBeLessThanOrEqual(10);
      expect(await refused.json()).toMatchObject({ error: { code: 'too_many_requests' } });
      expect((await send(other.key, 'gpt-4.1-nano')).status).toBe(200);
      for (const open of opened) open();
      for (const response of await Promise.all(held)) expect(response.status).toBe(200);
      expect((await send(payer.key, 'gpt-4.1-nano')).status).toBe(200);
    } finally {
      await capped.stop();
    }
  });

  it('503 when no intent can be made durable; the provider is not called', async () => {
    const full: TestGateway = await startTestGateway({
      gateway: {
        sink: FULL_SINK,
      },
    });
    try {
      const { key } = await full.newUser();
      const response = await fetch(full.url + WIRE_PATHS['anthropic-messages'], {
        method: 'POST',
        headers: { 'x-api-key': key },
        body: JSON.stringify({ model: 'claude-sonnet-4-5' }),
      });
      expect(response.status).toBe(503);
      expect(response.headers.get('retry-after')).toBe('1');
      expect(await response.json()).toMatchObject({ error: { type: 'overloaded_error' } });
      expect(full.upstream.calls).toBe(0);
    } finally {
      await full.stop();
    }
  });

  it('503 that names the variable, without a key for the public provider', async () => {
    const bare = await startTestGateway({ gateway: { upstreams: {} } });
    try {
      const { key } = await bare.newUser();
      for (const [api, variable] of [
        ['openai-chat', 'MICRODOLLAR_OPENAI_KEY'],
        ['anthropic-messages', 'MICRODOLLAR_ANTHROPIC_KEY'],
      ] as const) {
        const response = await fetch(bare.url + WIRE_PATHS[api], {
          method: 'POST',
          headers: { authorization: `Bearer ${key}` },
          body: '{"model":"m"}',
        });
        expect(response.status).toBe(503);
        expect(response.headers.get('x-should-retry')).toBe('false');
        expect(response.headers.get('retry-after')).toBeNull();
        expect(await response.text()).toContain(variable);
      }
    } finally {
      await bare.stop();
    }
  });

  it('502 and 504 for a provider that is not there or says nothing; recorded', async () => {
    const mute = await startReplayUpstream();
    mute.script('mute', () => {});
    const away = await startTestGateway({
      gateway: {
        upstreams: {
          openai: { url: 'http://127.0.0.1:1', key: 'k' },
          anthropic: { url: mute.url, key: 'k' },
        },
        limits: { headersTimeoutMs: 300 },
      },
    });
    try {
      const { key } = await away.newUser();
      const response = await fetch(away.url + WIRE_PATHS['openai-responses'], {
        method: 'POST',
        headers: { authorization: `Bearer ${key}` },
        body: '{"model":"m"}',
      });
      expect(response.status).toBe(502);
      expect(await response.json()).toMatchObject({ error: { code: 'upstream_unreachable' } });
      const id = response.headers.get('x-microdollar-usage-id') ?? '';
      expect(await away.usage(id)).toMatchObject({ has_error: true, cost: 0, estimated: null });

      const late = await fetch(away.url + WIRE_PATHS['anthropic-messages'], {
        method: 'POST',
        headers: { 'x-api-key': key },
        body: '{"model":"script:mute"}',
      });
      expect(late.status).toBe(504);
      expect(await late.json()).toMatchObject({ error: { type: 'timeout_error' } });
      const lateId = late.headers.get('x-microdollar-usage-id') ?? '';
      // It was called, and whether it charges for that is not known.
      expect(await away.usage(lateId)).toMatchObject({
        has_error: true,
        cost: 0,
        estimated: 'no_answer',
      });
    } finally {
      await mute.close();
      await away.stop();
    }
  });
});
