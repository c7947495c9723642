import { describe, expect, it } from 'vitest';
import { startOf } from '../../../src/gateway/metering/startOf.js';
import { validateEvent } from '../../../src/record/event.js';
import { type Call, chatAnswer, meterCall, NOW } from './meterCall.js';

/** What is charged where an answer does not say it all, and when. */
const PROMPT = { model: 'gpt-4o', messages: [{ content: 'x'.repeat(4_000) }] };
const TEXT = 'word '.repeat(800);
const calls = (text: string) => ({ function: { name: 'f', arguments: JSON.stringify({ text }) } });
const ZEROS = { prompt_tokens: 0, completion_tokens: 0, total_tokens: 0 };

describe('usage of zeros', () => {
  const answer = (usage: object, message: object) =>
    meterCall({
      request: PROMPT,
      body: chatAnswer(usage, { choices: [{ message, finish_reason: 'stop' }] }),
    });

  it('beside text is missing usage', () => {
    expect(answer(ZEROS, { content: TEXT })).toMatchObject({
      input_tokens: 1_000,
      output_tokens: 1_000,
      cost: 12_500,
      metadata: { estimated: 'missing_usage' },
    });
  });

  it.each<[string, object, object]>([
    ['of the answer', { prompt_tokens: 900, completion_tokens: 0 }, { input_tokens: 900 }],
    ['of the prompt', { prompt_tokens: 0, completion_tokens: 7 }, { output_tokens: 7 }],
  ])('%s alone is estimated alone', (_name, usage, said) => {
    expect(answer(usage, { content: TEXT })).toMatchObject({
      input_tokens: 1_000,
      output_tokens: 1_000,
      ...said,
      metadata: { estimated: 'partial_usage' },
    });
  });

  const USED = { input_tokens: 0, output_tokens: 0, cost: 0, metadata: { estimated: null } };

  it('beside nothing is what was used', () => {
    expect(answer(ZEROS, {})).toMatchObject(USED);
  });

  it("beside a program's call that a response passes on is what was used", () => {
    const call = { type: 'function_call', name: 'f', arguments: '{}' };
    const body = { id: 'r', model: 'gpt-5', output: [call], usage: ZEROS };
    expect(meterCall({ format: 'openai-responses', request: PROMPT, body })).toMatchObject(USED);
  });

  it.each<[string, Call]>([
    [
      'a chat',
      { body: chatAnswer(ZEROS, { choices: [{ message: { tool_calls: [calls(TEXT)] } }] }) },
    ],
    [
      'a chat, by its older name',
      {
        body: chatAnswer(ZEROS, {
          choices: [{ message: { function_call: calls(TEXT).function } }],
        }),
      },
    ],
    [
      'a message',
      {
        format: 'anthropic-messages',
        body: {
          type: 'message',
          id: 'm',
          model: 'claude-sonnet-4-5',
          content: [{ type: 'tool_use', id: 't', name: 'f', input: { text: TEXT } }],
          usage: { input_tokens: 0, output_tokens: 0 },
        },
      },
    ],
  ])('beside the call of a tool is missing usage: %s', (_name, call) => {
    const event = meterCall({ request: PROMPT, ...call });
    expect(event).toMatchObject({ input_tokens: 1_000, metadata: { estimated: 'missing_usage' } });
    expect(event.output_tokens).toBeGreaterThan(1_000);
  });

  it.each<[string, Call]>([
    [
      'a message',
      {
        format: 'anthropic-messages',
        body: {
          type: 'message',
          id: 'm',
          model: 'claude-sonnet-4-5',
          content: [{ type: 'text', text: TEXT }],
          usage: { input_tokens: 0, output_tokens: 0 },
        },
      },
    ],
    [
      'a response',
      {
        format: 'openai-responses',
        body: {
          id: 'r',
          model: 'gpt-5',
          output: [{ type: 'message', content: [{ type: 'output_text', text: TEXT }] }],
          usage: { input_tokens: 0, output_tokens: 0, total_tokens: 0 },
        },
      },
    ],
  ])('in %s', (_name, call) => {
    expect(meterCall({ request: PROMPT, ...call })).toMatchObject({
      input_tokens: 1_000,
      output_tokens: 1_000,
      metadata: { estimated: 'missing_usage' },
    });
  });
});

