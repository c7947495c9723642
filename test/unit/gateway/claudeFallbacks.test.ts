import { describe, expect, it } from 'vitest';
import {
  createPricer,
  type PriceContext,
  type PricedReading,
} from '../../../src/gateway/prices/index.js';
import { parseOwnPrices } from '../../../src/gateway/prices/ownPrices.js';
import { priceReading } from '../../../src/gateway/prices/priceReading.js';
import { type Call, meterCall, readAnswer } from './meterCall.js';

/**
 * A model of Anthropic's that declines, and another that answers in its place, as documented: the usage
 * is that of the one that answered, each attempt is among its iterations, and what was generated
 * before it was declined is paid for at the price of the model that did.
 */
const FABLE = {
  input_tokens: 2,
  cache_read_input_tokens: 72_769,
  cache_creation_input_tokens: 10_421,
};
const OPUS = { input_tokens: 2, cache_read_input_tokens: 79_214, cache_creation_input_tokens: 0 };
const declined = (output_tokens: number) => ({
  type: 'message',
  model: 'claude-fable-5',
  ...FABLE,
  output_tokens,
});
const answered = {
  type: 'fallback_message',
  model: 'claude-opus-4-8',
  ...OPUS,
  output_tokens: 13_658,
};
const usageOf = (...iterations: object[]) => ({ ...OPUS, output_tokens: 13_658, iterations });
const message = (usage: object, more: object = {}): Record<string, unknown> => ({
  type: 'message',
  id: 'm',
  model: 'claude-opus-4-8',
  content: [{ type: 'text', text: 'Here it is.' }],
  stop_reason: 'end_turn',
  usage,
  ...more,
});
const stream = (usage: object): Call => ({
  format: 'anthropic-messages',
  events: [
    {
      type: 'message_start',
      message: { ...message({ ...FABLE, output_tokens: 1 }), model: 'claude-fable-5', content: [] },
    },
    { type: 'content_block_delta', index: 0, delta: { type: 'text_delta', text: 'Well' } },
    {
      type: 'content_block_start',
      index: 1,
      content_block: {
        type: 'fallback',
        from: { model: 'claude-fable-5' },
        to: { model: 'claude-opus-4-8' },
      },
    },
    { type: 'content_block_delta', index: 2, delta: { type: 'text_delta', text: 'Here it is.' } },
    { type: 'message_delta', delta: { stop_reason: 'end_turn' }, usage },
    { type: 'message_stop' },
  ],
});
/** Of Opus 4.8: 2 at 5, 79,214 at 0.50, 13,658 at 25 USD a million. */
const OPUS_COST = 381_067;
/** Of Fable 5: 2 at 10, 72,769 at 1, 10,421 at 12.50, 578 at 50 USD a million. */
const FABLE_COST = 231_951.5;

describe('another model that answers', () => {
  const both = usageOf(declined(578), answered);
  const calls: [string, Call][] = [
    ['whole', { format: 'anthropic-messages', body: message(both) }],
    ['streamed', stream(both)],
  ];

  it.each(calls)('%s: each is paid for at its own price', (_name, call) => {
    expect(readAnswer(call)).toMatchObject({
      model: 'claude-opus-4-8',
      inputTokens: 79_216,
      outputTokens: 13_658,
      cacheHitTokens: 79_214,
      cacheWriteTokens: 0,
    });
    expect(meterCall(call)).toMatchObject({
      model: 'claude-opus-4-8',
      cost: Math.round(OPUS_COST + FABLE_COST),
      metadata: { estimated: null },
    });
  });

  it('one that declined before it generated anything costs nothing', () => {
    const body = message(usageOf(declined(0), answered));
    expect(meterCall({ format: 'anthropic-messages', body }).cost).toBe(OPUS_COST);
  });

  it('all rounds of the one that answered are its own', () => {
    const round = { ...answered, type: 'message', output_tokens: 100 };
    const body = message(usageOf(declined(578), round, answered));
    expect(readAnswer({ format: 'anthropic-messages', body })).toMatchObject({
      inputTokens: 2 * 79_216,
      outputTokens: 13_758,
    });
  });

  it('may be told at the start of a stream alone', () => {
    const iterations = [{ ...answered, output_tokens: 1 }];
    const start = message({ ...OPUS, output_tokens: 1, iterations }, { content: [] });
    const events = [
      { type: 'message_start', message: start },
      { type: 'content_block_delta', index: 0, delta: { type: 'text_delta', text: 'Here it is.' } },
      {
        type: 'message_delta',
        delta: { stop_reason: 'end_turn' },
        usage: { output_tokens: 13_658, iterations: null },
      },
      { type: 'message_stop' },
    ];
    expect(meterCall({ format: 'anthropic-messages', events }).cost).toBe(OPUS_COST);
  });

  it('is known of a stream that ends before its usage comes', () => {
    const { events = [] } = stream(both);
    const call: Call = { format: 'anthropic-messages', events: events.slice(0, 4) };
    expect(readAnswer(call)).toMatchObject({ model: 'claude-opus-4-8', usage: 'partial' });
  });
});

