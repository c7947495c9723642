import Anthropic from '@anthropic-ai/sdk';
import OpenAI from 'openai';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { LedgerError } from '../../src/errors.js';
import { WIRE_APIS, WIRE_PATHS, type WireApi } from '../support/answers/index.js';
import { checkInvariants, checkNeverExceeds } from '../support/checkInvariants.js';
import { scriptProvider } from '../support/scriptedProvider.js';
import { acquire, addBudget, foldBudgets, windowsOf } from './budgetHarness.js';
import { FULL_SINK, startTestGateway, type TestGateway, type TestUser } from './gatewayHarness.js';

/** 2 USD a million tokens of a prompt, 8 of output. */
const CHAT_MODEL = 'gpt-4.1';
const MODELS = {
  'openai-chat': CHAT_MODEL,
  'openai-responses': CHAT_MODEL,
  /** 3 and 15. */
  'anthropic-messages': 'claude-sonnet-4-5',
} as const satisfies Record<WireApi, string>;
const LIMITS = {
  'openai-chat': 'max_tokens',
  'openai-responses': 'max_output_tokens',
  'anthropic-messages': 'max_tokens',
} as const satisfies Record<WireApi, string>;

let gateway: TestGateway;

beforeAll(async () => {
  // Nobody asks for responses in the background but who is told to.
  gateway = await startTestGateway({ holds: 'strict', gateway: { followIntervalMs: 1e8 } });
  scriptProvider(gateway.upstream);
});
afterAll(() => gateway?.stop());
afterEach(async () => {
  expect(await checkInvariants(gateway.database.pool)).toEqual([]);
  expect(await checkNeverExceeds(gateway.database.pool)).toEqual([]);
});

function bodyOf(api: WireApi, say: string, more: object = {}): string {
  const prompt = [{ role: 'user', content: say }];
  return JSON.stringify({
    model: MODELS[api],
    ...(api === 'openai-responses' ? { input: prompt } : { messages: prompt }),
    ...more,
  });
}

async function send(api: WireApi, key: string, body: string, to = gateway) {
  const response = await fetch(to.url + WIRE_PATHS[api], {
    method: 'POST',
    headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
    body,
  });
  const text = await response.text();
  const id = response.headers.get('x-microdollar-usage-id') ?? '';
  return { status: response.status, headers: response.headers, text, id };
}

/** A user with so many microdollars. */
async function newPayer(microdollars: number, to = gateway): Promise<TestUser> {
  const user = await to.newUser({ usd: 0 });
  await acquire(to, { user: user.id }, microdollars);
  return user;
}

/** What went to the provider last. */
const lastBody = (to = gateway) => String(to.upstream.requests.at(-1)?.body);

const openHolds = (payer: string, to = gateway) =>
  to.rows<{ id: string; amount: number }>(
    `select h.id, h.amount_microdollars::float as amount from usage_holds as h
     where h.payer_id = $1 and h.released_at is null
       and not exists (select from microdollar_usage as m where m.id = h.id)`,
    [payer],
  );

/** After a fold: of the balance nothing is held, and the rest of it is there again. */
async function expectNothingStranded(user: string, spent: number, to = gateway): Promise<void> {
  await foldBudgets(to.ledger, { user });
  const [balance] = await windowsOf(to, user);
  expect(balance).toMatchObject({ spent, held: 0 });
  expect((balance?.carry ?? 0) + (balance?.slots ?? 0)).toBe((balance?.limit ?? 0) - spent);
}