describe('several choices', () => {
  const chunk = (index: number, content: string, reason: string | null, completion: number) => ({
    model: 'gpt-4o',
    choices: [{ index, delta: { content }, finish_reason: reason }],
    usage: { prompt_tokens: 100, completion_tokens: completion },
  });
  const cut = (n: number, events: object[]) =>
    meterCall({ request: { model: 'gpt-4o', stream: true, n }, events, end: { isBroken: true } });

  it('the end of one is not the end of the answer', () => {
    const event = cut(2, [chunk(0, 'a', 'stop', 10), chunk(1, TEXT, null, 10)]);
    expect(event).toMatchObject({
      input_tokens: 100,
      output_tokens: 1_001,
      metadata: { estimated: 'partial_usage' },
    });
  });

  it('nor where the others have not begun', () => {
    expect(cut(2, [chunk(0, 'a', 'stop', 10)]).metadata?.estimated).toBe('partial_usage');
    expect(cut(1, [chunk(0, 'a', 'stop', 10)]).metadata?.estimated).toBeNull();
  });

  it('all of them are, and so is the end of the stream', () => {
    const both = [chunk(0, 'a', 'stop', 10), chunk(1, 'b', 'stop', 20)];
    expect(cut(2, both)).toMatchObject({ output_tokens: 20, metadata: { estimated: null } });
    const done = [chunk(0, 'a', 'stop', 10), chunk(1, 'b', null, 20), '[DONE]'];
    expect(meterCall({ request: { n: 2 }, events: done }).metadata?.estimated).toBeNull();
  });

  it('usage of each choice is the usage of all', () => {
    const last = (index: number, completion_tokens: number) => ({
      model: 'gpt-4o',
      choices: [
        {
          index,
          delta: {},
          finish_reason: 'stop',
          usage: { prompt_tokens: 100, completion_tokens, total_tokens: 100 + completion_tokens },
        },
      ],
    });
    const events = [last(0, 7), last(1, 9), '[DONE]'];
    expect(meterCall({ request: { n: 2 }, events })).toMatchObject({
      input_tokens: 100,
      output_tokens: 16,
      metadata: { estimated: null },
    });
  });

  it('a usage chunk amid the stream is not its end', () => {
    const usage = { choices: [], usage: { prompt_tokens: 100, completion_tokens: 0 } };
    const events = [usage, chunk(0, TEXT, null, 1)];
    expect(meterCall({ events, end: { isBroken: true } })).toMatchObject({
      output_tokens: 1_000,
      metadata: { estimated: 'partial_usage' },
    });
  });
});

describe('what was generated unseen', () => {
  const created = {
    type: 'response.created',
    response: { id: 'r', status: 'in_progress', model: 'gpt-5', usage: null },
  };
  const left = (call: Call) =>
    meterCall({ format: 'openai-responses', ...call, end: { isCancelled: true, ...call.end } });
  const request = {
    model: 'gpt-5',
    stream: true,
    reasoning: { effort: 'high' },
    input: 'prove it',
  };

  it('is estimated by the time that the model worked', () => {
    const event = left({ request, events: [created], end: { elapsedMs: 60_000 } });
    expect(event).toMatchObject({
      input_tokens: 2,
      output_tokens: 6_000,
      metadata: { estimated: 'missing_usage', cancelled: true },
    });
    expect(event.cost).toBeGreaterThanOrEqual(60_000);
  });

  it('is that of ten minutes at most, also where headers came', () => {
    const event = left({ request, events: [created], end: { elapsedMs: 30 * 60_000 } });
    expect(event.output_tokens).toBe(60_000);
  });

  it('is what came before the first text, and the text', () => {
    const delta = { type: 'response.output_text.delta', delta: TEXT };
    const end = { elapsedMs: 60_000, latencyMs: 10_000 };
    expect(left({ request, events: [created, delta], end }).output_tokens).toBe(2_000);
  });

  it.each<[string, object, number]>([
    ['the limit of the request', { max_output_tokens: 500 }, 500],
    ['none, where the model does not think', { model: 'gpt-4o', reasoning: undefined }, 1],
    ['none, where it is told not to', { reasoning: { effort: 'none' } }, 1],
  ])('is at most %s', (_name, more, tokens) => {
    const end = { elapsedMs: 60_000 };
    const event = left({ request: { ...request, ...more }, events: [created], end });
    expect(event.output_tokens).toBe(tokens);
  });

  it('is never nothing for an answer that comes only as a whole', () => {
    const chat = { format: 'openai-chat' as const, request: PROMPT };
    const end = { isCancelled: true, elapsedMs: 3_000 };
    expect(meterCall({ ...chat, end })).toMatchObject({
      input_tokens: 1_000,
      output_tokens: 300,
      metadata: { estimated: 'missing_usage' },
    });
    expect(meterCall({ ...chat, end: { ...end, elapsedMs: 0 } }).output_tokens).toBe(1);
    // A provider that hangs, or has it wait for its turn: it did not work for half an hour.
    const hung = meterCall({ ...chat, end: { ...end, elapsedMs: 30 * 60_000 } });
    expect(hung.output_tokens).toBe(60_000);
  });

  it('costs nothing where the provider failed before anything came', () => {
    const end = { isBroken: true, elapsedMs: 60_000 };
    expect(left({ request, events: [created], end: { ...end, isCancelled: false } })).toMatchObject(
      { cost: 0, output_tokens: 0, has_error: true, metadata: { estimated: 'no_answer' } },
    );
  });
});

