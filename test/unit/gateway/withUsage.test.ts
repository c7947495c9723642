import type Anthropic from '@anthropic-ai/sdk';
import OpenAI from 'openai';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import {
  UsageRecordingError,
  type WithUsageOptions,
  withUsage,
} from '../../../src/gateway/sdk/index.js';
import { ANSWERS, findAnswer } from '../../support/answers/index.js';
import { type ReplayUpstream, startReplayUpstream } from '../../support/replayUpstream.js';
import { RecordingLedger } from './recordingLedger.js';
import { call, collect, messages, openClients, promptAtStart, tokensOf, user } from './sdkCalls.js';

/** Calls of the official clients, one by one. */
const text = findAnswer('openai-chat', 'text', false);
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

const record = <T>(made: () => PromiseLike<T>, more: Partial<WithUsageOptions> = {}) =>
  withUsage(ledger, { ...user, ...more }, made);

describe('withUsage', () => {
  it.each(ANSWERS)(
    '$api $name, streamed $streamed: the same answer, and its tokens recorded',
    async (given) => {
      const plain = await collect(await call(given, { openai, anthropic }));
      const metered = await collect(await record(() => call(given, { openai, anthropic })));
      expect(JSON.stringify(metered)).toBe(JSON.stringify(plain));
      expect(ledger.events).toHaveLength(1);
      expect(ledger.last).toMatchObject(tokensOf(given));
      expect(ledger.last.metadata).toMatchObject({
        api_kind: given.api.replace('-', '_'),
        streamed: given.streamed,
        estimated: null,
      });
    },
  );

  it('prices at list prices, at the time of the call', async () => {
    await record(() =>
      openai.chat.completions.create({ model: 'replay:text', messages, stream: false }),
    );
    // 0.1 and 0.4 microdollars a token.
    const { inputTokens, outputTokens } = text.usage;
    expect(ledger.last).toMatchObject({
      cost: Math.round((inputTokens + outputTokens * 4) / 10),
      metadata: { price_source: 'genai-prices' },
    });
    expect(Date.parse(String(ledger.last.created_at))).toBeLessThanOrEqual(Date.now());
  });

  it('takes the id, the payer and metadata of the caller', async () => {
    const id = '6c8f1a0e-54a5-4b2a-9d0b-0a8f2f3d9c11';
    const organization_id = '7d3f1c52-1b9e-4a53-8f0e-3f6f0a5f4b11';
    const request = { model: 'replay:text', messages };
    await record(() => openai.chat.completions.create(request), {
      id,
      organization_id,
      request,
      metadata: { feature: 'search' },
    });
    expect(ledger.last).toMatchObject({
      id,
      organization_id,
      metadata: { feature: 'search', user_prompt_prefix: null },
    });
    await record(() => openai.chat.completions.create(request), { request });
    expect(ledger.last.metadata).toMatchObject({ user_prompt_prefix: 'Hello there' });
  });

  it('reads through withResponse()', async () => {
    const { data, response } = await record(() =>
      anthropic.messages.create({ model: 'replay:text', messages, max_tokens: 9 }).withResponse(),
    );
    expect(response.status).toBe(200);
    expect(ledger.last).toMatchObject({ output_tokens: data.usage.output_tokens });
  });

  it('estimates a chat stream that was not asked for usage, and says so', async () => {
    const request = { model: 'replay:text', messages, stream: true as const };
    const stream = await record(() => openai.chat.completions.create(request), { request });
    await collect(stream);
    expect(ledger.last.metadata).toMatchObject({ estimated: 'missing_usage' });
    expect(ledger.last.output_tokens).toBeGreaterThan(100);
    expect(ledger.last.input_tokens).toBeGreaterThan(0);
  });

  it('records a stream that is left, as cancelled, and stops the provider', async () => {
    const aborted = upstream.aborted;
    const stream = await record(() =>
      anthropic.messages.create({
        model: 'replay:code-execution?chunkBytes=2000&delayMs=2',
        messages,
        max_tokens: 9,
        stream: true,
      }),
    );
    for await (const event of stream) if (event.type === 'content_block_delta') break;
    expect(ledger.last).toMatchObject({
      input_tokens: promptAtStart('code-execution'),
      has_error: false,
      metadata: { cancelled: true, estimated: 'partial_usage' },
    });
    await expect.poll(() => upstream.aborted).toBe(aborted + 1);
  });

  it('records a stream that is aborted', async () => {
    const stream = await record(() =>
      openai.responses.create({
        model: 'replay:mcp?chunkBytes=3000&delayMs=2',
        input: 'Hi',
        stream: true,
      }),
    );
    for await (const event of stream) {
      if (event.type.endsWith('.delta')) stream.controller.abort();
    }
    expect(ledger.last.metadata).toMatchObject({ cancelled: true, estimated: 'missing_usage' });
  });

  it('records a stream that breaks off, and throws its error on', async () => {
    const stream = await record(() =>
      openai.responses.create({
        model: 'replay:mcp?dieAfterBytes=60000',
        input: 'Hi',
        stream: true,
      }),
    );
    await expect(collect(stream)).rejects.toThrow();
    expect(ledger.last).toMatchObject({ has_error: true });
    expect(ledger.last.metadata).toMatchObject({ cancelled: false, estimated: 'missing_usage' });
  });

  it.each(['openai', 'anthropic'])('records a refusal of %s without cost', async (provider) => {
    const model = 'replay:none?status=429';
    const refused = record<unknown>(() =>
      provider === 'openai'
        ? openai.chat.completions.create({ model, messages })
        : anthropic.messages.create({ model, messages, max_tokens: 1 }),
    );
    await expect(refused).rejects.toMatchObject({ status: 429 });
    expect(ledger.last).toMatchObject({
      cost: 0,
      has_error: true,
      metadata: { status_code: 429, estimated: null },
    });
    expect(ledger.last.metadata?.unpriced).toBeUndefined();
  });

  it('records a call that is aborted before its answer, as of unknown cost', async () => {
    const controller = new AbortController();
    const aborted = record(() =>
      openai.chat.completions.create(
        { model: 'replay:text?firstDelayMs=5000', messages },
        { signal: controller.signal },
      ),
    );
    setTimeout(() => controller.abort(), 20);
    await expect(aborted).rejects.toThrow(OpenAI.APIUserAbortError);
    expect(ledger.last.metadata).toMatchObject({ cancelled: true, estimated: 'no_answer' });
  });
});

