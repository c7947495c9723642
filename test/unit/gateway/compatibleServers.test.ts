import { describe, expect, it } from 'vitest';
import { createStreamGate, prepareRequest } from '../../../src/gateway/processUsage/index.js';
import { openAnswer } from '../../../src/gateway/proxy/metering.js';
import { Upstreams } from '../../../src/gateway/proxy/upstreams.js';
import { meteredFetch } from '../../../src/gateway/sdk/index.js';
import { type Call, chatAnswer, meterCall, readAnswer } from './meterCall.js';
import { RecordingLedger } from './recordingLedger.js';

/** What servers that speak these APIs do otherwise than their makers, as public reports of them tell. */
const event = (payload: object | string) =>
  `data: ${typeof payload === 'string' ? payload : JSON.stringify(payload)}\n\n`;
const COUNTS = { prompt_tokens: 1_000, completion_tokens: 100, total_tokens: 1_100 };
const TEXT = { id: 's', model: 'gpt-4o', choices: [{ index: 0, delta: { content: 'Hi.' } }] };

describe('the chunk of usage that was asked for', () => {
  const ZEROS = { prompt_tokens: 0, completion_tokens: 0, total_tokens: 0 };
  const NO_TOKENS = { total_tokens: 0, total_characters: 0 };
  const FULL = { status_code: 2056, status_msg: 'usage limit exceeded' };
  const pass = (chunk: object) => {
    const gate = createStreamGate('openai-chat', { hideUsageChunk: true });
    const sent = gate.push(Buffer.from(`${event(TEXT)}${event(chunk)}${event('[DONE]')}`));
    return Buffer.concat([...sent, gate.held()]).toString();
  };

  it.each<[string, object]>([
    ['an empty list of choices', { id: 's', choices: [], usage: COUNTS }],
    ['choices of null', { id: 's', choices: null, usage: COUNTS }],
    ['no choices', { id: 's', object: 'chat.completion.chunk', usage: COUNTS }],
  ])('does not reach who did not ask: %s', (_name, chunk) => {
    expect(pass(chunk)).toBe(`${event(TEXT)}${event('[DONE]')}`);
  });

  it.each<[string, object]>([
    ['an error', { error: { message: 'overloaded' }, usage: COUNTS }],
    ['an error by another name', { id: 'x', choices: null, usage: ZEROS, base_resp: FULL }],
    ['one without counts', { id: 'x', choices: null, usage: NO_TOKENS, base_resp: FULL }],
    ['what has no usage', { id: 's', choices: null, usage: null, note: 'a' }],
  ])('but %s does', (_name, chunk) => {
    const { usage: _, ...rest } = chunk as { usage: unknown };
    const passed = 'error' in chunk || 'base_resp' in chunk ? chunk : rest;
    expect(pass(chunk)).toBe(`${event(TEXT)}${event(passed)}${event('[DONE]')}`);
  });
});