describe('its time', () => {
  const minutes = (count: number) => new Date(NOW.getTime() + count * 60_000);
  const answer = { body: chatAnswer({ prompt_tokens: 1_000, completion_tokens: 100 }) };

  it.each<[string, Date, number, Date, Date | null]>([
    ['as it was', minutes(-1), 60_000, minutes(-1), null],
    ['a clock that was set back', minutes(10), 60_000, minutes(-1), minutes(10)],
    ['a clock that was set back a little', minutes(0.5), 1_000, minutes(-1 / 60), minutes(0.5)],
    ['a clock that was set forward', minutes(-600), 60_000, minutes(-1), minutes(-600)],
    ['a clock that began at 1970', new Date(0), 60_000, minutes(-1), new Date(0)],
    ['a clock that was corrected by moments', minutes(-2), 60_000, minutes(-2), null],
  ])('%s', (_name, startedAt, elapsedMs, at, stated) => {
    expect(startOf(startedAt, elapsedMs, NOW)).toEqual({ at, stated });
    const event = meterCall({ ...answer, startedAt, end: { elapsedMs } });
    expect(event.created_at).toBe(at.toISOString());
    expect(event.metadata?.usage_details).toEqual(
      stated === null ? null : { stated_created_at: stated.toISOString() },
    );
  });

  it('is never ahead, and prices follow it', () => {
    const startedAt = new Date('2027-06-01T00:00:00Z');
    const event = meterCall({ ...answer, startedAt, end: { elapsedMs: 5_000 } });
    expect(new Date(String(event.created_at)).getTime()).toBeLessThanOrEqual(NOW.getTime());
    expect(event.cost).toBe(3_500);
  });
});

describe('what a price depends on', () => {
  it('is kept where there is none, and only there', () => {
    const usage = {
      prompt_tokens: 1_000,
      completion_tokens: 50,
      prompt_tokens_details: { cached_tokens: 300, audio_tokens: 20 },
      completion_tokens_details: { reasoning_tokens: 30 },
      server_tool_use: { web_search_requests: 2 },
    };
    const answer = chatAnswer(usage, { model: 'mystery', service_tier: 'flex' });
    const event = meterCall({ host: 'llm.example', body: answer });
    expect(event).toMatchObject({ cost: 0, metadata: { unpriced: true, estimated: null } });
    expect(event.metadata?.usage_details).toEqual({
      price: {
        input_tokens: 1_000,
        output_tokens: 50,
        cache_hit_tokens: 300,
        input_audio_tokens: 20,
        reasoning_tokens: 30,
        web_searches: 2,
        service_tier: 'flex',
        host: 'llm.example',
      },
    });
    const priced = meterCall({ body: chatAnswer(usage) });
    expect(priced.metadata).toMatchObject({ usage_details: null });
    expect(priced.metadata).not.toHaveProperty('unpriced');
  });

  it('has room in a row, however many models helped and whatever they are called', () => {
    const iteration = (at: number) => ({
      type: 'advisor_message',
      model: `${'\u0001"'.repeat(300)}${at % 20}`,
      input_tokens: 1e12,
      output_tokens: 1e12,
      cache_read_input_tokens: 1e12,
      cache_creation_input_tokens: 1e12,
    });
    const calls = Array.from({ length: 60 }, (_, at) => [`${'n'.repeat(60)}${at}_calls`, 1e12]);
    const usage = {
      input_tokens: 1e12,
      output_tokens: 1e12,
      iterations: Array.from({ length: 500 }, (_, at) => iteration(at)),
      server_tool_use: Object.fromEntries(calls),
      service_tier: '\u0001'.repeat(99),
      speed: '"'.repeat(99),
    };
    const body = { type: 'message', id: 'm', model: 'mystery', content: [], usage };
    const event = meterCall({ format: 'anthropic-messages', body, host: 'h'.repeat(999) });
    expect(event.metadata).toMatchObject({ unpriced: true });
    expect(() => validateEvent(event, { nulBytesRemoved: 0 }, NOW.getTime())).not.toThrow();
  });
});
