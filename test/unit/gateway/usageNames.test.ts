import { describe, expect, it } from 'vitest';
import { COUNT_NAMES } from '../../../src/gateway/processUsage/usageNames.js';
import { chatAnswer, readAnswer } from './meterCall.js';

/** Every name for a count, in every place where providers put it. */
const PLACES = [
  null,
  'prompt_tokens_details',
  'input_tokens_details',
  'prompt_token_details',
  'input_token_details',
] as const;

const within = (place: string | null, counts: object) =>
  place === null ? counts : { [place]: counts };
const places = (names: readonly string[]) =>
  names.flatMap((name) => PLACES.map((place) => [name, place ?? 'usage', place] as const));

describe('cache reads', () => {
  it.each(places(COUNT_NAMES.cacheRead))('%s in %s', (name, _where, place) => {
    const usage = { prompt_tokens: 900, completion_tokens: 7, ...within(place, { [name]: 640 }) };
    expect(readAnswer({ body: chatAnswer(usage) })).toMatchObject({
      inputTokens: 900,
      cacheHitTokens: 640,
      cacheWriteTokens: 0,
    });
  });

  it('named twice are counted once', () => {
    const usage = {
      prompt_tokens: 900,
      completion_tokens: 7,
      prompt_tokens_details: { cached_tokens: 640 },
      cache_read_input_tokens: 640,
      prompt_cache_hit_tokens: 0,
    };
    expect(readAnswer({ body: chatAnswer(usage) })).toMatchObject({ cacheHitTokens: 640 });
  });
});

describe('names in camel case', () => {
  const camel = (name: string) => name.replace(/_([a-z])/g, (_, letter) => letter.toUpperCase());

  it.each([
    ...COUNT_NAMES.cacheRead.map((name) => [camel(name), 'cacheHitTokens'] as const),
    ...COUNT_NAMES.cacheWrite.map((name) => [camel(name), 'cacheWriteTokens'] as const),
  ])('%s', (name, field) => {
    for (const place of [null, 'promptTokensDetails', 'inputTokenDetails']) {
      const usage = { promptTokens: 900, completionTokens: 7, totalTokens: 907 };
      const body = chatAnswer({ ...usage, ...within(place, { [name]: 640 }) });
      expect(readAnswer({ body })).toMatchObject({
        inputTokens: 900,
        outputTokens: 7,
        [field]: 640,
      });
    }
  });

  it('and in snake case are one: the larger counts', () => {
    const usage = { prompt_tokens: 900, promptTokens: 0, completion_tokens: 7 };
    expect(readAnswer({ body: chatAnswer(usage) })).toMatchObject({ inputTokens: 900 });
  });
});

describe('names of cache counts that are in no table', () => {
  const read = (counts: object, place: string | null = null) => {
    const usage = { prompt_tokens: 900, completion_tokens: 7, ...within(place, counts) };
    const { cacheHitTokens, cacheWriteTokens } = readAnswer({ body: chatAnswer(usage) });
    return [cacheHitTokens, cacheWriteTokens];
  };

  it.each([
    [{ prompt_cache_read_tokens: 640, prompt_cache_write_tokens: 30 }, 640, 30],
    [{ cached_creation_input_tokens: 30, cached_prefix_tokens: 640 }, 640, 30],
    [{ context_cache_tokens: 640 }, 640, 0],
    [{ cache_created_tokens: 30 }, 0, 30],
    [{ tokens_from_cache: 640 }, 640, 0],
  ])('are taken by the sound of them: %j', (counts, hits, writes) => {
    for (const place of PLACES) expect(read(counts, place)).toEqual([hits, writes]);
  });

  it.each([
    { prompt_cache_miss_tokens: 300 },
    { uncached_tokens: 300 },
    // Vercel's SDK 6, where a provider tells nothing of a cache.
    { noCacheTokens: 900 },
    { not_cached_tokens: 900 },
    { cacheable_tokens: 900 },
    { tokens_without_cache: 900 },
    { non_cached_input_tokens: 300 },
    { cache_read_tokens_cost: 300 },
    { cache_discount_tokens: 300 },
    { cache_storage_token_hours: 300 },
    { cache_tokens_saved: 300 },
    { cached: 300 },
  ])('but not what is no count of them: %j', (counts) => {
    for (const place of PLACES) expect(read(counts, place)).toEqual([0, 0]);
  });

  it('nor where the table knows one', () => {
    expect(read({ cached_tokens: 5, cached_prefix_tokens: 640 })).toEqual([5, 0]);
    expect(read({ cached_tokens: 0, cached_prefix_tokens: 640 })).toEqual([0, 0]);
  });
});

