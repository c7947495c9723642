import { describe, expect, it } from 'vitest';
import {
  createStreamGate,
  estimateUsage,
  type UsageReading,
  type WireFormat,
} from '../../../src/gateway/processUsage/index.js';
import { readBytes } from './readBytes.js';

/** What whole answers do not show: other providers, errors, usage that is missing. */
describe('OpenAI chat and compatible providers', () => {
  it('reads cost, provider and cache counts of OpenRouter, the cost as it was sent', () => {
    const reading = readStream('openai-chat', [
      '{"id":"gen-1","provider":"Anthropic","model":"anthropic/claude-sonnet-4.5",' +
        '"choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":"stop",' +
        '"native_finish_reason":"end_turn"}]}',
      '{"id":"gen-1","provider":"Anthropic","choices":[{"delta":{"content":""}}],' +
        '"usage":{"prompt_tokens":100,"completion_tokens":5,"total_tokens":105,' +
        '"cost":0.00012345678901234567890,"is_byok":false,"prompt_tokens_details":' +
        '{"cached_tokens":60,"cache_write_tokens":30,"audio_tokens":0},' +
        '"cost_details":{"upstream_inference_cost":null,"cost":7},' +
        '"completion_tokens_details":{"reasoning_tokens":2,"image_tokens":0}}}',
      '[DONE]',
    ]);
    expect(reading).toMatchObject({
      inputTokens: 100,
      outputTokens: 5,
      cacheHitTokens: 60,
      cacheWriteTokens: 30,
      reasoningTokens: 2,
      costUsd: '0.00012345678901234567890',
      upstreamCostUsd: null,
      isByok: false,
      inferenceProvider: 'Anthropic',
      model: 'anthropic/claude-sonnet-4.5',
      finishReason: 'stop',
      messageId: 'gen-1',
      usage: 'final',
      complete: true,
    });
  });

  it.each([
    ['DeepSeek', { prompt_cache_hit_tokens: 64, prompt_cache_miss_tokens: 36 }],
    ['Moonshot', { cached_tokens: 64 }],
    ['OpenAI', { prompt_tokens_details: { cached_tokens: 64 } }],
  ])('reads cache hits as %s names them', (_name, more) => {
    const usage = { prompt_tokens: 100, completion_tokens: 7, ...more };
    expect(readBody('openai-chat', { choices: [], usage })).toMatchObject({
      inputTokens: 100,
      cacheHitTokens: 64,
    });
  });

  it('adds reasoning where the total says that the completion leaves it out', () => {
    const usage = {
      prompt_tokens: 10,
      completion_tokens: 5,
      total_tokens: 115,
      completion_tokens_details: { reasoning_tokens: 100 },
    };
    expect(readBody('openai-chat', { usage })).toMatchObject({ outputTokens: 105 });
    expect(readBody('openai-chat', { usage: { ...usage, total_tokens: 15 } })).toMatchObject({
      outputTokens: 5,
      reasoningTokens: 5,
    });
  });

  it('takes the last of running totals, final only with the end', () => {
    const chunk = (count: number, reason: string | null) =>
      JSON.stringify({
        choices: [{ delta: { content: 'word' }, finish_reason: reason }],
        usage: { prompt_tokens: 9, completion_tokens: count },
      });
    const cut = readStream('openai-chat', [chunk(1, null), chunk(2, null)]);
    expect(cut).toMatchObject({ outputTokens: 2, usage: 'partial', complete: false });
    const whole = readStream('openai-chat', [chunk(1, null), chunk(3, 'stop')]);
    expect(whole).toMatchObject({ outputTokens: 3, usage: 'final', complete: true });
  });

  it('reads usage where Groq puts it', () => {
    const reading = readStream('openai-chat', [
      '{"choices":[{"delta":{},"finish_reason":"stop"}],' +
        '"x_groq":{"usage":{"prompt_tokens":3,"completion_tokens":4}}}',
      '[DONE]',
    ]);
    expect(reading).toMatchObject({ inputTokens: 3, outputTokens: 4, usage: 'final' });
  });

  it('names an error amid the stream by type or code, never by its message', () => {
    const reading = readStream('openai-chat', [
      '{"choices":[{"delta":{"content":"Hel"}}]}',
      '{"error":{"code":502,"message":"secret"},"choices":[{"delta":{},"finish_reason":"error"}]}',
    ]);
    expect(reading).toMatchObject({ error: '502', finishReason: 'error', usage: 'missing' });
    expect(JSON.stringify(reading)).not.toContain('secret');
  });
});