describe('a chat stream that does not say that it is one', () => {
  const request = { model: 'gpt-4o', stream: true, messages: [] };
  const STREAM = `${event({ ...TEXT, usage: null })}${event({ choices: [], usage: COUNTS })}${event('[DONE]')}`;
  const open = (headers: Record<string, string>) =>
    openAnswer(
      {
        prepared: prepareRequest('openai-chat', Buffer.from(JSON.stringify(request))),
        side: null,
      },
      200,
      headers,
    );
  const run = (headers: Record<string, string>, body: string) => {
    const answer = open(headers);
    const half = body.length >> 1;
    const sent = [body.slice(0, half), body.slice(half)].flatMap((part) => [
      ...answer.push(Buffer.from(part)),
      ...(answer.idle?.() ?? []),
    ]);
    return { answer, passed: Buffer.concat([...sent, ...answer.end()]).toString() };
  };

  it.each<[string, Record<string, string>]>([
    ['application/json', { 'content-type': 'application/json' }],
    ['text/plain', { 'content-type': 'text/plain; charset=utf-8' }],
    ['nothing', {}],
  ])('%s: passes without what was asked for', (_name, headers) => {
    const { answer, passed } = run(headers, STREAM);
    expect(passed).toBe(`${event(TEXT)}${event('[DONE]')}`);
    expect(answer.read()).toMatchObject({ usage: 'final', inputTokens: 1_000, outputTokens: 100 });
    expect(answer.isWhole).toBe(true);
  });

  it.each([
    ['', '\n'],
    ['', 'dat'],
    ['\n\n', 'data'],
    [' '.repeat(200), 'd'],
  ])('however it is cut: %j, %j', (blank, start) => {
    const answer = open({ 'content-type': 'application/json' });
    const begin = start === '\n' ? start : '';
    const stream = `${blank}${begin}${STREAM}`;
    const cut = blank.length + start.length;
    const parts = [...(blank === '' ? [] : [blank]), stream.slice(blank.length, cut)];
    const sent = [...parts, stream.slice(cut)].flatMap((part) => [
      ...answer.push(Buffer.from(part)),
      ...(answer.idle?.() ?? []),
    ]);
    const passed = Buffer.concat([...sent, ...answer.end()]).toString();
    expect(passed).toBe(`${blank}${begin}${event(TEXT)}${event('[DONE]')}`);
    expect(answer.read()).toMatchObject({ usage: 'final', inputTokens: 1_000, outputTokens: 100 });
  });

  it.each(['', '\n', 'dat', '\n {"id":1}'])('what never begins passes: %j', (body) => {
    expect(run({ 'content-type': 'application/json' }, body).passed).toBe(body);
  });

  it.each<[string, Record<string, string>]>([
    ['of a length', { 'content-length': '9' }],
    ['of none', {}],
  ])('an answer that is none passes as it came: %s', (_name, more) => {
    const body = JSON.stringify(chatAnswer(COUNTS, { note: '\n\n' }), null, 1);
    const { answer, passed } = run({ 'content-type': 'application/json', ...more }, body);
    expect(passed).toBe(body);
    expect(answer.read()).toMatchObject({ usage: 'final', inputTokens: 1_000, outputTokens: 100 });
    expect(answer.firstTokenAt).not.toBeNull();
  });

  it('is no other to the SDK', async () => {
    const ledger = new RecordingLedger();
    const answer = () => new Response(STREAM, { headers: { 'content-type': 'application/json' } });
    const fetch = meteredFetch(ledger, { kilo_user_id: 'ada', fetch: async () => answer() });
    const init = { method: 'POST', body: JSON.stringify(request) };
    const response = await fetch('https://api.example.com/v1/chat/completions', init);
    expect(await response.text()).toBe(`${event(TEXT)}${event('[DONE]')}`);
    expect(ledger.last).toMatchObject({ input_tokens: 1_000, metadata: { estimated: null } });
    // Nor is one that is none, with blank lines amid it.
    const whole = JSON.stringify(chatAnswer(COUNTS), null, 1).replaceAll('\n', '\n\n');
    const plain = () => new Response(whole, { headers: { 'content-type': 'application/json' } });
    const asked = meteredFetch(ledger, { kilo_user_id: 'ada', fetch: async () => plain() });
    expect(await (await asked('https://api.example.com/v1/chat/completions', init)).text()).toBe(
      whole,
    );
    expect(ledger.last).toMatchObject({ output_tokens: 100, metadata: { estimated: null } });
  });
});

describe('a provider that tells usage unasked (OpenRouter)', () => {
  const request = JSON.stringify({ model: 'gpt-4o', stream: true, messages: [] });

  it.each([
    ['https://openrouter.ai/api', false],
    ['https://eu.openrouter.ai/api/v1', false],
    ['https://api.openai.com', null],
    ['https://openrouter.ai.example.com', null],
  ])('is not asked: %s', (url, expected) => {
    const timeouts = { connectTimeoutMs: 1, headersTimeoutMs: 1, bodyTimeoutMs: 1 };
    const upstreams = new Upstreams({ openai: { url, key: 'k' } }, [], timeouts);
    expect(upstreams.of('openai')[0]?.takesStreamOptions).toBe(expected);
  });

  it('nor by the SDK, and its chunk is the client\u2019s', async () => {
    const ledger = new RecordingLedger();
    const sent: unknown[] = [];
    const stream = `${event(TEXT)}${event({ choices: [], usage: COUNTS })}${event('[DONE]')}`;
    const fetch = meteredFetch(ledger, {
      kilo_user_id: 'ada',
      fetch: async (_url, init) => {
        sent.push(init?.body);
        return new Response(stream, { headers: { 'content-type': 'text/event-stream' } });
      },
    });
    const url = 'https://openrouter.ai/api/v1/chat/completions';
    const response = await fetch(url, { method: 'POST', body: request });
    expect(await response.text()).toBe(stream);
    expect(sent).toEqual([request]);
    expect(ledger.last).toMatchObject({ input_tokens: 1_000, metadata: { estimated: null } });
  });
});