describe.each(WIRE_APIS)('%s, where the most is held', (api) => {
  it('holds the most that a request can cost, and settles it with what it did cost', async () => {
    const user = await newPayer(1_000_000);
    const body = bodyOf(api, '[[use 100]] of it', { [LIMITS[api]]: 200 });
    const { status, id } = await send(api, user.key, body);
    expect(status).toBe(200);
    expect(lastBody()).toBe(body);
    const usage = await gateway.usage(id);
    expect(usage.output_tokens).toBe(100);
    expect(usage.max_tokens).toBe(200);
    await expectNothingStranded(user.id, usage.cost);
  });

  it('lowers the limit of the output to what is left, in the bytes of the client', async () => {
    const user = await newPayer(20_000);
    const body = bodyOf(api, '[[use 99999]]', { top_p: 1.0, [LIMITS[api]]: 30_000, n: 1 });
    const { status, id, headers } = await send(api, user.key, body);
    expect(status).toBe(200);
    const sent = lastBody();
    const limit = JSON.parse(sent)[LIMITS[api]];
    expect(sent).toBe(body.replace('30000', String(limit)));
    expect(headers.get('x-microdollar-output-limit')).toBe(String(limit));
    const usage = await gateway.usage(id);
    expect(usage).toMatchObject({ output_tokens: limit, max_tokens: limit });
    expect(usage.cost).toBeLessThanOrEqual(20_000);
    // All but what the bytes of the prompt might have been.
    expect(usage.cost).toBeGreaterThan(14_000);
    await expectNothingStranded(user.id, usage.cost);
  });

  it('gives a limit to a request that has none', async () => {
    const user = await newPayer(5_000_000);
    const body = bodyOf(api, '[[use 10]]');
    expect((await send(api, user.key, body)).status).toBe(200);
    const limit = JSON.parse(lastBody())[LIMITS[api]];
    expect(limit).toBe(api === 'anthropic-messages' ? 64_000 : 32_768);
    expect(lastBody()).toBe(body.replace(/\}$/, `,"${LIMITS[api]}":${limit}}`));
  });

  it('refuses by the balance: 402, with what is left', async () => {
    const user = await newPayer(100);
    const calls = gateway.upstream.calls;
    const { status, text, headers } = await send(api, user.key, bodyOf(api, 'hello'));
    expect(status).toBe(402);
    expect(text).toContain('has $0.000100 left');
    expect(headers.get('x-microdollar-available-microdollars')).toBe('100');
    expect(headers.get('x-should-retry')).toBe('false');
    expect(gateway.upstream.calls).toBe(calls);
    expect(await openHolds(user.id)).toEqual([]);
  });

  it('gives everything back where the provider answers an error', async () => {
    const user = await newPayer(1_000_000);
    const body = bodyOf(api, `[[busy ${api}]]`, { [LIMITS[api]]: 100 });
    const { status, id } = await send(api, user.key, body);
    expect(status).toBe(429);
    expect((await gateway.usage(id)).cost).toBe(0);
    await expectNothingStranded(user.id, 0);
  });
});

