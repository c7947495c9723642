import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  createStreamGate,
  createUsageReader,
  estimateUsage,
  type UsageReading,
  type WireFormat,
} from '../../../src/gateway/processUsage/index.js';

/** What recordings do not show: other providers, errors, broken and hostile streams. */
const FORMATS: readonly WireFormat[] = ['openai-chat', 'openai-responses', 'anthropic-messages'];

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

describe('framings', () => {
  const usage = '"usage":{"prompt_tokens":5,"completion_tokens":6}';
  const expected = { inputTokens: 5, outputTokens: 6, complete: true, malformedChunks: 0 };

  it.each([
    ['a byte order mark', `\uFEFFdata: {"choices":[],${usage}}\n\ndata: [DONE]\n\n`],
    ['data on several lines', `data: {"choices":[],\ndata: ${usage}}\n\ndata:[DONE]\n\n`],
    ['comments', `: OPENROUTER PROCESSING\n\n:\n\ndata: {"choices":[],${usage}}\n\ndata: [DONE]`],
    ['other fields', `id: 7\nretry: 10\ndata: {"choices":[],${usage}}\n\ndata: [DONE]\n\n`],
    ['mixed line ends', `data: {"choices":[],${usage}}\r\n\ndata: [DONE]\r\r`],
    ['no last blank line', `data: [DONE]\n\ndata: {"choices":[],${usage}}`],
    ['a whole body instead', `{"choices":[],${usage}}`],
  ])('%s', (_name, text) => {
    for (const size of [1, 2, 3, 7, 1_000]) {
      expect(readBytes('openai-chat', true, Buffer.from(text), size)).toMatchObject(expected);
    }
  });

  it('a stream where a body was expected', () => {
    const text = `data: {"choices":[],${usage}}\n\ndata: [DONE]\n\n`;
    expect(readBytes('openai-chat', false, Buffer.from(text), 5)).toMatchObject(expected);
  });

  it('counts malformed events and reads on', () => {
    const text = `data: {"choices":[{]}\n\ndata: oops\n\ndata: {"choices":[],${usage}}\n\n`;
    expect(readBytes('openai-chat', true, Buffer.from(text), 9)).toMatchObject({
      inputTokens: 5,
      malformedChunks: 2,
    });
  });

  it('characters cut between bytes', () => {
    const text = `data: ${JSON.stringify({ choices: [{ delta: { content: 'é漢😀' } }] })}\n\n`;
    const reading = readBytes('openai-chat', true, Buffer.from(text), 1);
    expect(reading.outputBytes).toBe(Buffer.byteLength('é漢😀'));
  });
});

describe('large answers', () => {
  it.each(FORMATS)('%s: usage of an event beyond what is kept whole', (format) => {
    const filler = 'z\\"usage\\":{'.repeat(300_000);
    const usage = '{"input_tokens":8,"output_tokens":9,"cost":0.25}';
    const openAi = `{"id":"i","model":"m","output":"${filler}","usage":${usage}}`;
    const text = {
      'openai-chat': `{"id":"i","model":"m","choices":[],"output":"${filler}","usage":${usage}}`,
      'openai-responses': `{"type":"response.completed","response":${openAi}}`,
      'anthropic-messages':
        `{"type":"message_delta","delta":{"stop_reason":"end_turn","x":"${filler}"},` +
        `"usage":${usage}}`,
    }[format];
    const bytes = Buffer.from(`data: ${text}\n\n`);
    const reading = readBytes(format, true, bytes, 16_384);
    expect(reading).toMatchObject({ inputTokens: 8, outputTokens: 9, malformedChunks: 0 });
    const gate = createStreamGate(format, { hideUsageChunk: false });
    const sent = chunksOf(bytes, 16_384).flatMap((piece) => gate.push(piece));
    const held = gate.held();
    expect(Buffer.concat([...sent, held]).equals(bytes)).toBe(true);
    expect(gate.sawTerminal).toBe(format === 'openai-responses');
    if (gate.sawTerminal) expect(Buffer.from(held).toString()).toContain('"usage"');
  });

  it('reads a whole body beyond what is kept', () => {
    const body = { id: 'i', model: 'm', big: 'b'.repeat(3_000_000) };
    const usage = { prompt_tokens: 8, completion_tokens: 9 };
    const text = JSON.stringify({ ...body, usage });
    expect(readBytes('openai-chat', false, Buffer.from(text), 65_536)).toMatchObject({
      inputTokens: 8,
      outputTokens: 9,
      model: 'm',
      usage: 'final',
    });
  });

  it('does not take a member of that name in the request for the usage', () => {
    const tool = { parameters: { properties: { usage: { type: 'string' } } } };
    const text = JSON.stringify({ model: 'm', big: 'b'.repeat(2_000_000), tools: [tool] });
    expect(readBytes('openai-responses', false, Buffer.from(text), 65_536)).toMatchObject({
      inputTokens: null,
      usage: 'missing',
    });
  });
});

