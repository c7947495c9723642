import { calcPrice, findProvider, type ModelInfo, type Usage } from '@pydantic/genai-prices';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  createPricer,
  type Price,
  type PriceContext,
  type PricedReading,
  priceIntent,
} from '../../../src/gateway/prices/index.js';
import { createUsageReader } from '../../../src/gateway/processUsage/index.js';

const AT = new Date('2026-11-22T12:34:56Z');
const pricer = createPricer();

const HOSTS = {
  openai: 'api.openai.com',
  anthropic: 'api.anthropic.com',
  openrouter: 'openrouter.ai',
  deepseek: 'api.deepseek.com',
  google: 'generativelanguage.googleapis.com',
  'x-ai': 'api.x.ai',
};

/** Models of four makers: plain, tiered by context, dated, with cache reads and writes. */
const MODELS: [format: PriceContext['format'], host: string, model: string][] = [
  ['openai-chat', 'api.openai.com', 'gpt-4.1'],
  ['openai-chat', 'api.openai.com', 'gpt-4.1-nano-2025-04-14'],
  ['openai-chat', 'api.openai.com', 'gpt-4o'],
  ['openai-chat', 'api.openai.com', 'gpt-4o-mini'],
  ['openai-responses', 'api.openai.com', 'gpt-5'],
  ['openai-responses', 'api.openai.com', 'gpt-5-mini'],
  ['openai-responses', 'api.openai.com', 'gpt-5.1-codex-max'],
  ['openai-responses', 'api.openai.com', 'gpt-5.4'],
  ['openai-responses', 'api.openai.com', 'gpt-5.6-sol'],
  ['openai-responses', 'api.openai.com', 'o4-mini'],
  ['openai-chat', 'api.openai.com', 'gpt-audio'],
  ['anthropic-messages', 'api.anthropic.com', 'claude-3-5-haiku-latest'],
  ['anthropic-messages', 'api.anthropic.com', 'claude-haiku-4-5'],
  ['anthropic-messages', 'api.anthropic.com', 'claude-sonnet-4-0'],
  ['anthropic-messages', 'api.anthropic.com', 'claude-sonnet-4-5-20250929'],
  ['anthropic-messages', 'api.anthropic.com', 'claude-sonnet-4-6'],
  ['anthropic-messages', 'api.anthropic.com', 'claude-opus-4-1'],
  ['anthropic-messages', 'api.anthropic.com', 'claude-opus-4-8'],
  ['anthropic-messages', 'api.anthropic.com', 'claude-opus-5'],
  ['openai-chat', 'api.deepseek.com', 'deepseek-chat'],
  ['openai-chat', 'openrouter.ai', 'anthropic/claude-sonnet-4.5'],
  ['openai-chat', 'api.groq.com', 'llama-3.3-70b-versatile'],
];

