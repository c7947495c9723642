import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { addUp, type Parts } from '../../../src/gateway/processUsage/addUp.js';
import { chatAnswer, meterCall } from './meterCall.js';

const sums = (parts: Partial<Parts>) =>
  addUp({
    prompt: null,
    completion: null,
    total: null,
    cacheRead: 0,
    cacheWrite: 0,
    reasoning: null,
    ...parts,
  });

describe('parts of a usage', () => {
  it.each<[string, Partial<Parts>, number | null, number | null, string[]]>([
    ['that add up', { prompt: 100, completion: 10, total: 110 }, 100, 10, []],
    ['without a total', { prompt: 100, completion: 10 }, 100, 10, []],
    ['with a total of zero, which says nothing', { prompt: 9, completion: 1, total: 0 }, 9, 1, []],
    ['thoughts in the total alone', { prompt: 20, completion: 198, total: 623 }, 20, 603, []],
    [
      'reasoning beside the completion',
      { prompt: 10, completion: 5, total: 115, reasoning: 100 },
      10,
      105,
      [],
    ],
    [
      'reasoning beside it, and no total',
      { prompt: 10, completion: 5, reasoning: 100 },
      10,
      105,
      [],
    ],
    [
      'reasoning that cannot be within it',
      { prompt: 10, completion: 5, total: 15, reasoning: 100 },
      10,
      5,
      ['reasoning_tokens'],
    ],
    [
      'cache within the prompt',
      { prompt: 10_000, completion: 100, total: 10_100, cacheRead: 9_000, cacheWrite: 500 },
      10_000,
      100,
      [],
    ],
    [
      'cache beyond the prompt, in the total',
      { prompt: 86, completion: 14, total: 30_100, cacheRead: 30_000 },
      30_086,
      14,
      [],
    ],
    [
      'cache beyond the prompt, not in the total',
      { prompt: 86, completion: 14, total: 100, cacheRead: 30_000 },
      30_086,
      14,
      [],
    ],
    [
      'cache beyond the prompt, and no total',
      { prompt: 86, completion: 14, cacheRead: 60, cacheWrite: 40 },
      186,
      14,
      [],
    ],
    [
      'reads within the prompt, and writes that the total has no room for',
      { prompt: 30_946, completion: 102, total: 31_048, cacheRead: 30_940, cacheWrite: 460 },
      31_406,
      102,
      [],
    ],
    [
      'cache smaller than the prompt, which the total shows beside it',
      { prompt: 1_000, completion: 10, total: 1_810, cacheRead: 800 },
      1_800,
      10,
      [],
    ],
    [
      'only the reads beside the prompt',
      { prompt: 1_000, completion: 10, total: 1_810, cacheRead: 800, cacheWrite: 300 },
      1_800,
      10,
      [],
    ],
    [
      'cache and thoughts beside',
      { prompt: 86, completion: 14, total: 30_505, cacheRead: 30_000 },
      30_086,
      419,
      [],
    ],
    [
      'cache and reasoning beside',
      { prompt: 1_000, completion: 10, total: 1_860, cacheRead: 800, reasoning: 50 },
      1_800,
      60,
      [],
    ],
    ['more than the total', { prompt: 100, completion: 10, total: 60 }, 100, 10, ['total_tokens']],
    ['prompt and total', { prompt: 100, total: 130 }, 100, 30, []],
    ['completion and total', { completion: 30, total: 130 }, 100, 30, []],
    ['nothing but a total', { total: 130 }, null, null, []],
  ])('%s', (_name, parts, input, output, doubts) => {
    expect(sums(parts)).toEqual({ input, output, doubts });
  });

  it('are never less than what was said', () => {
    const count = fc.option(fc.nat(50_000));
    fc.assert(
      fc.property(
        fc.record({
          prompt: count,
          completion: count,
          total: count,
          cacheRead: fc.nat(50_000),
          cacheWrite: fc.nat(50_000),
          reasoning: count,
        }),
        (parts) => {
          const { input, output } = addUp(parts);
          if (parts.prompt !== null) expect(input).toBeGreaterThanOrEqual(parts.prompt);
          if (parts.completion !== null) expect(output).toBeGreaterThanOrEqual(parts.completion);
          if (parts.prompt !== null && parts.completion !== null) {
            expect(input).toBeGreaterThanOrEqual(parts.cacheRead);
          }
        },
      ),
    );
  });
});

describe('the row', () => {
  it('says that parts do not add up', () => {
    const usage = { prompt_tokens: 100, completion_tokens: 10, total_tokens: 60 };
    expect(meterCall({ body: chatAnswer(usage) })).toMatchObject({
      input_tokens: 100,
      output_tokens: 10,
      metadata: { estimated: 'incomplete', usage_details: { doubts: ['total_tokens'] } },
    });
  });

  it('splits nothing but a total by what the request was', () => {
    const request = { model: 'gpt-4o', messages: [{ role: 'user', content: 'x'.repeat(400) }] };
    expect(meterCall({ request, body: chatAnswer({ total_tokens: 150 }) })).toMatchObject({
      input_tokens: 101,
      output_tokens: 49,
      metadata: { estimated: 'partial_usage' },
    });
  });
});