describe('what clients are told', () => {
  it('a budget of a day: 429 with the time of its end, as the SDK’s own error', async () => {
    const user = await newPayer(10_000_000);
    await addBudget(gateway, { scope: 'user', payer: { user: user.id }, limit: 200 });
    const openai = new OpenAI({ baseURL: `${gateway.url}/v1`, apiKey: user.key });
    const calls = gateway.logLines.length;
    const day = new Date().getUTCDate();
    const error = await openai.chat.completions
      .create({ model: CHAT_MODEL, messages: [{ role: 'user', content: 'hello' }] })
      .catch((caught: unknown) => caught);
    // Where the day is about to end, the SDK waits for that, and tries again.
    const most = new Date().getUTCDate() === day ? 1 : 2;
    expect(error).toBeInstanceOf(OpenAI.RateLimitError);
    expect(error).toMatchObject({ status: 429, code: 'budget_exceeded', type: 'rate_limit_error' });
    const { headers, message } = error as InstanceType<typeof OpenAI.RateLimitError>;
    const resetsAt = headers?.get('x-microdollar-resets-at') ?? '';
    expect(message).toContain(`the daily budget of this user, $0.000200, has $0.000200 left`);
    expect(message).toContain(`it resets at ${resetsAt}`);
    expect(new Date(resetsAt).toISOString()).toMatch(/T00:00:00.000Z$/);
    const untilEnd = (Date.parse(resetsAt) - Date.now()) / 1_000;
    const retryAfter = Number(headers?.get('retry-after'));
    expect(Math.abs(retryAfter - untilEnd)).toBeLessThan(30);
    const refusals = gateway.logLines.slice(calls).filter((line) => /a budget refused/.test(line));
    expect(refusals.length).toBeGreaterThan(0);
    expect(refusals.length).toBeLessThanOrEqual(most);
  });

  it('a budget of all time: 402, as the SDK’s own error', async () => {
    const user = await newPayer(10_000_000);
    const payer = { user: user.id };
    await addBudget(gateway, { scope: 'user', payer, limit: 200, period: 'total' });
    const anthropic = new Anthropic({ baseURL: gateway.url, apiKey: user.key });
    const messages = [{ role: 'user' as const, content: 'hello' }];
    const error = await anthropic.messages
      .create({ model: MODELS['anthropic-messages'], max_tokens: 100, messages })
      .catch((caught: unknown) => caught);
    expect(error).toBeInstanceOf(Anthropic.APIError);
    expect(error).toMatchObject({ status: 402, error: { error: { type: 'billing_error' } } });
    expect(String(error)).toContain('the total budget of this user');
    await addBudget(gateway, { scope: 'user', payer, limit: 100, period: 'day' });
    const windowed = await anthropic.messages
      .create({ model: MODELS['anthropic-messages'], max_tokens: 100, messages })
      .catch((caught: unknown) => caught);
    expect(windowed).toBeInstanceOf(Anthropic.RateLimitError);
    expect(String(windowed)).toContain('the daily budget of this user');
  });

  it('the most restrictive of the budgets of an organization, its member, key and project', async () => {
    const user = await newPayer(0);
    const organization = await gateway.newOrganization(100, user.id);
    const payer = { organization };
    await addBudget(gateway, { scope: 'organization', payer, limit: 900_000 });
    await addBudget(gateway, { scope: 'member', payer, user: user.id, limit: 700_000 });
    await addBudget(gateway, { scope: 'key', payer, key: user.keyId, limit: 90 });
    await addBudget(gateway, { scope: 'project', payer, project: 'p', limit: 80 });
    const ask = async (headers: object) => {
      const response = await fetch(gateway.url + WIRE_PATHS['openai-chat'], {
        method: 'POST',
        headers: {
          authorization: `Bearer ${user.key}`,
          'x-microdollar-organization-id': organization,
          ...headers,
        },
        body: bodyOf('openai-chat', 'hello', { max_tokens: 20 }),
      });
      return `${response.status} ${await response.text()}`;
    };
    expect(await ask({ 'x-microdollar-project': 'p' })).toMatch(/^429 .*budget of this project/);
    expect(await ask({})).toMatch(/^429 .*budget of this key/);
    await gateway.rows(
      `update budgets set limit_microdollars = 1000000 where scope <> 'organization'`,
    );
    expect(await ask({ 'x-microdollar-project': 'p' })).toMatch(/^200 /);
    await foldBudgets(gateway.ledger, payer);
    const spent = (await windowsOf(gateway, organization)).map((window) => window.spent);
    expect(new Set(spent).size).toBe(1);
    expect(spent[0]).toBeGreaterThan(0);
  });
});

describe('what has no bound is refused by its name where the most is held', () => {
  it.each([
    ['openai-chat', { web_search_options: {} }, 'web_search_options'],
    ['openai-responses', { tools: [{ type: 'web_search' }] }, 'tools'],
    [
      'openai-responses',
      { model: 'unknown', previous_response_id: 'resp_9' },
      'previous_response_id',
    ],
    ['openai-chat', { model: 'perplexity/sonar' }, 'model'],
    ['openai-chat', { service_tier: 'scale' }, 'service_tier'],
  ] as const)('%s %j', async (api, more, param) => {
    const user = await newPayer(10_000_000);
    const calls = gateway.upstream.calls;
    const { status, text } = await send(api, user.key, bodyOf(api, 'hello', more));
    expect(status).toBe(400);
    expect(JSON.parse(text)).toMatchObject({ error: { code: 'invalid_request', param } });
    expect(gateway.upstream.calls).toBe(calls);
  });

  it('endpoints whose requests have no limit', async () => {
    const user = await newPayer(10_000_000);
    const response = await fetch(`${gateway.url}/v1/images/generations`, {
      method: 'POST',
      headers: { authorization: `Bearer ${user.key}` },
      body: JSON.stringify({ model: 'gpt-image-1', prompt: 'a cat' }),
    });
    expect(response.status).toBe(400);
    expect(await response.text()).toContain('/v1/images/generations has no limit');
  });
});

