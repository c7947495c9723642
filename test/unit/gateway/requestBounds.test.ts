import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { amountAtMost, outputFor } from '../../../src/gateway/holds/amountAtMost.js';
import { limitOutput } from '../../../src/gateway/holds/limitOutput.js';
import { RecentUsage } from '../../../src/gateway/holds/recentUsage.js';
import {
  boundRequest,
  isUnbounded,
  type RequestBounds,
} from '../../../src/gateway/holds/requestBounds.js';
import { createPricer, type PriceContext } from '../../../src/gateway/prices/index.js';
import { prepareRequest, type WireFormat } from '../../../src/gateway/processUsage/index.js';

const PATHS = {
  'openai-chat': '/v1/chat/completions',
  'openai-responses': '/v1/responses',
  'anthropic-messages': '/v1/messages',
} as const satisfies Record<WireFormat, string>;

function bound(format: WireFormat, json: object | string) {
  const body = Buffer.from(typeof json === 'string' ? json : JSON.stringify(json));
  const prepared = prepareRequest(format, body);
  return boundRequest({ format, path: PATHS[format], side: null, body, prepared });
}

function bounds(format: WireFormat, json: object): RequestBounds {
  const found = bound(format, json);
  if (isUnbounded(found)) throw new Error(found.why);
  return found;
}

const user = (content: unknown) => [{ role: 'user', content }];
const base64 = (bytes: number) => 'A'.repeat(bytes);

describe('the prompt', () => {
  it('has no more tokens than bytes, and no more than the model reads', () => {
    const content = 'é'.repeat(10_000);
    const { inputTokens } = bounds('openai-chat', { model: 'gpt-4.1', messages: user(content) });
    expect(inputTokens).toBeGreaterThan(20_000);
    expect(inputTokens).toBeLessThan(23_000);
    const long = { model: 'gpt-4o', messages: user('x'.repeat(1_000_000)) };
    expect(bounds('openai-chat', long).inputTokens).toBe(128_000);
    expect(bounds('openai-chat', { ...long, model: 'own' }).inputTokens).toBeGreaterThan(1_000_000);
  });

  it.each([
    [
      'openai-chat',
      { type: 'image_url', image_url: { url: `data:image/png;base64,${base64(90_000)}` } },
    ],
    ['openai-responses', { type: 'input_image', image_url: 'https://a.example/cat.png' }],
    ['anthropic-messages', { type: 'image', source: { type: 'base64', data: base64(90_000) } }],
  ] as const)('%s: an image has a bound of its own, whatever its size', (format, image) => {
    const prompt = user([image, { type: 'text', text: 'What is it?' }]);
    const found = bounds(format, { model: 'own', input: prompt, messages: prompt });
    expect(found.inputImageTokens).toBe(24_000);
    expect(found.inputTokens).toBeLessThan(28_000);
  });

  it('an image within the arguments or the schema of a tool is text', () => {
    const image = { type: 'image', source: { type: 'base64', data: base64(50_000) } };
    const call = [{ type: 'tool_use', id: 't', name: 'n', input: { content: [image] } }];
    const tools = [{ name: 'n', input_schema: { default: [image] } }];
    const messages = [...user('x'), { role: 'assistant', content: call }];
    const found = bounds('anthropic-messages', { model: 'claude-3-haiku', messages, tools });
    expect(found.inputImageTokens).toBe(0);
    expect(found.inputTokens).toBeGreaterThan(100_000);
  });

  it('a recording is counted by its bytes', () => {
    const part = { type: 'input_audio', input_audio: { format: 'mp3', data: base64(50_000) } };
    const found = bounds('openai-chat', { model: 'own', messages: user([part]) });
    expect(found.inputAudioTokens).toBe(1_001);
  });

  it.each([
    ['anthropic-messages', 'document', { messages: user([{ type: 'document', source: {} }]) }],
    ['openai-responses', 'input_file', { input: user([{ type: 'input_file', file_id: 'f' }]) }],
    ['openai-responses', 'previous_response_id', { input: 'x', previous_response_id: 'resp_1' }],
    ['openai-responses', 'conversation', { input: 'x', conversation: 'conv_1' }],
    ['openai-responses', 'prompt', { input: 'x', prompt: { id: 'pmpt_1' } }],
    ['openai-responses', 'item_reference', { input: [{ type: 'item_reference', id: 'msg_1' }] }],
    ['openai-chat', 'audio', { messages: [{ role: 'assistant', audio: { id: 'audio_1' } }] }],
  ] as const)('%s: what a %s has is bounded by the context of the model', (format, param, json) => {
    expect(bounds(format, { ...json, model: 'gpt-4o' }).inputTokens).toBe(128_000);
    expect(bound(format, { ...json, model: 'own' })).toMatchObject({ param });
  });
});

