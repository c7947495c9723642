import type Anthropic from '@anthropic-ai/sdk';
import type OpenAI from 'openai';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import {
  type MeteredFetchOptions,
  meteredFetch,
  UsageRecordingError,
} from '../../../src/gateway/sdk/index.js';
import { ANSWERS, findAnswer } from '../../support/answers/index.js';
import { type ReplayUpstream, startReplayUpstream } from '../../support/replayUpstream.js';
import { RecordingLedger } from './recordingLedger.js';
import { call, collect, messages, openClients, promptAtStart, tokensOf, user } from './sdkCalls.js';

/** Every call of the official clients, by the `fetch` that they are given. */
const text = findAnswer('openai-chat', 'text', true);
let upstream: ReplayUpstream;
let openai: OpenAI;
let anthropic: Anthropic;
let ledger: RecordingLedger;

beforeAll(async () => {
  upstream = await startReplayUpstream();
  ({ openai, anthropic } = openClients(upstream.url));
});
afterAll(() => upstream.close());
beforeEach(() => {
  ledger = new RecordingLedger();
});

describe('meteredFetch', () => {
  const metered = (more: Partial<MeteredFetchOptions> = {}) => {
    const fetch = meteredFetch(ledger, { ...user, ...more });
    return {
      openai: openai.withOptions({ fetch }),
      anthropic: anthropic.withOptions({ fetch }),
    };
  };

  it.each(ANSWERS)(
    '$api $name, streamed $streamed: the same answer, and its tokens recorded',
    async (given) => {
      const plain = await collect(await call(given, { openai, anthropic }));
      const answer = await collect(await call(given, metered()));
      expect(JSON.stringify(answer)).toBe(JSON.stringify(plain));
      expect(ledger.events).toHaveLength(1);
      expect(ledger.last).toMatchObject(tokensOf(given));
    },
  );

  it('asks a chat stream for its usage and hides the chunk', async () => {
    const request = { model: 'replay:text', messages, stream: true as const };
    const plain = await collect(await openai.chat.completions.create(request));
    const answer = await collect(await metered().openai.chat.completions.create(request));
    const choices = (chunks: unknown) =>
      (chunks as { choices: unknown }[]).map((chunk) => chunk.choices);
    expect(choices(answer)).toEqual(choices(plain));
    expect(ledger.last).toMatchObject({
      output_tokens: text.usage.outputTokens,
      metadata: { estimated: null },
    });
  });

  it("records the SDKs' own helpers, each call of them", async () => {
    const clients = metered();
    const final = await clients.anthropic.messages
      .stream({ model: 'replay:tools', messages, max_tokens: 9 })
      .finalMessage();
    expect(ledger.last).toMatchObject({ output_tokens: final.usage.output_tokens });
    const chat = await clients.openai.chat.completions
      .stream({ model: 'replay:text', messages })
      .finalChatCompletion();
    expect(chat.choices[0]?.finish_reason).toBe('stop');
    expect(ledger.last).toMatchObject({ output_tokens: text.usage.outputTokens });
    const response = await clients.openai.responses
      .stream({ model: 'replay:local-shell', input: 'Hi' })
      .finalResponse();
    expect(ledger.last).toMatchObject({ input_tokens: response.usage?.input_tokens });
    expect(ledger.events).toHaveLength(3);
  });

  it('records an aborted stream once, with what was seen', async () => {
    const stream = await metered().anthropic.messages.create({
      model: 'replay:code-execution?chunkBytes=2000&delayMs=2',
      messages,
      max_tokens: 9,
      stream: true,
    });
    for await (const event of stream) if (event.type === 'content_block_delta') break;
    await expect.poll(() => ledger.events.length).toBe(1);
    expect(ledger.last).toMatchObject({
      input_tokens: promptAtStart('code-execution'),
      metadata: { cancelled: true },
    });
  });

  it('records refusals, and each attempt of a retry', async () => {
    upstream.script('busy', (response) => {
      response.writeHead(503, { 'retry-after-ms': '1' }).end('{"error":{"type":"busy"}}');
    });
    const client = metered().openai.withOptions({ maxRetries: 1 });
    await expect(
      client.chat.completions.create({ model: 'script:busy', messages }),
    ).rejects.toMatchObject({ status: 503 });
    expect(ledger.events.map((event) => event.metadata?.status_code)).toEqual([503, 503]);
    expect(new Set(ledger.events.map((event) => event.id)).size).toBe(2);
  });

  it('lets other requests pass', async () => {
    const { data } = await metered().openai.models.list();
    expect(data).toHaveLength(1);
    expect(ledger.events).toHaveLength(0);
  });

  it('fails the answer whose usage cannot be recorded', async () => {
    ledger.isAway = true;
    const { openai: client } = metered();
    const asked = upstream.requests.length;
    const whole = client.chat.completions.create({ model: 'replay:text', messages });
    await expect(whole).rejects.toThrow(UsageRecordingError);
    // The SDK does not take it for a lost connection: the provider would charge each try.
    expect(upstream.requests.length - asked).toBe(1);
    const stream = await client.chat.completions.create({
      model: 'replay:text',
      messages,
      stream: true,
    });
    await expect(collect(stream)).rejects.toThrow(UsageRecordingError);
  });
});