describe('usage that cannot be recorded', () => {
  const create = () => openai.chat.completions.create({ model: 'replay:text', messages });

  it('is thrown by default, with the answer and the event to record again', async () => {
    ledger.isAway = true;
    const error = await record(create).catch((thrown) => thrown);
    expect(error).toBeInstanceOf(UsageRecordingError);
    expect(error.answer).toMatchObject({ object: 'chat.completion' });
    expect(error.cause).toMatchObject({ code: 'unavailable' });
    ledger.isAway = false;
    await ledger.recordUsage(error.event);
    expect(ledger.last).toMatchObject({ output_tokens: text.usage.outputTokens });
  });

  it('ends a stream with the error', async () => {
    ledger.isAway = true;
    const stream = await record(() =>
      openai.chat.completions.create({ model: 'replay:text', messages, stream: true }),
    );
    await expect(collect(stream)).rejects.toThrow(UsageRecordingError);
  });

  it('goes to a function instead, and the call goes on', async () => {
    ledger.isAway = true;
    const errors: UsageRecordingError[] = [];
    const onRecordingError = (error: UsageRecordingError) => void errors.push(error);
    expect(await record(create, { onRecordingError })).toMatchObject({ object: 'chat.completion' });
    expect(errors).toHaveLength(1);
  });

  it('hides no error of the provider, nor is hidden by it', async () => {
    ledger.isAway = true;
    const failed = record(() =>
      openai.chat.completions.create({ model: 'replay:none?status=500', messages }),
    );
    const error = await failed.catch((thrown) => thrown);
    expect(error).toBeInstanceOf(AggregateError);
    expect(error.errors[0]).toMatchObject({ status: 500 });
    expect(error.errors[1]).toBeInstanceOf(UsageRecordingError);
  });
});