describe('what a provider does by itself has no bound', () => {
  it.each([
    ['openai-chat', { web_search_options: {} }, 'web_search_options'],
    ['openai-chat', { plugins: [{ id: 'web' }] }, 'plugins'],
    ['openai-chat', { models: ['a', 'b'] }, 'models'],
    ['openai-chat', { model: 'gpt-4o-search-preview' }, 'model'],
    ['openai-chat', { model: 'openai/gpt-4o:online' }, 'model'],
    ['openai-responses', { tools: [{ type: 'code_interpreter' }] }, 'tools'],
    ['openai-responses', { tools: [{ type: 'mcp', server_label: 'x' }] }, 'tools'],
    ['anthropic-messages', { tools: [{ type: 'web_search_20250305', name: 'x' }] }, 'tools'],
    ['anthropic-messages', { mcp_servers: [{ url: 'https://a.example' }] }, 'mcp_servers'],
    ['anthropic-messages', { context_management: { edits: [] } }, 'context_management'],
    ['anthropic-messages', { fallbacks: [{ model: 'claude-opus-4-8' }] }, 'fallbacks'],
  ] as const)('%s %j', (format, json, param) => {
    expect(bound(format, { model: 'gpt-4o', ...json })).toMatchObject({ param });
  });

  it('tools that the client runs have', () => {
    const tools = [
      { type: 'function', name: 'f' },
      { name: 'plain', input_schema: {} },
      { type: 'bash_20250124', name: 'bash' },
    ];
    expect(isUnbounded(bound('anthropic-messages', { model: 'own', tools }))).toBe(false);
    const none = { model: 'own', plugins: [], models: [], web_search_options: null };
    expect(isUnbounded(bound('openai-chat', none))).toBe(false);
  });

  it('nor has a member that is there twice: which one counts is not known', () => {
    const body = '{"model":"own","max_tokens":100000,"max_\\u0074okens":5}';
    expect(bound('openai-chat', body)).toMatchObject({ param: 'max_tokens' });
  });
});

describe('the limit of the output', () => {
  it.each([
    ['openai-chat', { max_tokens: 9, max_completion_tokens: 70 }, 70],
    ['openai-chat', { max_tokens: '80' }, 80],
    ['openai-chat', { max_tokens: -5 }, null],
    ['openai-responses', { max_output_tokens: 33, max_tokens: 5 }, 33],
    ['anthropic-messages', { max_tokens: 44 }, 44],
  ] as const)('%s %j is %j', (format, json, limit) => {
    expect(bounds(format, { model: 'own', ...json }).outputLimit).toBe(limit);
  });

  it('is set under the name that the model takes, and only ever lowered', () => {
    const lower = (format: WireFormat, json: object, limit: number) => {
      const body = Buffer.from(JSON.stringify(json));
      return String(limitOutput(body, bounds(format, json).limitMembers, limit));
    };
    expect(lower('openai-chat', { model: 'o3' }, 7)).toBe(
      '{"model":"o3","max_completion_tokens":7}',
    );
    expect(lower('openai-chat', { model: 'openai/gpt-5' }, 7)).toContain(
      '"max_completion_tokens":7',
    );
    expect(lower('openai-chat', { model: 'own' }, 7)).toBe('{"model":"own","max_tokens":7}');
    expect(lower('openai-chat', { model: 'own', max_tokens: null }, 7)).toContain('"max_tokens":7');
    expect(lower('openai-chat', { model: 'own', max_tokens: 70, n: 2 }, 7)).toBe(
      '{"model":"own","max_tokens":7,"n":2}',
    );
    const both = { model: 'own', max_tokens: 5, max_completion_tokens: 70 };
    expect(lower('openai-chat', both, 7)).toBe(
      '{"model":"own","max_tokens":5,"max_completion_tokens":7}',
    );
  });

  it('leaves room for what the model is to think', () => {
    const thinking = { type: 'enabled', budget_tokens: 2_000 };
    const json = { model: 'claude-sonnet-4-5', max_tokens: 9_000, thinking };
    expect(bounds('anthropic-messages', json).leastOutput).toBe(2_001);
    expect(bounds('anthropic-messages', { ...json, thinking: undefined }).leastOutput).toBe(16);
    expect(bounds('anthropic-messages', { max_tokens: 3 }).leastOutput).toBe(3);
  });
});

