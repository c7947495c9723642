import { describe, expect, it } from 'vitest';
import { estimateUsage } from '../../../src/gateway/processUsage/index.js';
import { type Call, chatAnswer, meterCall, readAnswer } from './meterCall.js';

/** Streams, and answers with images, as public bug reports describe them; in bodies of our own. */
const COUNTS = { prompt_tokens: 1_000, completion_tokens: 100, total_tokens: 1_100 };
const chunk = (more: object) => ({ id: 'c', model: 'gpt-4o', choices: [], ...more });
const content = { choices: [{ index: 0, delta: { content: 'Hi.' }, finish_reason: 'stop' }] };
const chat = (...last: object[]): Call => ({
  events: [chunk(content), chunk({ usage: COUNTS }), ...last, '[DONE]'],
});

const start = { id: 'm', model: 'claude-sonnet-4-5', usage: { input_tokens: 1_000 } };
const message = (...last: object[]): Call => ({
  format: 'anthropic-messages',
  events: [
    { type: 'message_start', message: start },
    { type: 'content_block_delta', delta: { type: 'text_delta', text: 'Hi.' } },
    { type: 'message_delta', delta: { stop_reason: 'end_turn' }, usage: { output_tokens: 100 } },
    ...last,
  ],
});

const event = (type: string, input: number, output: number) => ({
  type: `response.${type}`,
  response: {
    id: 'r',
    model: 'gpt-5',
    status: type,
    usage: { input_tokens: input, output_tokens: output, total_tokens: input + output },
  },
});
const response = (...last: object[]): Call => ({
  format: 'openai-responses',
  events: [event('completed', 1_000, 100), ...last],
});

// https://github.com/anomalyco/opencode/issues/42918, .../43379, .../pull/16429
describe('a cost in an event of its own, after usage', () => {
  const ping = (cost: string) => ({ type: 'ping', cost });

  it.each<[string, number, (cost: string) => Call]>([
    ['in a chunk without choices', 3_500, (cost) => chat({ choices: [], cost })],
    [
      'beside usage of zeros',
      3_500,
      (cost) => chat(chunk({ usage: { prompt_tokens: 0, completion_tokens: 0, cost } })),
    ],
    ['after a message', 4_500, (cost) => message({ type: 'message_stop' }, ping(cost))],
    ['in its last event', 4_500, (cost) => message({ type: 'message_stop', cost })],
    ['after a response', 2_250, (cost) => response(ping(cost))],
    ['in a response without usage', 2_250, (cost) => response({ response: { id: 'r', cost } })],
  ])('%s: 0 is none, and more is one', (_name, list, call) => {
    expect(meterCall(call('0'))).toMatchObject({ cost: list, metadata: { estimated: null } });
    expect(meterCall(call('0.00123'))).toMatchObject({
      cost: 1_230,
      metadata: { price_source: 'upstream', estimated: null },
    });
  });

  // https://github.com/openclaw/openclaw/pull/101177
  it('is 0 where usage stands beside it', () => {
    const last = chunk({ usage: { ...COUNTS, cost: 0 } });
    expect(meterCall(chat(last))).toMatchObject({ cost: 0, metadata: { reported_cost: 0 } });
  });

  // https://github.com/Kilo-Org/kilocode/pull/13840
  it('is what was paid elsewhere where the key was one’s own', () => {
    const cost_details = { upstream_inference_cost: 0.00445 };
    const last = chunk({ usage: { ...COUNTS, cost: 0, is_byok: true, cost_details } });
    expect(meterCall(chat(last))).toMatchObject({ cost: 4_450 });
    const late = chunk({ usage: { cost: 0, is_byok: true, cost_details } });
    expect(meterCall(chat(late))).toMatchObject({ cost: 4_450 });
  });
});

// https://github.com/openai/openai-agents-js/pull/1369
describe('usage of a response that goes on', () => {
  const running = event('in_progress', 1_000, 5);
  const text = { type: 'response.output_text.delta', delta: 'x'.repeat(4_000) };
  const read = (...events: (object | string)[]) => {
    const reading = readAnswer({ format: 'openai-responses', events: [running, text, ...events] });
    return estimateUsage({ inputTokensEstimate: 1 }, reading);
  };

  it('is a lower bound where the stream broke off', () => {
    expect(read()).toMatchObject({
      estimated: 'partial_usage',
      reading: { inputTokens: 1_000, outputTokens: 1_000 },
    });
  });

  it('gives way to that of its end', () => {
    expect(read(event('completed', 1_000, 900))).toMatchObject({
      estimated: null,
      reading: { inputTokens: 1_000, outputTokens: 900 },
    });
  });

  it('is final where the stream says that it is over', () => {
    const over = { type: 'response.completed', response: { id: 'r', status: 'completed' } };
    expect(read(over)).toMatchObject({ estimated: null, reading: { outputTokens: 5 } });
    expect(read('[DONE]')).toMatchObject({ estimated: null, reading: { outputTokens: 5 } });
  });
});

// https://github.com/sergey-homenko/llm_cost_tracker/pull/16
describe('images of an answer whose tokens are not told by kind', () => {
  const usage = { prompt_tokens: 10, completion_tokens: 1_300, total_tokens: 1_310 };
  const image = { type: 'image_url', image_url: { url: 'data:image/png;base64,AAAA' } };
  const cost = (message: object, more: object = {}) =>
    meterCall({
      body: chatAnswer(
        { ...usage, ...more },
        { model: 'gemini-2.5-flash-image', choices: [{ index: 0, message }] },
      ),
    }).cost;

  it('are all that is no text, and cost what images do', () => {
    // 10 tokens of text at 2.50, 1,290 of images at 30, and the prompt's at 0.30 USD a million.
    const text = 'x'.repeat(40);
    expect(cost({ content: text, images: [image] })).toBe(38_728);
    expect(cost({ content: [{ type: 'text', text }, image] })).toBe(38_728);
  });

  it('are what the answer says where it does', () => {
    const told = { completion_tokens_details: { text_tokens: 300, image_tokens: 1_000 } };
    expect(cost({ content: null, images: [image] }, told)).toBe(30_753);
    expect(cost({ content: 'x'.repeat(40) })).toBe(3_253);
    const text = { completion_tokens_details: { text_tokens: 10 } };
    expect(cost({ content: 'x'.repeat(40), images: [image] }, text)).toBe(38_728);
  });
});
