import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { JsonObject } from '../../../src/gateway/processUsage/json.js';
import { mergeUsage } from '../../../src/gateway/processUsage/mergeUsage.js';
import { meterCall, readAnswer } from './meterCall.js';

const chunk = (usage: object | null, delta: object = {}, reason: string | null = null) => ({
  id: 's',
  model: 'gpt-4o',
  choices: [{ index: 0, delta, finish_reason: reason }],
  usage,
});

const ZEROS = { prompt_tokens: 0, completion_tokens: 0, total_tokens: 0 };
const COUNTED = { prompt_tokens: 1_000, completion_tokens: 100, total_tokens: 1_100 };

describe('cumulative counts', () => {
  it.each([
    ['zeros', { prompt_tokens: 0, completion_tokens: 0, total_tokens: 0 }],
    ['smaller numbers', { prompt_tokens: 9, completion_tokens: 12, total_tokens: 21 }],
    ['nulls', { prompt_tokens: null, completion_tokens: null, prompt_tokens_details: null }],
    ['nothing', {}],
    ['negative numbers', { prompt_tokens: -1, completion_tokens: -5, total_tokens: -6 }],
    ['text', { prompt_tokens: 'n/a', completion_tokens: '' }],
    ['zeros in the details', { prompt_tokens_details: { cached_tokens: 0 } }],
    ['details that are none', { prompt_tokens_details: 0 }],
  ])('hide nothing that was counted: %s', (_name, later) => {
    const real = {
      prompt_tokens: 10_000,
      completion_tokens: 1_000,
      total_tokens: 11_000,
      prompt_tokens_details: { cached_tokens: 4_000 },
    };
    const last = { id: 's', model: 'gpt-4o', choices: [], usage: later };
    const events = [chunk(null, { content: 'text' }), chunk(real, {}, 'stop'), last, '[DONE]'];
    // 6,000 at 2.50, 4,000 at 1.25, 1,000 at 10 USD a million.
    expect(meterCall({ request: { model: 'gpt-4o', stream: true }, events })).toMatchObject({
      input_tokens: 10_000,
      output_tokens: 1_000,
      cache_hit_tokens: 4_000,
      cost: 30_000,
      metadata: { estimated: null },
    });
  });

  it('take the larger of a cost, too', () => {
    const usage = { prompt_tokens: 5, completion_tokens: 5 };
    const events = [
      chunk({ ...usage, cost: 0.25 }, { content: 'a' }),
      chunk({ ...usage, cost: 0 }, {}, 'stop'),
      '[DONE]',
    ];
    expect(readAnswer({ events }).costUsd).toBe('0.25');
  });

  it.each<[string, object[]]>([
    ['before them', [{ ...ZEROS, cost: 0 }, COUNTED]],
    ['after them', [COUNTED, { ...ZEROS, cost: 0 }]],
    ['before them and after', [{ ...ZEROS, cost: 0 }, COUNTED, { ...ZEROS, cost: 0 }]],
    ['after them, or beside nothing', [COUNTED, { cost: 0 }]],
  ])('are not free by a cost of 0 beside zeros %s', (_name, usages) => {
    const chunks = usages.map((usage) => chunk(usage, { content: 'text' }));
    const events = [...chunks, chunk(null, {}, 'stop'), '[DONE]'];
    expect(meterCall({ events })).toMatchObject({ cost: 3_500, metadata: { reported_cost: null } });
  });

  it.each<[string, object[]]>([
    ['beside them', [{ ...COUNTED, cost: 0 }]],
    [
      'beside them, then beside zeros',
      [
        { ...COUNTED, cost: 0 },
        { ...ZEROS, cost: 0 },
      ],
    ],
    [
      'beside zeros, then beside them',
      [
        { ...ZEROS, cost: 0 },
        { ...COUNTED, cost: 0 },
      ],
    ],
    ['beside zeros alone', [{ ...ZEROS, cost: 0 }]],
  ])('are free by a cost of 0 %s', (_name, usages) => {
    const chunks = usages.map((usage) => chunk(usage));
    const events = [...chunks, chunk(null, {}, 'stop'), '[DONE]'];
    expect(meterCall({ events })).toMatchObject({ cost: 0, metadata: { reported_cost: 0 } });
  });

  it('are not free by it in the words of Anthropic', () => {
    const start = { id: 'm', model: 'claude-sonnet-4-5', usage: { input_tokens: 0, cost: 0 } };
    const events = [
      { type: 'message_start', message: start },
      { type: 'content_block_delta', delta: { type: 'text_delta', text: 'Hello' } },
      { type: 'message_delta', delta: {}, usage: { input_tokens: 1_000, output_tokens: 100 } },
      { type: 'message_stop' },
    ];
    expect(meterCall({ format: 'anthropic-messages', events }).cost).toBe(4_500);
  });

  it('keep what message_start said of the prompt', () => {
    const start = { id: 'm', model: 'claude-sonnet-4-5', usage: { input_tokens: 15_000 } };
    const events = [
      { type: 'message_start', message: start },
      { type: 'content_block_delta', delta: { type: 'text_delta', text: 'Hello' } },
      {
        type: 'message_delta',
        delta: { stop_reason: 'end_turn' },
        usage: { input_tokens: 0, output_tokens: 400 },
      },
      { type: 'message_stop' },
    ];
    expect(meterCall({ format: 'anthropic-messages', events })).toMatchObject({
      input_tokens: 15_000,
      output_tokens: 400,
      cost: 51_000,
    });
  });

  it('of another message, or another response, begin anew', () => {
    const message = (id: string, usage: object) => ({
      type: 'message_start',
      message: { id, model: 'claude-sonnet-4-5', usage },
    });
    const end = { type: 'message_delta', delta: { stop_reason: 'x' }, usage: { output_tokens: 3 } };
    const format = 'anthropic-messages';
    const first = message('one', { input_tokens: 900, output_tokens: 80 });
    const again = [first, message('one', { input_tokens: 0, output_tokens: 0 }), end];
    expect(readAnswer({ format, events: again })).toMatchObject({
      inputTokens: 900,
      outputTokens: 80,
    });
    const other = [first, message('two', { input_tokens: 7, output_tokens: 1 }), end];
    expect(readAnswer({ format, events: other })).toMatchObject({
      inputTokens: 7,
      outputTokens: 3,
    });
    const response = (id: string, count: number) => ({
      type: 'response.completed',
      response: { id, model: 'gpt-5', usage: { input_tokens: count, output_tokens: count } },
    });
    const responses = [response('a', 50), response('b', 6), response('b', 0)];
    expect(readAnswer({ format: 'openai-responses', events: responses })).toMatchObject({
      inputTokens: 6,
      outputTokens: 6,
    });
  });
});