describe('a model that declined before it generated anything', () => {
  const fallback = (category?: string | null) => ({
    type: 'fallback',
    from: { model: 'claude-fable-5' },
    to: { model: 'claude-opus-4-8' },
    ...(category === undefined ? {} : { trigger: { type: 'refusal', category } }),
  });
  const text = { type: 'text', text: 'Here it is.' };
  const costs = (usage: object, block: object) => {
    const { events = [], ...call } = stream(usage);
    const start = { type: 'content_block_start', index: 0, content_block: block };
    const whole = message(usage, { content: [block, text] });
    return [
      meterCall({ format: 'anthropic-messages', body: whole }).cost,
      meterCall({ ...call, events: [...events.slice(0, 1), start, ...events.slice(3)] }).cost,
    ];
  };
  /** Of Fable, without its output. */
  const PROMPT_COST = FABLE_COST - 578 * 50;

  it.each(['bio', 'frontier_llm', 'reasoning_extraction'])('is paid for: %s', (category) => {
    const cost = Math.round(OPUS_COST + PROMPT_COST);
    expect(costs(usageOf(declined(0), answered), fallback(category))).toEqual([cost, cost]);
  });

  it.each(['cyber', 'other', null, undefined])('costs nothing: %s', (category) => {
    expect(costs(usageOf(declined(0), answered), fallback(category))).toEqual([
      OPUS_COST,
      OPUS_COST,
    ]);
  });

  it('is paid for with all its rounds where it generated something in one', () => {
    const usage = usageOf(declined(578), declined(0), answered);
    const cost = Math.round(OPUS_COST + FABLE_COST + PROMPT_COST);
    expect(costs(usage, fallback('cyber'))).toEqual([cost, cost]);
  });
});

it('the usage counts where its totals grew after the attempts were told', () => {
  const iterations = [{ type: 'fallback_message', model: 'claude-opus-4-8', input_tokens: 100 }];
  const start = message({ input_tokens: 100, output_tokens: 1, iterations }, { content: [] });
  const told = {
    input_tokens: 10_682,
    cache_read_input_tokens: 2_000,
    cache_creation_input_tokens: 600,
    cache_creation: { ephemeral_1h_input_tokens: 500, ephemeral_5m_input_tokens: 100 },
    output_tokens: 500,
  };
  const events = [
    { type: 'message_start', message: start },
    { type: 'content_block_delta', index: 0, delta: { type: 'text_delta', text: 'Here it is.' } },
    { type: 'message_delta', delta: { stop_reason: 'end_turn' }, usage: told },
    { type: 'message_stop' },
  ];
  expect(readAnswer({ format: 'anthropic-messages', events })).toMatchObject({
    inputTokens: 13_282,
    outputTokens: 500,
    cacheHitTokens: 2_000,
    cacheWriteTokens: 600,
    cacheWrite1hTokens: 500,
  });
});

it('what the model that declined wrote to the cache is not the one\u2019s that answered', () => {
  const { cache_creation_input_tokens: _, ...opus } = OPUS;
  const usage = {
    ...opus,
    output_tokens: 13_658,
    iterations: [declined(578), { ...answered, cache_creation_input_tokens: undefined }],
  };
  expect(readAnswer(stream(usage))).toMatchObject({ inputTokens: 79_216, cacheWriteTokens: 0 });
});