describe('OpenAI responses', () => {
  it.each([
    ['response.incomplete', { incomplete_details: { reason: 'max_output_tokens' } }],
    ['response.failed', { error: { code: 'server_error', message: 'x' }, status: 'failed' }],
  ])('reads the usage of %s', (type, more) => {
    const usage = { input_tokens: 20, output_tokens: 30, input_tokens_details: {} };
    const response = { id: 'r', model: 'gpt-5', status: 'incomplete', usage, ...more };
    const reading = readStream('openai-responses', [JSON.stringify({ type, response })]);
    expect(reading).toMatchObject({ inputTokens: 20, outputTokens: 30, complete: true });
    expect(reading.finishReason).toBe(type === 'response.failed' ? 'failed' : 'max_output_tokens');
    expect(reading.error).toBe(type === 'response.failed' ? 'server_error' : null);
  });

  it('takes the end that translators of other APIs send', () => {
    const response = {
      id: 'r',
      model: 'm',
      status: 'completed',
      usage: { input_tokens: 20, output_tokens: 30 },
    };
    const done = JSON.stringify({ type: 'response.done', response });
    expect(readStream('openai-responses', [done, '[DONE]'])).toMatchObject({
      inputTokens: 20,
      complete: true,
      malformedChunks: 0,
    });
    const gate = createStreamGate('openai-responses', { hideUsageChunk: false });
    expect(gate.push(Buffer.from(`data: ${done}\n\n`))).toEqual([]);
    expect(gate.sawTerminal).toBe(true);
  });

  it('reads an error event', () => {
    const reading = readStream('openai-responses', [
      '{"type":"error","code":"rate_limit_exceeded","message":"m","sequence_number":1}',
    ]);
    expect(reading).toMatchObject({ error: 'rate_limit_exceeded', usage: 'missing' });
  });

  it('counts searches that are charged', () => {
    const output = [
      { type: 'web_search_call', action: { type: 'search' } },
      { type: 'web_search_call', action: { type: 'open_page' } },
      { type: 'web_search_call' },
      { type: 'file_search_call' },
    ];
    const usage = { input_tokens: 1, output_tokens: 1 };
    expect(readBody('openai-responses', { output, usage })).toMatchObject({
      webSearches: 2,
      fileSearches: 1,
    });
  });
});

describe('Anthropic messages', () => {
  const start = (usage: object) =>
    JSON.stringify({ type: 'message_start', message: { id: 'm', model: 'claude', usage } });
  const end = (usage: object) =>
    JSON.stringify({ type: 'message_delta', delta: { stop_reason: 'end_turn' }, usage });

  it('takes cumulative counts at their last value and keeps what null does not say', () => {
    const reading = readStream('anthropic-messages', [
      start({
        input_tokens: 10,
        cache_creation_input_tokens: 300,
        cache_read_input_tokens: 40,
        cache_creation: { ephemeral_5m_input_tokens: 100, ephemeral_1h_input_tokens: 200 },
        output_tokens: 1,
      }),
      end({ input_tokens: 12, cache_read_input_tokens: null, output_tokens: 77 }),
      end({ output_tokens: 78, server_tool_use: { web_search_requests: 3 } }),
      '{"type":"message_stop"}',
    ]);
    expect(reading).toMatchObject({
      inputTokens: 352,
      cacheWriteTokens: 300,
      cacheWrite1hTokens: 200,
      cacheHitTokens: 40,
      outputTokens: 78,
      webSearches: 3,
      usage: 'final',
    });
  });

  it('adds compaction, which the totals leave out, and keeps an advisor apart', () => {
    const usage = {
      input_tokens: 100,
      output_tokens: 20,
      iterations: [
        { type: 'compaction', input_tokens: 5_000, output_tokens: 300 },
        { type: 'message', input_tokens: 100, output_tokens: 20 },
        { type: 'advisor_message', model: 'claude-opus-4-7', input_tokens: 8, output_tokens: 9 },
      ],
    };
    const reading = readBody('anthropic-messages', { model: 'claude-sonnet-4-6', usage });
    expect(reading).toMatchObject({ inputTokens: 5_100, outputTokens: 320 });
    expect(reading.otherModels).toMatchObject([
      { model: 'claude-opus-4-7', tokens: { inputTokens: 8, outputTokens: 9 } },
    ]);
  });

  it('knows usage that broke off for a lower bound', () => {
    const text = { type: 'content_block_delta', delta: { text: 'x'.repeat(400) } };
    const reading = readStream('anthropic-messages', [
      start({ input_tokens: 50, output_tokens: 1 }),
      JSON.stringify(text),
      '{"type":"error","error":{"type":"overloaded_error","message":"m"}}',
    ]);
    expect(reading).toMatchObject({ error: 'overloaded_error', usage: 'partial' });
    const estimate = estimateUsage({ inputTokensEstimate: 9_999 }, reading);
    expect(estimate.estimated).toBe('partial_usage');
    expect(estimate.reading).toMatchObject({ inputTokens: 50, outputTokens: 100 });
  });

  it('reads the error of a refused request', () => {
    const error = { type: 'invalid_request_error', message: 'm' };
    expect(readBody('anthropic-messages', { type: 'error', error })).toMatchObject({
      error: 'invalid_request_error',
      usage: 'missing',
    });
  });
});

describe('what is missing', () => {
  it('is estimated from the bytes, and said to be', () => {
    const reading = readStream('openai-chat', [
      JSON.stringify({ choices: [{ delta: { content: 'y'.repeat(41) } }] }),
      '[DONE]',
    ]);
    const estimate = estimateUsage({ inputTokensEstimate: 123 }, reading);
    expect(estimate.estimated).toBe('missing_usage');
    expect(estimate.reading).toMatchObject({ inputTokens: 123, outputTokens: 11 });
  });

  it('is nothing when the answer said all', () => {
    const reading = readBody('openai-chat', {
      usage: { prompt_tokens: 1, completion_tokens: 0 },
    });
    expect(estimateUsage({ inputTokensEstimate: 5 }, reading)).toMatchObject({
      estimated: null,
      reading: { inputTokens: 1, outputTokens: 0 },
    });
  });
});

function readStream(format: WireFormat, payloads: readonly string[]): UsageReading {
  const text = payloads.map((payload) => `data: ${payload}\n\n`).join('');
  return readBytes(format, true, Buffer.from(text), 17);
}

function readBody(format: WireFormat, body: object): UsageReading {
  return readBytes(format, false, Buffer.from(JSON.stringify(body)), 17);
}