describe('merging', () => {
  it('replaces a split by lifetime as a whole', () => {
    const before = { cache_creation: { ephemeral_5m_input_tokens: 300 } };
    const moved = { cache_creation: { ephemeral_1h_input_tokens: 300 } };
    expect(mergeUsage(before, moved)).toEqual(moved);
    const less = { cache_creation: { ephemeral_1h_input_tokens: 20 } };
    expect(mergeUsage(before, less)).toEqual(before);
  });

  it('does not touch prototypes, nor grow without end', () => {
    const hostile = JSON.parse('{"__proto__":{"prompt_tokens":9},"constructor":{"a":1}}');
    const merged = mergeUsage(mergeUsage({}, hostile), hostile);
    expect(Object.getPrototypeOf(merged)).toBe(Object.prototype);
    expect(({} as JsonObject).prompt_tokens).toBeUndefined();
    let usage: JsonObject = {};
    for (let at = 0; at < 5_000; at++) usage = mergeUsage(usage, { [`n${at}`]: at });
    expect(Object.keys(usage).length).toBeLessThanOrEqual(256);
  });

  it('comes to the same in any order, for counts', () => {
    const name = fc.constantFrom('prompt_tokens', 'completion_tokens', 'cost', 'total_tokens');
    const details = fc.dictionary(fc.constantFrom('cached_tokens', 'audio_tokens'), fc.nat(9_999));
    const usage = fc
      .tuple(fc.dictionary(name, fc.nat(9_999)), fc.option(details))
      .map(([counts, part]) => ({ ...counts, ...(part && { prompt_tokens_details: part }) }));
    fc.assert(
      fc.property(fc.array(usage, { maxLength: 6 }), fc.array(fc.nat()), (usages, keys) => {
        const shuffled = usages
          .map((each, at) => [keys[at] ?? at, each] as const)
          .sort(([one], [other]) => one - other)
          .map(([, each]) => each);
        const merge = (all: readonly object[]) =>
          all.reduce<JsonObject>((sum, each) => mergeUsage(sum, each as JsonObject), {});
        expect(merge(shuffled)).toEqual(merge(usages));
      }),
    );
  });
});