describe('list prices', () => {
  it.each(MODELS)('%s at %s: %s within 1 microdollar of the library', (format, host, model) => {
    fc.assert(
      fc.property(tokens(), (reading) => {
        const price = pricer.price({ ...reading, model }, context({ format, upstreamHost: host }));
        const theirs = calcPrice(toLibraryUsage(reading), model, {
          providerApiUrl: `https://${host}`,
          timestamp: AT,
        });
        expect(price).toMatchObject({ source: 'genai-prices' });
        const cost = (price as Price).costMicrodollars;
        expect(Math.abs(cost - (theirs?.total_price ?? -1) * 1e6)).toBeLessThanOrEqual(1);
      }),
      { numRuns: 200 },
    );
  });

  it('agrees for every model of the list that has prices of tokens', () => {
    let compared = 0;
    for (const [id, upstreamHost] of Object.entries(HOSTS)) {
      const provider = findProvider({ providerId: id });
      for (const { id: model } of provider?.models ?? ([] as ModelInfo[])) {
        // The list lacks the price of an hour in the cache that Google has for Claude.
        const cacheWrite1hTokens = id === 'google' ? 0 : EVEN.cacheWrite1hTokens;
        const used = { ...EVEN, cacheWrite1hTokens };
        const reading = { ...used, model };
        const theirs = calcPrice(toLibraryUsage(used), model, {
          providerId: id,
          timestamp: AT,
        });
        const price = pricer.price(reading, context({ upstreamHost }));
        if ('unpriced' in price) {
          // Only where the list has no price for input or output.
          const known = theirs?.model_price ?? {};
          expect(known.input_mtok === undefined || known.output_mtok === undefined).toBe(true);
          continue;
        }
        const difference = price.costMicrodollars - (theirs?.total_price ?? -1) * 1e6;
        expect(Math.abs(difference)).toBeLessThanOrEqual(1);
        compared++;
      }
    }
    expect(compared).toBeGreaterThan(500);
  });

  it('prices an hour of cache above five minutes of it', () => {
    const reading = { model: 'claude-sonnet-4-5', inputTokens: 1_000_000, outputTokens: 0 };
    const writes = { ...reading, inputTokens: 100_000, cacheWriteTokens: 100_000 };
    const cost = (more: PricedReading) =>
      (pricer.price(more, context({ format: 'anthropic-messages' })) as Price).costMicrodollars;
    expect(cost(writes)).toBe(375_000);
    expect(cost({ ...writes, cacheWrite1hTokens: 40_000 })).toBe(225_000 + 240_000);
  });

  it('prices by the day of the request', () => {
    const reading = { model: 'gpt-5.6-sol', inputTokens: 1_000, outputTokens: 0 };
    const on = (day: string) => pricer.price(reading, context({ at: new Date(day) }));
    expect(on('2026-08-20T23:59:59Z')).toMatchObject({ costMicrodollars: 5_000 });
    expect(on('2026-08-21T00:00:00Z')).toMatchObject({ costMicrodollars: 4_000 });
  });

  it('prices searches, and an advisor at its own model', () => {
    const reading = { model: 'claude-sonnet-4-6', inputTokens: 0, outputTokens: 0 };
    const format = 'anthropic-messages';
    expect(pricer.price({ ...reading, webSearches: 2 }, context({ format }))).toMatchObject({
      costMicrodollars: 20_000,
    });
    const own = { type: 'message', input_tokens: 2_000, output_tokens: 3_000 };
    const advisor = { type: 'advisor_message', input_tokens: 1_100, output_tokens: 700 };
    const usage = { ...own, iterations: [own, { ...advisor, model: 'claude-opus-4-6' }] };
    const reader = createUsageReader(format, { streamed: false });
    reader.push(Buffer.from(JSON.stringify({ model: 'claude-sonnet-4-6', content: [], usage })));
    // 2,000 x 3 + 3,000 x 15 of the model, 1,100 x 5 + 700 x 25 of its advisor.
    expect(pricer.price(reader.end(), context({ format }))).toMatchObject({
      costMicrodollars: 51_000 + 23_000,
    });
  });

  it.each([
    ['a name that nobody knows', 'no-such-model-7', 'unknown_model'],
    ['no name', null, 'no_model'],
  ])('%s is unpriced, never zero', (_name, model, reason) => {
    const reading = { model, inputTokens: 10, outputTokens: 10 };
    expect(pricer.price(reading, context({}))).toEqual({ unpriced: true, reason });
    const atKnownHost = context({ upstreamHost: 'api.openai.com' });
    expect(pricer.price(reading, atKnownHost)).toEqual({ unpriced: true, reason });
  });

  it('an advisor that nobody knows leaves the whole unpriced', () => {
    const tokensOfAdvisor = { ...ZERO_TOKENS, inputTokens: 5 };
    const reading = {
      model: 'claude-sonnet-4-6',
      inputTokens: 1,
      outputTokens: 1,
      otherModels: [{ model: 'mystery', tokens: tokensOfAdvisor }],
    };
    expect(pricer.price(reading, context({ format: 'anthropic-messages' }))).toEqual({
      unpriced: true,
      reason: 'unknown_model',
    });
  });

  it('falls back to the requested model', () => {
    const reading = { model: 'alias-of-the-provider', inputTokens: 1_000, outputTokens: 0 };
    const price = pricer.price(reading, context({ requestedModel: 'gpt-4.1' }));
    expect(price).toMatchObject({ costMicrodollars: 2_000 });
    expect((price as Price).version).toMatch(/^\d+\.\d+\.\d+ openai\/gpt-4\.1$/);
  });

  it.each([
    ['anthropic/claude-sonnet-4-5', 3_000],
    ['claude-sonnet-4-5', 3_000],
    ['gpt-4.1', 2_000],
  ])('behind a host that nobody knows, %s has the price of its maker', (model, cost) => {
    const reading = { model, inputTokens: 1_000, outputTokens: 0 };
    expect(pricer.price(reading, context({ upstreamHost: '127.0.0.1' }))).toMatchObject({
      costMicrodollars: cost,
    });
  });
});

describe('cost that the provider reports', () => {
  const reading = { model: 'no-such-model', inputTokens: 10, outputTokens: 10 };
  const host = context({ upstreamHost: 'openrouter.ai' });

  it.each([
    ['0.0000005', 1],
    ['0.00000049999999999999999999', 0],
    ['1.5e-5', 15],
    ['0', 0],
    ['12', 12_000_000],
  ])('%s USD is %d microdollars', (costUsd, costMicrodollars) => {
    expect(pricer.price({ ...reading, costUsd }, host)).toEqual({
      costMicrodollars,
      marketCostMicrodollars: costMicrodollars,
      source: 'upstream',
      version: 'openrouter.ai',
    });
  });

  it('takes in what a key of our own paid beside it', () => {
    const byok = { ...reading, costUsd: '0.001', upstreamCostUsd: '0.02', isByok: true };
    expect(pricer.price(byok, host)).toMatchObject({ costMicrodollars: 21_000 });
    expect(pricer.price({ ...byok, isByok: false }, host)).toMatchObject({
      costMicrodollars: 1_000,
    });
  });

  it('out of any range is unpriced', () => {
    expect(pricer.price({ ...reading, costUsd: '9007199254740993' }, host)).toEqual({
      unpriced: true,
      reason: 'out_of_range',
    });
  });
});

