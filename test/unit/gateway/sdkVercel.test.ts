import { createAnthropic } from '@ai-sdk/anthropic';
import { createOpenAI } from '@ai-sdk/openai';
import { generateText, jsonSchema, stepCountIs, streamText, tool, wrapLanguageModel } from 'ai';
import { MockLanguageModelV3 } from 'ai/test';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import {
  type UsageOptions,
  UsageRecordingError,
  usageMiddleware,
} from '../../../src/gateway/sdk/index.js';
import { readRecordedUsage } from '../../support/recordedUsage.js';
import { type ReplayUpstream, startReplayUpstream } from '../../support/replayUpstream.js';
import { findRecording, type WireApi } from '../../support/wireRecordings.js';
import { RecordingLedger } from './recordingLedger.js';

/** The Vercel AI SDK with its own providers, recorded by the middleware. */
let upstream: ReplayUpstream;
let ledger: RecordingLedger;

beforeAll(async () => {
  // It warns that the recordings' names are no models that it knows.
  Object.assign(globalThis, { AI_SDK_LOG_WARNINGS: false });
  upstream = await startReplayUpstream();
});
afterAll(() => upstream.close());
beforeEach(() => {
  ledger = new RecordingLedger();
});

function modelOf(api: WireApi, id: string, more: Partial<UsageOptions> = {}) {
  const openai = createOpenAI({ apiKey: 'k', baseURL: `${upstream.url}/v1` });
  const anthropic = createAnthropic({ apiKey: 'k', baseURL: `${upstream.url}/v1` });
  const model = {
    'openai-chat': () => openai.chat(id),
    'openai-responses': () => openai.responses(id),
    'anthropic-messages': () => anthropic(id),
  }[api]();
  const middleware = usageMiddleware(ledger, { kilo_user_id: 'a user', ...more });
  return wrapLanguageModel({ model, middleware });
}

const CASES: [api: WireApi, streamed: string, whole: string][] = [
  ['openai-chat', 'openai-text', 'openai-text'],
  ['openai-responses', 'openai-web-search-tool.1', 'openai-phase.1'],
  ['openai-responses', 'openai-file-search-tool.1', 'openai-mcp-tool-approval.4'],
  ['anthropic-messages', 'anthropic-text', 'anthropic-claude-opus-5-reasoning-high.1'],
  ['anthropic-messages', 'anthropic-web-fetch-tool.1', 'anthropic-advisor-20260301.1'],
];