describe('a message whose start tells the whole prompt, and its end what of it came from the cache', () => {
  const read = (first: object, last: object) => {
    const events = [
      {
        type: 'message_start',
        message: { id: 'm', model: 'claude-sonnet-4-5', content: [], usage: first },
      },
      {
        type: 'content_block_delta',
        index: 0,
        delta: { type: 'text_delta', text: 'Hello' },
      },
      {
        type: 'message_delta',
        delta: { stop_reason: 'end_turn' },
        usage: { output_tokens: 400, ...last },
      },
      { type: 'message_stop' },
    ];
    const { inputTokens, cacheHitTokens, cacheWriteTokens } = readAnswer({
      format: 'anthropic-messages',
      events,
    } as Call);
    return [inputTokens, cacheHitTokens, cacheWriteTokens];
  };

  it.each<[string, object, object, number[]]>([
    [
      'reads',
      { input_tokens: 8_834, output_tokens: 0 },
      { input_tokens: 18, cache_creation_input_tokens: 0, cache_read_input_tokens: 8_831 },
      [8_849, 8_831, 0],
    ],
    [
      'reads and writes',
      { input_tokens: 15_000, cache_read_input_tokens: 0, cache_creation_input_tokens: 0 },
      { input_tokens: 1_000, cache_read_input_tokens: 12_000, cache_creation_input_tokens: 2_000 },
      [15_000, 12_000, 2_000],
    ],
    [
      'all of it',
      { input_tokens: 9_000 },
      { input_tokens: 0, cache_read_input_tokens: 9_000 },
      [9_000, 9_000, 0],
    ],
  ])('is counted once: %s', (_name, first, last, expected) => {
    expect(read(first, last)).toEqual(expected);
  });

  it.each<[string, object, object, number[]]>([
    [
      'a zero',
      { input_tokens: 1_000, cache_read_input_tokens: 14_000 },
      { input_tokens: 0, cache_read_input_tokens: 14_000 },
      [15_000, 14_000, 0],
    ],
    [
      'a zero beside what the start did not tell',
      { input_tokens: 1_000 },
      { input_tokens: 0, cache_read_input_tokens: 14_000 },
      [15_000, 14_000, 0],
    ],
    [
      'a round that read what the one before it wrote',
      { input_tokens: 10, cache_creation_input_tokens: 5_000 },
      {
        input_tokens: 300,
        cache_creation_input_tokens: 5_000,
        cache_read_input_tokens: 5_000,
      },
      [10_300, 5_000, 5_000],
    ],
    [
      'a smaller number, and no more of the cache',
      { input_tokens: 1_000, cache_read_input_tokens: 14_000 },
      { input_tokens: 900, cache_read_input_tokens: 14_000 },
      [15_000, 14_000, 0],
    ],
  ])('keeps what is no such split: %s', (_name, first, last, expected) => {
    expect(read(first, last)).toEqual(expected);
  });
});

it('usage of a message may come before the reason of its end', () => {
  const events = [
    {
      type: 'message_start',
      message: { id: 'm', model: 'claude-sonnet-4-5', content: [], usage: { input_tokens: 100 } },
    },
    { type: 'content_block_delta', index: 0, delta: { type: 'text_delta', text: 'Hello' } },
    { type: 'message_delta', delta: {}, usage: { output_tokens: 50 } },
    { type: 'message_delta', delta: { stop_reason: 'end_turn' } },
  ];
  const format = 'anthropic-messages';
  expect(readAnswer({ format, events })).toMatchObject({ usage: 'partial' });
  expect(readAnswer({ format, events: [...events, { type: 'message_stop' }] })).toMatchObject({
    usage: 'final',
    inputTokens: 100,
    outputTokens: 50,
  });
  const silent = [...events.slice(0, 2), ...events.slice(3), { type: 'message_stop' }];
  expect(readAnswer({ format, events: silent })).not.toMatchObject({ usage: 'final' });
});