describe('an intent whose usage was lost', () => {
  const intent = {
    api_kind: 'openai_chat',
    requested_model: 'gpt-4.1',
    organization_id: null,
    created_at: AT.toISOString(),
    input_tokens_estimate: 1_000,
    max_tokens: 100,
  };

  it('is priced from its prompt and its limit', () => {
    expect(priceIntent(pricer, intent, null)).toMatchObject({ cost: 2_800, output_tokens: 100 });
    expect(priceIntent(pricer, { ...intent, max_tokens: null }, null)).toMatchObject({
      cost: 6_000,
      output_tokens: 500,
    });
  });

  it('has no output where it made none', () => {
    const embedded = { ...intent, requested_model: 'text-embedding-3-small', max_tokens: null };
    for (const api_kind of ['openai_embeddings', 'rerank']) {
      const priced = priceIntent(pricer, { ...embedded, api_kind }, null);
      expect(priced).toMatchObject({ cost: 20, output_tokens: 0 });
    }
  });

  it('made images where it was to draw', () => {
    const drawn = { ...intent, requested_model: 'gpt-image-1.5' };
    for (const api_kind of ['openai_images', 'openai_image_edits']) {
      const priced = priceIntent(pricer, { ...drawn, api_kind }, null);
      expect(priced).toMatchObject({ cost: 1_000 * 5 + 100 * 32, output_tokens: 100 });
    }
  });

  it('has none for an unknown model', () => {
    expect(priceIntent(pricer, { ...intent, requested_model: 'nope' }, null)).toBeNull();
  });
});

// https://github.com/pydantic/genai-prices/pull/581
describe("DeepSeek's hours", () => {
  it.each<[string, number]>([
    ['2026-11-27T02:00:00Z', 3_960_000],
    ['2026-11-27T09:59:59Z', 3_960_000],
    ['2026-11-27T12:00:00Z', 1_980_000],
    ['2026-11-28T00:59:00Z', 1_980_000],
    ['2026-11-28T02:00:00Z', 1_980_000],
    ['2026-11-29T09:59:59Z', 1_980_000],
    ['2026-11-30T01:00:00Z', 3_960_000],
    ['2026-08-23T02:00:00Z', 1_980_000],
    ['2026-08-22T02:00:00Z', 3_960_000],
    ['2026-08-17T02:00:00Z', 3_960_000],
    ['2026-08-14T02:00:00Z', 870_000],
  ])('are dear on working days alone, at first on others too: %s', (at, costMicrodollars) => {
    const reading = { ...ZERO_TOKENS, outputTokens: 1_000_000, model: 'deepseek-v4-pro' };
    const asked = context({ upstreamHost: 'api.deepseek.com', at: new Date(at) });
    expect(pricer.price(reading, asked)).toMatchObject({ costMicrodollars });
  });
});

const ZERO_TOKENS = {
  inputTokens: 0,
  outputTokens: 0,
  cacheHitTokens: 0,
  cacheAudioTokens: 0,
  cacheImageTokens: 0,
  cacheWriteTokens: 0,
  cacheWrite1hTokens: 0,
  inputAudioTokens: 0,
  inputImageTokens: 0,
  outputAudioTokens: 0,
  outputImageTokens: 0,
};
const EVEN = {
  ...ZERO_TOKENS,
  inputTokens: 310_001,
  outputTokens: 7_777,
  cacheHitTokens: 100_003,
  cacheWriteTokens: 50_001,
  cacheWrite1hTokens: 1_001,
};

function context(more: Partial<PriceContext>): PriceContext {
  return { requestedModel: null, format: 'openai-chat', at: AT, ...more };
}

function tokens() {
  const count = fc.oneof(fc.nat(2_000), fc.nat(500_000));
  return fc.tuple(count, count, count, count, count).map(([fresh, hit, write, hour, output]) => ({
    ...ZERO_TOKENS,
    inputTokens: fresh + hit + write,
    outputTokens: output,
    cacheHitTokens: hit,
    cacheWriteTokens: write,
    cacheWrite1hTokens: Math.min(write, hour),
  }));
}

function toLibraryUsage(reading: typeof ZERO_TOKENS): Usage {
  return {
    input_tokens: reading.inputTokens,
    output_tokens: reading.outputTokens,
    cache_read_tokens: reading.cacheHitTokens,
    cache_write_tokens: reading.cacheWriteTokens,
    cache_write_1h_tokens: reading.cacheWrite1hTokens,
  };
}
