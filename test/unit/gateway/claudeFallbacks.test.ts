import { describe, expect, it } from 'vitest';
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

  it.each(['cyber', 'general_harms'])('is not billed: %s', (category) => {
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
    for (const category of ['bio', null]) expect(cost(refused(category))).toBe(28_630);
    const text = [{ type: 'text', text: 'Hello' }];
    expect(cost(refused('cyber', 4, text))).toBe(28_830);
    // Thought, and not shown.
    expect(cost(refused('cyber', 40))).toBe(30_630);
  });
});