describe('an error in an answer of status 200', () => {
  const REFUSALS: [string, object, string][] = [
    ['base_resp', { choices: null, base_resp: { status_code: 1008, status_msg: 'x' } }, '1008'],
    ['code and msg', { code: 500, msg: '404 NOT_FOUND', success: false }, '500'],
    ['code as text', { code: 'InvalidApiKey', message: 'x', request_id: 'r' }, 'InvalidApiKey'],
    ['error_code', { error_code: 336_003, error_msg: 'x' }, '336003'],
    ['errors', { success: false, errors: [{ code: 7_003, message: 'x' }], result: null }, '7003'],
    ['an object of its own', { object: 'error', message: 'x', type: 'BadRequest' }, 'BadRequest'],
    ['no success', { success: false }, 'error'],
  ];
  const FORMATS = ['openai-chat', 'openai-responses', 'anthropic-messages'] as const;
  const request = { model: 'gpt-4o', messages: [{ role: 'user', content: 'x'.repeat(4_000) }] };

  it.each(REFUSALS)('costs nothing: %s', (_name, body, error) => {
    for (const format of FORMATS) {
      expect(readAnswer({ format, body }).error).toBe(error);
      expect(meterCall({ format, request, body })).toMatchObject({ cost: 0, has_error: true });
      expect(meterCall({ format, request, events: [body] })).toMatchObject({
        cost: 0,
        has_error: true,
      });
    }
  });

  it.each<[string, object]>([
    ['base_resp', { base_resp: { status_code: 0, status_msg: 'success' } }],
    ['code', { code: 200, msg: 'ok', success: true }],
    ['code as text', { code: '0', message: 'Success' }],
    ['errors', { success: true, errors: [] }],
    ['another code', { code: 17, msg: 'cache hit' }],
  ])('is none where it says that all is well, or beside what was answered: %s', (_name, more) => {
    const body = chatAnswer(COUNTS, more);
    expect(meterCall({ body })).toMatchObject({ cost: 3_500, has_error: false });
  });
});

describe('usage of zeros is no usage, whatever was made', () => {
  const ZEROS = { prompt_tokens: 0, completion_tokens: 0, total_tokens: 0 };
  const image = { type: 'image_url', image_url: { url: 'data:image/png;base64,AAAA' } };

  it.each<[string, object]>([
    ['images', { content: '', images: [image] }],
    ['an image amid its content', { content: [image] }],
    ['speech', { content: null, audio: { id: 'a', data: 'AAAA', transcript: 'Hello there' } }],
    [
      'reasoning in parts',
      { content: '', reasoning_details: [{ type: 'reasoning.text', text: 'Hm.' }] },
    ],
    ['thinking in blocks', { content: '', thinking_blocks: [{ thinking: 'Hm.' }] }],
  ])('%s', (_name, message) => {
    const choices = [{ index: 0, message, delta: message, finish_reason: 'stop' }];
    const request = { model: 'gpt-4o', messages: [{ role: 'user', content: 'x'.repeat(4_000) }] };
    const answer = { id: 'x', model: 'gpt-4o', choices, usage: ZEROS };
    for (const call of [{ body: answer }, { events: [answer, '[DONE]'] }]) {
      const { cost, metadata } = meterCall({ request, ...call });
      expect(metadata?.estimated).toBe('missing_usage');
      expect(cost).toBeGreaterThan(2_500);
    }
  });

  it('a refusal', () => {
    const content = [{ type: 'refusal', refusal: 'I cannot help with that.' }];
    const output = [{ type: 'message', content }];
    const usage = { input_tokens: 0, output_tokens: 0, total_tokens: 0 };
    const body = { id: 'r', model: 'gpt-5', status: 'completed', output, usage };
    expect(meterCall({ format: 'openai-responses', body })).toMatchObject({
      metadata: { estimated: 'missing_usage' },
    });
  });
});