describe('what is declined before anything is generated', () => {
  const details = (category: string | null) => ({
    stop_reason: 'refusal',
    stop_details: { type: 'refusal', category, explanation: null },
  });
  const refused = (category: string | null, output_tokens = 0, content: object[] = []) =>
    message(
      { input_tokens: 2_863, output_tokens },
      { model: 'claude-fable-5', content, ...details(category) },
    );
  const cost = (body: object) => meterCall({ format: 'anthropic-messages', body }).cost;

  it.each(['cyber', 'general_harms', 'other', null])('is not billed: %s', (category) => {
    expect(cost(refused(category))).toBe(0);
    const { content: _, stop_reason: __, stop_details: ___, ...start } = refused(category);
    const events = [
      {
        type: 'message_start',
        message: { ...start, usage: { input_tokens: 2_863, output_tokens: 1 } },
      },
      { type: 'message_delta', delta: details(category), usage: { output_tokens: 0 } },
      { type: 'message_stop' },
    ];
    expect(meterCall({ format: 'anthropic-messages', events })).toMatchObject({
      cost: 0,
      input_tokens: 2_863,
      has_error: false,
      metadata: { finish_reason: 'refusal' },
    });
  });

  it('is billed for other reasons, and once something was generated', () => {
    for (const category of ['bio', 'frontier_llm', 'reasoning_extraction']) {
      expect(cost(refused(category))).toBe(28_630);
    }
    for (const stop_details of [undefined, null]) {
      expect(cost({ ...refused('cyber'), stop_details })).toBe(28_630);
    }
    const text = [{ type: 'text', text: 'Hello' }];
    expect(cost(refused('cyber', 4, text))).toBe(28_830);
    // Thought, and not shown.
    expect(cost(refused('cyber', 40))).toBe(30_630);
  });

  it('is free whatever else is settled about prices, and nobody is said to have reported it', () => {
    const prices = { input_mtok: '100', output_mtok: '100' };
    const own = parseOwnPrices(JSON.stringify({ prices: [{ price: prices }] }));
    const pricer = {
      ...createPricer(),
      price: (reading: PricedReading, context: PriceContext) => priceReading(reading, context, own),
    };
    const call: Call = { format: 'anthropic-messages', body: refused('cyber') };
    for (const [each, price_source] of [
      [call, 'genai-prices'],
      [{ ...call, pricer }, 'own'],
    ] as const) {
      expect(meterCall(each)).toMatchObject({
        cost: 0,
        input_tokens: 2_863,
        metadata: { price_source, reported_cost: null, market_cost: 0 },
      });
    }
    expect(readAnswer(call)).toMatchObject({ costUsd: null, isUnbilled: true });
  });

  it('stays free where its model has no price yet', () => {
    const body = { ...refused('cyber'), model: 'claude-unheard-of' };
    const { cost, metadata } = meterCall({ format: 'anthropic-messages', body });
    expect(cost).toBe(0);
    expect(metadata?.usage_details?.price ?? {}).not.toHaveProperty('input_tokens');
  });

  it('by the second model too leaves what the first one generated', () => {
    const last = { ...answered, output_tokens: 0 };
    const usage = { ...OPUS, output_tokens: 0, iterations: [declined(578), last] };
    const { events = [] } = stream(usage);
    const end = { type: 'message_delta', delta: details('cyber'), usage };
    const both = [...events.slice(0, 3), end, { type: 'message_stop' }];
    const content = [
      { type: 'text', text: 'Well' },
      { type: 'fallback', from: { model: 'claude-fable-5' }, to: { model: 'claude-opus-4-8' } },
    ];
    const body = message(usage, { content, ...details('cyber') });
    for (const call of [{ events: both }, { body }]) {
      expect(meterCall({ format: 'anthropic-messages', ...call })).toMatchObject({
        cost: Math.round(FABLE_COST),
        input_tokens: 79_216,
        model: 'claude-opus-4-8',
      });
    }
  });
});
