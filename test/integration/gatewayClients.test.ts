import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { findAnswer, WIRE_APIS, type WireApi } from '../support/answers/index.js';
import { type Call, callAiSdk, callOfficialClient, type Target } from './gatewayClients.js';
import { startTestGateway, type TestGateway, type TestUser } from './gatewayHarness.js';

/** A stream of each API that takes long enough to be left. */
const LONG_STREAMS = {
  'openai-chat': 'long-text',
  'openai-responses': 'mcp',
  'anthropic-messages': 'code-execution',
} as const satisfies Record<WireApi, string>;

const CLIENTS = [
  ['official client', callOfficialClient],
  ['AI SDK', callAiSdk],
] as const;

let gateway: TestGateway;
let user: TestUser;

beforeAll(async () => {
  gateway = await startTestGateway();
  user = await gateway.newUser();
});
afterAll(() => gateway?.stop());

const direct = (): Target => ({ url: gateway.upstream.url, key: 'direct' });
const through = (): Target => ({ url: gateway.url, key: user.key });

describe.each(CLIENTS)('%s', (client, send) => {
  describe.each(WIRE_APIS)('%s', (api) => {
    it.each([400, 401, 429, 500, 529])('sees the provider’s error %i as it is', async (status) => {
      for (const streamed of [true, false]) {
        const model = `replay:x?status=${status}&client=${encodeURIComponent(client)}&s=${streamed}`;
        const call: Call = { api, model, streamed };
        const seen = await send(through(), call);
        expect(seen).toEqual(await send(direct(), call));
        expect(JSON.stringify(seen)).toContain(`refuses with ${status}`);
        expect(await gateway.usageOf(model)).toMatchObject({
          has_error: true,
          cost: 0,
          status_code: status,
        });
      }
    });

    it('sees a stream break off where it broke off', async () => {
      const cut = 'dieAfterBytes=3100&chunkBytes=500&usage=always';
      const model = `replay:${LONG_STREAMS[api]}?${cut}&client=${client}`;
      const call: Call = { api, model, streamed: true, includeUsage: true };
      const seen = await send(through(), call);
      expect(seen.events.length).toBeGreaterThan(0);
      expect(seen).toEqual(await send(direct(), call));
      expect(await gateway.usageOf(model)).toMatchObject({
        has_error: true,
        estimated: expect.any(String),
      });
    });

    it('leaves a stream, and is billed for what the provider made of it', async () => {
      const slow = 'chunkBytes=2000&delayMs=3&usage=always';
      const model = `replay:${LONG_STREAMS[api]}?${slow}&leaves=${client}`;
      const leaving = new AbortController();
      const sent = send(through(), { api, model, streamed: true, signal: leaving.signal });
      while (!gateway.upstream.requests.some(({ body }) => body.includes(model))) {
        await new Promise((resolve) => setTimeout(resolve, 2));
      }
      leaving.abort();
      await sent;
      const row = await gateway.usageOf(model);
      // What Anthropic streams is seen as it is made: it is stopped. Elsewhere it is read to its end.
      const estimated = api === 'anthropic-messages' ? expect.any(String) : null;
      expect(row).toMatchObject({ cancelled: true, has_error: false, estimated });
      expect(row.output_tokens).toBeGreaterThan(0);
    });

    it('is told of a balance that is used up', async () => {
      const poor = await gateway.newUser({ usd: 0 });
      const model = 'gpt-4.1-nano';
      const { error, events } = await send(
        { url: gateway.url, key: poor.key },
        { api, model, streamed: false },
      );
      expect(events).toEqual([]);
      expect(JSON.stringify(error)).toContain('the balance of this user is used up');
    });
  });
});

describe('usage of a chat stream', () => {
  const model = 'replay:text?usage=asked&hidden=1';
  const { inputTokens, outputTokens } = findAnswer('openai-chat', 'text', true).usage;

  it('is asked for, and hidden from a client that did not ask', async () => {
    const call: Call = { api: 'openai-chat', model, streamed: true };
    const { events } = await callOfficialClient(through(), call);
    // OpenAI puts "usage":null into the other chunks of a stream that is asked for usage.
    expect(events).toEqual((await callOfficialClient(direct(), call)).events);
    expect(events.filter((event) => 'usage' in (event as object))).toEqual([]);
    expect(await gateway.usageOf(model)).toMatchObject({
      input_tokens: inputTokens,
      output_tokens: outputTokens,
    });
  });

  it('is the client’s own when it asks, and when it says no it is hidden as well', async () => {
    for (const includeUsage of [true, false]) {
      const asked = `${model}&asks=${includeUsage}`;
      const response = await fetch(`${gateway.url}/v1/chat/completions`, {
        method: 'POST',
        headers: { authorization: `Bearer ${user.key}` },
        body: JSON.stringify({
          model: asked,
          stream: true,
          stream_options: { include_usage: includeUsage, other: 1 },
        }),
      });
      const text = await response.text();
      expect(text.includes(`"usage":{"prompt_tokens":${inputTokens},`)).toBe(includeUsage);
      expect(text).toMatch(/data: \[DONE\]\n\n$/);
      const sent = JSON.parse(String(gateway.upstream.requests.at(-1)?.body));
      expect(sent.stream_options).toEqual({ include_usage: true, other: 1 });
      expect(await gateway.usageOf(asked)).toMatchObject({ output_tokens: outputTokens });
    }
  });
});