describe('what was written to the cache for an hour', () => {
  const written = { cacheWriteInputTokens: 100_000, cacheReadInputTokens: 0 };
  const usage = { inputTokens: 0, outputTokens: 0, totalTokens: 100_000, ...written };
  const cost = (host: string, model: string, ttl: string) =>
    meterCall({
      host,
      body: chatAnswer(
        { ...usage, cacheDetails: [{ ttl, inputTokens: 100_000 }] },
        { model, choices: [] },
      ),
    }).cost;

  it.each([
    ['bedrock-runtime.us-east-1.amazonaws.com', 'anthropic.claude-sonnet-4-5-20250929-v1:0', 3.3],
    ['aiplatform.googleapis.com', 'claude-opus-4-7', 5],
    ['api.anthropic.com', 'claude-sonnet-4-5', 3],
  ])('costs twice what a prompt does: %s', (host, model, input) => {
    expect(cost(host, model, '1h')).toBe(Math.round(input * 200_000));
    expect(cost(host, model, '5m')).toBe(Math.round(input * 125_000));
  });

  it('and for five minutes are together no more than what was written', () => {
    const cache_creation = {
      ephemeral_5m_input_tokens: 463_184,
      ephemeral_1h_input_tokens: 463_184,
    };
    const counts = { input_tokens: 10, output_tokens: 5, cache_creation };
    const read = (more: object) => {
      const message = { type: 'message', id: 'm', model: 'claude-sonnet-4-5', content: [] };
      const body = { ...message, usage: { ...counts, ...more } };
      const { inputTokens, cacheWriteTokens, cacheWrite1hTokens } = readAnswer({
        format: 'anthropic-messages',
        body,
      });
      return [inputTokens, cacheWriteTokens, cacheWrite1hTokens];
    };
    const told = { cache_creation_input_tokens: 463_184 };
    expect(read(told)).toEqual([463_194, 463_184, 463_184]);
    expect(read({})).toEqual([926_378, 926_368, 463_184]);
  });
});

describe('the URL of a provider', () => {
  const timeouts = { connectTimeoutMs: 1, headersTimeoutMs: 1, bodyTimeoutMs: 1 };
  const pathOf = (api: 'openai' | 'anthropic', url: string) => {
    const path = api === 'openai' ? '/v1/chat/completions' : '/v1/messages';
    const upstreams = new Upstreams({ [api]: { url, key: 'k' } }, [], timeouts);
    return upstreams.of(api)[0]?.toPath(path);
  };

  it.each([
    ['https://api.openai.com', '/v1/chat/completions'],
    ['https://api.openai.com/v1/', '/v1/chat/completions'],
    ['https://openrouter.ai/api', '/api/v1/chat/completions'],
    ['https://api.groq.com/openai/v1', '/openai/v1/chat/completions'],
    ['https://generativelanguage.googleapis.com/v1beta/openai/', '/v1beta/openai/chat/completions'],
    ['https://api.z.ai/api/paas/v4', '/api/paas/v4/chat/completions'],
    ['https://api.deepinfra.com/v1/openai', '/v1/openai/chat/completions'],
    ['https://gateway.ai.cloudflare.com/v1/a/g/mistral/v1', '/v1/a/g/mistral/v1/chat/completions'],
    ['https://proxy.example.com/v2/llm/v1', '/v2/llm/v1/chat/completions'],
  ])('as an SDK takes it: %s', (url, path) => {
    expect(pathOf('openai', url)).toBe(path);
  });

  it.each([
    ['https://api.anthropic.com', '/v1/messages'],
    ['https://api.z.ai/api/anthropic', '/api/anthropic/v1/messages'],
    ['https://gateway.ai.cloudflare.com/v1/a/g/anthropic', '/v1/a/g/anthropic/v1/messages'],
  ])('of messages: %s', (url, path) => {
    expect(pathOf('anthropic', url)).toBe(path);
  });
});
