import type Anthropic from '@anthropic-ai/sdk';
import OpenAI from 'openai';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import {
  UsageRecordingError,
  type WithUsageOptions,
  withUsage,
} from '../../../src/gateway/sdk/index.js';
import { type ReplayUpstream, startReplayUpstream } from '../../support/replayUpstream.js';
import { RecordingLedger } from './recordingLedger.js';
import { call, collect, messages, openClients, recordings, tokensOf, user } from './sdkCalls.js';

/** Calls of the official clients, one by one. */
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
  it.each(recordings)('%s: the same answer, and its tokens recorded', async (_name, recording) => {
    const plain = await collect(await call(recording, { openai, anthropic }));
    const metered = await collect(await record(() => call(recording, { openai, anthropic })));
    expect(JSON.stringify(metered)).toBe(JSON.stringify(plain));
    expect(ledger.events).toHaveLength(1);
    expect(ledger.last).toMatchObject(tokensOf(recording));
    expect(ledger.last.metadata).toMatchObject({
      api_kind: recording.api.replace('-', '_'),
      streamed: recording.streamed,
      estimated: null,
    });
  });

  it('prices at list prices, at the time of the call', async () => {
    await record(() =>
      openai.chat.completions.create({ model: 'replay:openai-text', messages, stream: false }),
    );
    // 16 x 0.1 + 363 x 0.4 microdollars.
    expect(ledger.last).toMatchObject({ cost: 147, metadata: { price_source: 'genai-prices' } });
    expect(Date.parse(String(ledger.last.created_at))).toBeLessThanOrEqual(Date.now());
  });

  it('takes the id, the payer and metadata of the caller', async () => {
    const id = '6c8f1a0e-54a5-4b2a-9d0b-0a8f2f3d9c11';
    const organization_id = '7d3f1c52-1b9e-4a53-8f0e-3f6f0a5f4b11';
    const request = { model: 'replay:openai-text', messages };
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
      anthropic.messages
        .create({ model: 'replay:anthropic-text', messages, max_tokens: 9 })
        .withResponse(),
    );
    expect(response.status).toBe(200);
    expect(ledger.last).toMatchObject({ output_tokens: data.usage.output_tokens });
  });

  it('estimates a chat stream that was not asked for usage, and says so', async () => {
    const request = { model: 'replay:openai-text', messages, stream: true as const };
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
        model: 'replay:anthropic-code-execution-20250825.2?chunkBytes=2000&delayMs=2',
        messages,
        max_tokens: 9,
        stream: true,
      }),
    );
    for await (const event of stream) if (event.type === 'content_block_delta') break;
    expect(ledger.last).toMatchObject({
      input_tokens: 2_273,
      has_error: false,
      metadata: { cancelled: true, estimated: 'partial_usage' },
    });
    await expect.poll(() => upstream.aborted).toBe(aborted + 1);
  });

  it('records a stream that is aborted', async () => {
    const stream = await record(() =>
      openai.responses.create({
        model: 'replay:openai-mcp-tool.1?chunkBytes=3000&delayMs=2',
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
        model: 'replay:openai-mcp-tool.1?dieAfterBytes=60000',
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
        { model: 'replay:openai-text?firstDelayMs=5000', messages },
        { signal: controller.signal },
      ),
    );
    setTimeout(() => controller.abort(), 20);
    await expect(aborted).rejects.toThrow(OpenAI.APIUserAbortError);
    expect(ledger.last.metadata).toMatchObject({ cancelled: true, estimated: 'no_answer' });
  });
});

describe('usage that cannot be recorded', () => {
  const create = () => openai.chat.completions.create({ model: 'replay:openai-text', messages });

  it('is thrown by default, with the answer and the event to record again', async () => {
    ledger.isAway = true;
    const error = await record(create).catch((thrown) => thrown);
    expect(error).toBeInstanceOf(UsageRecordingError);
    expect(error.answer).toMatchObject({ object: 'chat.completion' });
    expect(error.cause).toMatchObject({ code: 'unavailable' });
    ledger.isAway = false;
    await ledger.recordUsage(error.event);
    expect(ledger.last).toMatchObject({ output_tokens: 363 });
  });

  it('ends a stream with the error', async () => {
    ledger.isAway = true;
    const stream = await record(() =>
      openai.chat.completions.create({ model: 'replay:openai-text', messages, stream: true }),
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