describe('hostile input', () => {
  const noise = fc.oneof(
    fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes)),
    fc.json().map((text) => Buffer.from(`data: ${text}\n\n`)),
    fc
      .constantFrom('\r', '\n', '\r\n', 'data:', 'event: error\n', '{"usage":', '\uFEFF')
      .map(Buffer.from),
    hostilePayload().map((text) => Buffer.from(`data: ${text}\r\n\r\n`)),
  );

  it('never throws, and passes every byte', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...FORMATS),
        fc.boolean(),
        fc.array(noise, { maxLength: 12 }),
        (format, streamed, pieces) => {
          const reader = createUsageReader(format, { streamed });
          const gate = createStreamGate(format, { hideUsageChunk: false });
          const out: Uint8Array[] = [];
          for (const piece of pieces) {
            reader.push(piece);
            out.push(...gate.push(piece));
          }
          const reading = reader.end();
          expect(Buffer.concat([...out, gate.held()]).equals(Buffer.concat(pieces))).toBe(true);
          expect(reading.cacheHitTokens + reading.cacheWriteTokens).toBeLessThanOrEqual(
            reading.inputTokens ?? 0,
          );
          expect(reading.reasoningTokens ?? 0).toBeLessThanOrEqual(reading.outputTokens ?? 1e15);
          expect(reader.end()).toEqual(reading);
        },
      ),
      { numRuns: 400 },
    );
  });
});

/** The right members with wrong values. */
function hostilePayload(): fc.Arbitrary<string> {
  const value = fc.oneof(
    fc.constantFrom<unknown>(null, -1, 1e300, 0.5, '12', [], {}, [null], true, 7, 1_000),
    fc.jsonValue(),
  );
  const usage = fc.record(
    {
      prompt_tokens: value,
      completion_tokens: value,
      input_tokens: value,
      output_tokens: value,
      cache_read_input_tokens: value,
      cache_creation_input_tokens: value,
      cache_creation: fc.record({ ephemeral_1h_input_tokens: value }),
      prompt_tokens_details: fc.record({ cached_tokens: value, audio_tokens: value }),
      output_tokens_details: fc.record({ reasoning_tokens: value, thinking_tokens: value }),
      iterations: fc.array(fc.record({ type: fc.constantFrom('compaction', 'advisor_message') })),
      total_tokens: value,
      cost: value,
    },
    { requiredKeys: [] },
  );
  const body = fc.record(
    {
      type: fc.constantFrom('message_start', 'message_delta', 'response.completed', 'error', 'x'),
      usage: fc.oneof(usage, value),
      message: fc.oneof(fc.record({ usage }), value),
      response: fc.oneof(fc.record({ usage, output: value, error: value }), value),
      delta: value,
      choices: fc.oneof(fc.array(fc.record({ delta: value, message: value })), value),
      error: value,
      id: value,
      model: value,
    },
    { requiredKeys: [] },
  );
  return body.map((each) => JSON.stringify(each));
}

function readStream(format: WireFormat, payloads: readonly string[]): UsageReading {
  const text = payloads.map((payload) => `data: ${payload}\n\n`).join('');
  return readBytes(format, true, Buffer.from(text), 17);
}

function readBody(format: WireFormat, body: object): UsageReading {
  return readBytes(format, false, Buffer.from(JSON.stringify(body)), 17);
}

function readBytes(format: WireFormat, streamed: boolean, bytes: Buffer, size: number) {
  const reader = createUsageReader(format, { streamed });
  for (const piece of chunksOf(bytes, size)) reader.push(piece);
  return reader.end();
}

function chunksOf(bytes: Buffer, size: number): Buffer[] {
  const count = Math.ceil(bytes.length / size);
  return Array.from({ length: count }, (_, at) => bytes.subarray(at * size, (at + 1) * size));
}