describe('usageMiddleware', () => {
  it.each(CASES)('%s: generateText of %2$s', async (api, _streamed, whole) => {
    const model = modelOf(api, `replay:${whole}`);
    const { usage } = await generateText({ model, prompt: 'Hi', maxRetries: 0 });
    expect(ledger.events).toHaveLength(1);
    expect(ledger.last).toMatchObject(expectedOf(api, whole, false));
    expect(ledger.last.metadata).toMatchObject({ streamed: false, estimated: null });
    expect(ledger.last.input_tokens).toBe(usage.inputTokens);
  });

  it.each(CASES)('%s: streamText of %s', async (api, streamed) => {
    const model = modelOf(api, `replay:${streamed}?chunkBytes=700`);
    const result = streamText({ model, prompt: 'Hi', maxRetries: 0, includeRawChunks: false });
    const types = new Set<string>();
    for await (const part of result.fullStream) types.add(part.type);
    expect(types).toContain('finish');
    expect(types).not.toContain('raw');
    expect(ledger.events).toHaveLength(1);
    expect(ledger.last).toMatchObject(expectedOf(api, streamed, true));
    expect(ledger.last.metadata).toMatchObject({ streamed: true, estimated: null });
  });

  it('passes raw parts to those who ask for them', async () => {
    const model = modelOf('openai-chat', 'replay:openai-text');
    const result = streamText({ model, prompt: 'Hi', includeRawChunks: true });
    const types = new Set<string>();
    for await (const part of result.fullStream) types.add(part.type);
    expect(types).toContain('raw');
  });

  it('records each step of a tool loop', async () => {
    const model = modelOf('anthropic-messages', 'replay:anthropic-tool-no-args');
    const update = tool({
      inputSchema: jsonSchema<object>({ type: 'object', properties: {} }),
      execute: async () => 'done',
    });
    await generateText({
      model,
      prompt: 'Hi',
      tools: { updateIssueList: update },
      stopWhen: stepCountIs(3),
    });
    expect(ledger.events).toHaveLength(3);
    expect(new Set(ledger.events.map((event) => event.id)).size).toBe(3);
    expect(ledger.last.metadata).toMatchObject({ has_tools: true, finish_reason: 'tool_use' });
  });

  it('records an error of the provider without cost, and throws it on', async () => {
    const model = modelOf('openai-chat', 'replay:none?status=400');
    const failed = generateText({ model, prompt: 'Hi', maxRetries: 0 });
    await expect(failed).rejects.toMatchObject({ statusCode: 400 });
    expect(ledger.last).toMatchObject({
      cost: 0,
      has_error: true,
      metadata: { status_code: 400 },
    });
  });

  it('records an aborted stream as cancelled', async () => {
    const controller = new AbortController();
    const model = modelOf('openai-chat', 'replay:openai-text?chunkBytes=900&delayMs=2');
    const result = streamText({
      model,
      prompt: 'Hi',
      abortSignal: controller.signal,
      onError: () => {},
    });
    for await (const part of result.fullStream) {
      if (part.type === 'text-delta') controller.abort();
    }
    await expect.poll(() => ledger.events.length).toBe(1);
    expect(ledger.last.metadata).toMatchObject({ cancelled: true, estimated: 'missing_usage' });
    expect(ledger.last.has_error).toBe(false);
  });

  it("takes the SDK's own totals of providers with other formats", async () => {
    const usage = {
      inputTokens: { total: 100, noCache: 30, cacheRead: 60, cacheWrite: 10 },
      outputTokens: { total: 20, text: 15, reasoning: 5 },
    };
    const finishReason = { unified: 'stop' as const, raw: 'STOP' };
    const base = new MockLanguageModelV3({
      provider: 'google.generative-ai',
      modelId: 'gemini-2.5-flash',
      doGenerate: async () => ({
        content: [{ type: 'text', text: 'Hi' }],
        finishReason,
        usage,
        warnings: [],
        response: { id: 'r1', modelId: 'gemini-2.5-flash' },
      }),
    });
    const middleware = usageMiddleware(ledger, { kilo_user_id: 'a user' });
    await generateText({ model: wrapLanguageModel({ model: base, middleware }), prompt: 'Hi' });
    expect(ledger.last).toMatchObject({
      input_tokens: 100,
      cache_hit_tokens: 60,
      cache_write_tokens: 10,
      output_tokens: 20,
      model: 'gemini-2.5-flash',
      metadata: { message_id: 'r1', reasoning_tokens: 5, finish_reason: 'STOP', estimated: null },
    });
    expect(ledger.last.metadata?.unpriced).toBeUndefined();
    expect(ledger.last.cost).toBeGreaterThan(0);
  });

  it.each([
    ['a gateway', { gateway: { cost: '0.0045' } }],
    ['a router', { openrouter: { usage: { cost: 0.0045 } } }],
  ])('takes the cost that %s reports beside the totals', async (_name, providerMetadata) => {
    const base = new MockLanguageModelV3({
      provider: 'gateway',
      modelId: 'mystery',
      doGenerate: async () => ({
        content: [{ type: 'text', text: 'Hi' }],
        finishReason: { unified: 'stop' as const, raw: 'stop' },
        usage: {
          inputTokens: { total: 100, noCache: 100, cacheRead: 0, cacheWrite: 0 },
          outputTokens: { total: 20, text: 20, reasoning: 0 },
        },
        warnings: [],
        providerMetadata,
      }),
    });
    const middleware = usageMiddleware(ledger, { kilo_user_id: 'a user' });
    await generateText({ model: wrapLanguageModel({ model: base, middleware }), prompt: 'Hi' });
    expect(ledger.last).toMatchObject({ cost: 4_500, metadata: { reported_cost: 4_500 } });
  });

  it('surfaces usage that cannot be recorded', async () => {
    ledger.isAway = true;
    const model = modelOf('openai-chat', 'replay:openai-text');
    await expect(generateText({ model, prompt: 'Hi', maxRetries: 0 })).rejects.toThrow(
      UsageRecordingError,
    );
    const errors: unknown[] = [];
    const streamed = streamText({
      model,
      prompt: 'Hi',
      onError: ({ error }) => void errors.push(error),
    });
    await streamed.consumeStream();
    expect(errors.some((error) => error instanceof UsageRecordingError)).toBe(true);
    const told: unknown[] = [];
    const onRecordingError = (error: UsageRecordingError) => void told.push(error);
    const lenient = modelOf('openai-chat', 'replay:openai-text', { onRecordingError });
    expect((await generateText({ model: lenient, prompt: 'Hi' })).text).not.toBe('');
    expect(told).toHaveLength(1);
  });
});

function expectedOf(api: WireApi, name: string, streamed: boolean) {
  const recording = findRecording(api, name, streamed);
  if (recording === null) throw new Error(`no recording ${name}`);
  const usage = readRecordedUsage(recording);
  return {
    input_tokens: usage.inputTokens,
    output_tokens: usage.outputTokens,
    cache_hit_tokens: usage.cacheHitTokens,
    model: usage.model,
    has_error: false,
  };
}