describe('where usage stands', () => {
  it.each<[string, object]>([
    ['usage_metadata', { usage_metadata: { prompt_token_count: 20, candidates_token_count: 7 } }],
    ['usageMetadata', { usageMetadata: { promptTokenCount: 20, candidatesTokenCount: 7 } }],
    ['token_usage', { token_usage: { prompt_tokens: 20, completion_tokens: 7 } }],
    [
      "Gemini's, with what its tools put into the prompt",
      {
        usageMetadata: {
          promptTokenCount: 15,
          toolUsePromptTokenCount: 5,
          candidatesTokenCount: 4,
          thoughtsTokenCount: 3,
          totalTokenCount: 27,
        },
      },
    ],
    ["Groq's", { x_groq: { usage: { prompt_tokens: 20, completion_tokens: 7 } } }],
    ["Ollama's", { prompt_eval_count: 20, eval_count: 7 }],
    [
      "Cohere's: what it bills",
      {
        usage: {
          billed_units: { input_tokens: 20, output_tokens: 7 },
          tokens: { input_tokens: 90, output_tokens: 9 },
        },
      },
    ],
    [
      'beside a usage of null',
      { usage: null, usage_metadata: { prompt_tokens: 20, output_tokens: 7 } },
    ],
  ])('%s', (_name, members) => {
    const said = { inputTokens: 20, outputTokens: 7, usage: 'final' };
    const choices = [{ index: 0, delta: { content: 'a' }, message: { content: 'a' } }];
    const body = { id: 'x', model: 'm', choices, ...members };
    expect(readAnswer({ body })).toMatchObject(said);
    expect(readAnswer({ events: [body, '[DONE]'] })).toMatchObject(said);
  });

  it('beside the response, in its last event', () => {
    const response = { id: 'r', model: 'm', status: 'completed', output: [], usage: null };
    const usage = { input_tokens: 20, output_tokens: 7 };
    const events = [{ type: 'response.completed', response, usage }];
    expect(readAnswer({ format: 'openai-responses', events })).toMatchObject({
      inputTokens: 20,
      outputTokens: 7,
      usage: 'final',
    });
  });
});

describe('cache writes', () => {
  it.each(places(COUNT_NAMES.cacheWrite))('%s in %s', (name, _where, place) => {
    const usage = { prompt_tokens: 900, completion_tokens: 7, ...within(place, { [name]: 500 }) };
    expect(readAnswer({ body: chatAnswer(usage) })).toMatchObject({
      inputTokens: 900,
      cacheHitTokens: 0,
      cacheWriteTokens: 500,
      cacheWrite1hTokens: 0,
    });
  });

  it.each(places([...COUNT_NAMES.cacheWrite5m, ...COUNT_NAMES.cacheWrite1h]))(
    '%s in %s, by lifetime',
    (name, _where, place) => {
      const hour = name.includes('1');
      const usage = { prompt_tokens: 900, completion_tokens: 7, ...within(place, { [name]: 500 }) };
      expect(readAnswer({ body: chatAnswer(usage) })).toMatchObject({
        cacheWriteTokens: 500,
        cacheWrite1hTokens: hour ? 500 : 0,
      });
    },
  );

  it.each([
    ['usage', null],
    ['details', 'prompt_tokens_details'],
  ] as const)('split by lifetime in an object of its own in %s', (_name, place) => {
    const split = { ephemeral_5m_input_tokens: 100, ephemeral_1h_input_tokens: 200 };
    const usage = {
      prompt_tokens: 900,
      completion_tokens: 7,
      ...within(place, { cache_creation: split, cache_creation_input_tokens: 300 }),
    };
    expect(readAnswer({ body: chatAnswer(usage) })).toMatchObject({
      cacheWriteTokens: 300,
      cacheWrite1hTokens: 200,
    });
  });
});

describe('a list of lifetimes (Bedrock)', () => {
  it.each([
    ['cacheDetails', 'inputTokens'],
    ['cache_details', 'input_tokens'],
  ])('%s', (list, count) => {
    const usage = {
      inputTokens: 10,
      outputTokens: 5,
      totalTokens: 315,
      cacheReadInputTokens: 0,
      cacheWriteInputTokens: 300,
      [list]: [
        { ttl: '1h', [count]: 200 },
        { ttl: '5m', [count]: 100 },
        { ttl: '5m', [count]: 'many' },
        null,
      ],
    };
    expect(readAnswer({ body: chatAnswer(usage) })).toMatchObject({
      inputTokens: 310,
      outputTokens: 5,
      cacheWriteTokens: 300,
      cacheWrite1hTokens: 200,
    });
  });
});

describe('reasoning', () => {
  const DETAILS = [null, 'completion_tokens_details', 'output_tokens_details'] as const;
  it.each(COUNT_NAMES.reasoning.flatMap((name) => DETAILS.map((place) => [name, place] as const)))(
    '%s in %s',
    (name, place) => {
      const usage = { prompt_tokens: 9, completion_tokens: 70, ...within(place, { [name]: 50 }) };
      expect(readAnswer({ body: chatAnswer(usage) })).toMatchObject({
        outputTokens: 70,
        reasoningTokens: 50,
      });
    },
  );
});

describe('Anthropic messages', () => {
  it.each([
    ['cache_read_input_tokens', 'cacheHitTokens'],
    ['cache_creation_input_tokens', 'cacheWriteTokens'],
  ])('%s stands beside the input', (name, field) => {
    const usage = { input_tokens: 10, output_tokens: 5, [name]: 300 };
    const body = { type: 'message', id: 'm', model: 'claude', content: [], usage };
    expect(readAnswer({ format: 'anthropic-messages', body })).toMatchObject({
      inputTokens: 310,
      [field]: 300,
    });
  });
});

describe('counts', () => {
  it.each(['12', 12, 12.9])('%s is 12', (count) => {
    const usage = { prompt_tokens: count, completion_tokens: 1 };
    expect(readAnswer({ body: chatAnswer(usage) })).toMatchObject({ inputTokens: 12 });
  });

  it.each([-1, 1e300, '1e3', 'many', [12], true, {}, null])('%j is none', (count) => {
    const usage = { prompt_tokens: count, completion_tokens: 1 };
    expect(readAnswer({ body: chatAnswer(usage) })).toMatchObject({ inputTokens: null });
  });
});
