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