describe('the amount', () => {
  const pricer = createPricer();
  const context = (requestedModel: string): PriceContext => ({
    requestedModel,
    format: 'anthropic-messages',
    at: new Date('2026-11-01'),
  });
  const model = 'claude-sonnet-4-5';
  const amount = (json: object, output = 1_000) => {
    const found = bounds('anthropic-messages', { model, ...json });
    return amountAtMost(pricer, context(model), { ...found, inputTokens: 1_000 }, output).amount;
  };

  it('is that of what is dearest: what is written into a cache, for an hour, speed and region', () => {
    expect(amount({})).toBe(3_000 + 15_000);
    expect(amount({ messages: user([{ type: 'text', text: 'x', cache_control: {} }]) })).toBe(
      18_750,
    );
    const hour = { type: 'ephemeral', ttl: '1h' };
    expect(amount({ messages: user([{ type: 'text', cache_control: hour }]) })).toBe(21_000);
    expect(amount({ inference_geo: 'us' })).toBe(19_800);
  });

  it('of several choices is that of all, and of an unknown model the dearest there is', () => {
    const found = { ...bounds('anthropic-messages', { model }), inputTokens: 1_000 };
    const twice = { ...found, choices: 2 };
    expect(amountAtMost(pricer, context(model), twice, 1_000).amount).toBe(33_000);
    expect(amountAtMost(pricer, context('own'), found, 1_000).amount).toBe(750_000);
    const scaled = { ...found, serviceTier: 'scale' };
    expect(amountAtMost(pricer, context(model), scaled, 1).doubts).toEqual(['service_tier:scale']);
  });

  it('affords the most output that fits, and not a token more', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 2_000_000 }),
        fc.integer({ min: 1, max: 100 }),
        fc.integer({ min: 1, max: 100_000 }),
        (left, least, most) => {
          const amountOf = (output: number) => 500 + 15 * output;
          const found = outputFor(left, amountOf, least, most);
          const isWrong = (output: number) =>
            output < least || output > most || amountOf(output) > left;
          if (found === null) expect(isWrong(least)).toBe(true);
          else expect([isWrong(found), isWrong(found + 1)]).toEqual([false, true]);
        },
      ),
    );
  });
});

describe('what was used lately', () => {
  it('is the most among the last requests of the payer and model, for an hour', () => {
    let now = 0;
    const recent = new RecentUsage(() => now);
    expect(recent.most('user:a', 'm')).toBeNull();
    recent.note('user:a', 'm', { outputTokens: 900, costMicrodollars: 5 });
    recent.note('user:a', 'm', { outputTokens: 10, costMicrodollars: 7 });
    expect(recent.most('user:a', 'm')).toEqual({ outputTokens: 900, costMicrodollars: 7 });
    expect(recent.most('user:b', 'm')).toBeNull();
    for (let n = 0; n < 15; n++)
      recent.note('user:a', 'm', { outputTokens: n, costMicrodollars: n });
    expect(recent.most('user:a', 'm')?.outputTokens).toBe(14);
    now += 3_600_001;
    expect(recent.most('user:a', 'm')).toBeNull();
  });
});