describe('what is held while nothing is known', () => {
  it('of a response in the background, until it has ended', async () => {
    const user = await newPayer(1_000_000);
    const body = bodyOf('openai-responses', '[[use 70]]', {
      background: true,
      max_output_tokens: 100,
    });
    const { status, id, text } = await send('openai-responses', user.key, body);
    expect(status).toBe(200);
    // Nobody who looks for dead holds takes this one for such.
    await gateway.ledger.keepBudgets();
    expect((await openHolds(user.id)).map((hold) => hold.id)).toEqual([id]);
    const asked = await fetch(`${gateway.url}/v1/responses/${JSON.parse(text).id}`, {
      headers: { authorization: `Bearer ${user.key}` },
    });
    expect(asked.status).toBe(200);
    await asked.text();
    const usage = await gateway.usage(id);
    expect(usage.output_tokens).toBe(70);
    await expectNothingStranded(user.id, usage.cost);
  });

  it('with an intent that says the same, durable before the provider is called', async () => {
    const user = await newPayer(20_000);
    const seen: unknown[] = [];
    gateway.upstream.scriptPath(/^POST \/v1\/embeddings$/, async (response) => {
      seen.push(
        ...(await gateway.rows(
          `select i.id = h.id and i.created_at = h.created_at and i.owner <> h.owner as is_same,
             i.kilo_user_id, i.organization_id, i.api_key_id, i.api_kind, i.requested_model,
             i.max_tokens::int, i.streamed
           from gateway_intents as i join usage_holds as h on h.id = i.id`,
        )),
      );
      response.end(JSON.stringify({ usage: { prompt_tokens: 9, total_tokens: 9 } }));
    });
    const response = await fetch(`${gateway.url}/v1/embeddings`, {
      method: 'POST',
      headers: { authorization: `Bearer ${user.key}` },
      body: JSON.stringify({ model: 'text-embedding-3-small', input: 'hello' }),
    });
    expect(response.status).toBe(200);
    await response.text();
    expect(seen).toEqual([
      {
        is_same: true,
        kilo_user_id: user.id,
        organization_id: null,
        api_key_id: user.keyId,
        api_kind: 'openai_embeddings',
        requested_model: 'text-embedding-3-small',
        max_tokens: null,
        streamed: false,
      },
    ]);
    await gateway.usage(response.headers.get('x-microdollar-usage-id') ?? '');
  });

  it('of a stream whose client leaves, until what it used is recorded', async () => {
    const user = await newPayer(1_000_000);
    const leaving = new AbortController();
    const response = await fetch(gateway.url + WIRE_PATHS['anthropic-messages'], {
      method: 'POST',
      headers: { authorization: `Bearer ${user.key}` },
      body: bodyOf('anthropic-messages', '[[slow]]', { stream: true, max_tokens: 1_000 }),
      signal: leaving.signal,
    });
    const id = response.headers.get('x-microdollar-usage-id') ?? '';
    expect((await openHolds(user.id)).map((hold) => hold.id)).toEqual([id]);
    await response.body?.getReader().read();
    leaving.abort();
    const usage = await gateway.usage(id);
    expect(usage.cancelled).toBe(true);
    await expectNothingStranded(user.id, usage.cost);
  });
});

describe('what was held for nothing', () => {
  it('is given back, with its intent, where the answer of the database was lost', async () => {
    const user = await newPayer(1_000_000);
    const calls = gateway.upstream.calls;
    const { ledger } = gateway;
    const { hold } = ledger;
    ledger.hold = async (...args) => {
      await hold(...args);
      throw new LedgerError('unavailable', 'the connection was lost');
    };
    try {
      const body = bodyOf('openai-chat', 'hello', { max_tokens: 10 });
      expect((await send('openai-chat', user.key, body)).status).toBe(503);
    } finally {
      ledger.hold = hold;
    }
    expect(gateway.upstream.calls).toBe(calls);
    const intents = 'select id from gateway_intents where kilo_user_id = $1';
    expect(await gateway.rows(intents, [user.id])).toEqual([]);
    await expect.poll(() => openHolds(user.id)).toEqual([]);
    await expectNothingStranded(user.id, 0);
  });

  it('is given back where no intent can be made durable', async () => {
    const refusing = await startTestGateway({
      holds: 'expected',
      gateway: {
        sink: FULL_SINK,
      },
    });
    try {
      const user = await newPayer(20_000, refusing);
      const body = bodyOf('openai-chat', 'hello', { max_tokens: 10 });
      expect((await send('openai-chat', user.key, body, refusing)).status).toBe(503);
      const [held] = await refusing.rows('select id from usage_holds');
      expect(held).toBeDefined();
      expect(refusing.upstream.calls).toBe(0);
      await expect.poll(() => openHolds(user.id, refusing)).toEqual([]);
      await expectNothingStranded(user.id, 0, refusing);
    } finally {
      await refusing.stop();
    }
  });
});
