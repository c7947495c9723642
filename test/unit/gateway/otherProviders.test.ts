import { describe, expect, it } from 'vitest';
import { toBilled } from '../../../src/gateway/prices/billedUsage.js';
import { roundToMicrodollars, ZERO } from '../../../src/gateway/prices/decimal.js';
import { priceUsage } from '../../../src/gateway/prices/modelPrice.js';
import { createSideReader, type SideFormat } from '../../../src/gateway/processUsage/index.js';
import { type Call, chatAnswer, meterCall, readAnswer } from './meterCall.js';

/** The same kinds of shape as in publicReports.test.ts, as other providers and APIs have them. */
const COUNTS = { prompt_tokens: 1_000_000, completion_tokens: 100_000 };

describe('a tier that is an object (Bedrock)', () => {
  const cost = (more: object, usage: object = COUNTS) =>
    meterCall({
      host: 'bedrock-runtime.us-east-1.amazonaws.com',
      body: chatAnswer(usage, { model: 'openai.gpt-oss-120b-1:0', ...more }),
    });

  it.each<[string, object, number]>([
    ['none', {}, 210_000],
    ['default', { serviceTier: { type: 'default' } }, 210_000],
    ['flex', { serviceTier: { type: 'flex' } }, 105_000],
    ['flex, in snake case', { service_tier: { type: 'flex' } }, 105_000],
    ['priority', { serviceTier: { type: 'priority' } }, 367_500],
  ])('%s', (_name, more, microdollars) => {
    expect(cost(more)).toMatchObject({ cost: microdollars, metadata: { estimated: null } });
    expect(cost({}, { ...COUNTS, ...more }).cost).toBe(microdollars);
  });

  it('of capacity that was reserved is flagged', () => {
    const { metadata } = cost({ serviceTier: { type: 'reserved' } });
    expect(JSON.stringify(metadata)).toContain('service_tier:reserved');
  });
});

describe('searches of Google', () => {
  const counts = { prompt_tokens: 1_000, completion_tokens: 100, total_tokens: 1_100 };
  const queries = ['weather', '', 'weather in Bern'];
  const choice = { index: 0, finish_reason: 'stop' };
  const message = { role: 'assistant', content: 'Rain.' };

  it.each<[string, object]>([
    [
      'in the details of the prompt',
      chatAnswer({ ...counts, prompt_tokens_details: { web_search_requests: 2 } }),
    ],
    [
      'beside the answer',
      chatAnswer(counts, { vertex_ai_grounding_metadata: [{ webSearchQueries: queries }] }),
    ],
    [
      'in a choice',
      chatAnswer(counts, {
        choices: [{ ...choice, message, groundingMetadata: { webSearchQueries: queries } }],
      }),
    ],
    [
      'in its message',
      chatAnswer(counts, {
        choices: [
          {
            ...choice,
            message: { ...message, grounding_metadata: { web_search_queries: queries } },
          },
        ],
      }),
    ],
  ])('%s', (_name, answer) => {
    const body = { ...answer, model: 'gemini-3-pro-preview' };
    expect(readAnswer({ body }).webSearches).toBe(2);
    // 1,000 in at 2, 100 out at 12 USD a million, and 2 searches at 14 USD a thousand.
    expect(meterCall({ body })).toMatchObject({ cost: 31_200, metadata: { estimated: null } });
  });

  it('before Gemini 3 are paid by the prompt, which has no price here: flagged', () => {
    const usage = { ...counts, web_search_requests: 2 };
    const { cost, metadata } = meterCall({
      body: chatAnswer(usage, { model: 'gemini-2.5-flash' }),
    });
    expect([cost, metadata?.estimated]).toEqual([550, 'incomplete']);
    expect(JSON.stringify(metadata?.usage_details)).toContain('charge:web_searches');
  });
});

it('searches of Claude on Google’s cloud cost what they cost at its maker', () => {
  const { cost, metadata } = meterCall({
    format: 'anthropic-messages',
    host: 'aiplatform.googleapis.com',
    body: {
      type: 'message',
      id: 'm',
      model: 'claude-sonnet-4-5',
      content: [{ type: 'text', text: 'Rain.' }],
      usage: {
        input_tokens: 1_000,
        output_tokens: 100,
        server_tool_use: { web_search_requests: 1 },
      },
    },
  });
  expect([cost, metadata?.estimated]).toEqual([14_500, null]);
});

describe('what was written to the cache, of which only a part is split by lifetime', () => {
  const start = (usage: object) => ({
    type: 'message_start',
    message: { id: 'm', model: 'claude-sonnet-4-5', content: [], usage },
  });
  const text = { type: 'content_block_delta', index: 0, delta: { type: 'text_delta', text: 'Hi' } };
  const end = (usage: object) => ({
    type: 'message_delta',
    delta: { stop_reason: 'end_turn' },
    usage,
  });
  const costOf = (fiveMinutes: number, hour: number) => {
    const cache_creation = {
      ephemeral_5m_input_tokens: fiveMinutes,
      ephemeral_1h_input_tokens: hour,
    };
    const first = { cache_creation_input_tokens: 50_000, cache_creation };
    const events = [
      start({ input_tokens: 0, output_tokens: 1, ...first }),
      text,
      end({ input_tokens: 0, output_tokens: 1, cache_creation_input_tokens: 100_000 }),
      { type: 'message_stop' },
    ];
    return meterCall({ format: 'anthropic-messages', events } as Call).cost;
  };

  it('has the lifetime of that part, where all of it has one', () => {
    expect(costOf(0, 50_000)).toBe(600_015);
    expect(costOf(50_000, 0)).toBe(375_015);
  });

  it('has the usual one where that part has both', () => {
    expect(costOf(20_000, 30_000)).toBe(442_515);
  });
});

describe('costs by yet other names', () => {
  it.each<[string, object]>([
    ['total_cost_in_usd', { total_cost_in_usd: 0.00515 }],
    ['response_cost_usd', { response_cost_usd: '0.00515' }],
    ['totalCostInDollars', { totalCostInDollars: 0.00515 }],
    ['hundredths of a cent by ten thousands', { cost_microcents: 515_000 }],
    ['parts in dollars', { input_cost_usd: 0.005, output_cost_usd: 0.00015 }],
    ['an object of one currency', { cost: { USD: 0.00515 } }],
    ['an object of one unit', { cost: { micro_usd: 5_150 } }],
    ['an object of several', { cost: { eur: 0.0048, usd: 0.00515 } }],
  ])('%s', (_name, more) => {
    const body = chatAnswer({ prompt_tokens: 20, completion_tokens: 130, ...more });
    expect(meterCall({ body })).toMatchObject({
      cost: 5_150,
      metadata: { price_source: 'upstream', reported_cost: 5_150 },
    });
  });

  it.each<[string, object]>([
    ['an object of another currency', { cost: { EUR: 0.00515 } }],
    ['what it would have cost', { list_cost_usd: 0.00515 }],
  ])('%s is none', (_name, more) => {
    const body = chatAnswer({ prompt_tokens: 20, completion_tokens: 130, ...more });
    expect(meterCall({ body }).metadata?.reported_cost ?? null).toBeNull();
  });
});

describe('what is paid for by other units than tokens', () => {
  const read = (side: SideFormat, answer: object) => {
    const reader = createSideReader(side, { streamed: false });
    reader.push(Buffer.from(JSON.stringify(answer)));
    return reader.end();
  };

  it('ranks, by the search (Cohere)', () => {
    const reading = read('rerank', { id: 'r', meta: { billed_units: { search_units: 2 } } });
    expect(reading).toMatchObject({
      usage: 'final',
      inputTokens: 0,
      charges: { rerank_searches: 2 },
    });
    const price = priceUsage(toBilled(reading), { rerank_searches_kcount: '2' });
    expect([price?.unpriced, roundToMicrodollars(price?.usd ?? ZERO)]).toEqual([[], 4_000]);
  });

  it('ranks, by their tokens where there are some', () => {
    const reading = read('rerank', {
      meta: { billed_units: { search_units: 1, input_tokens: 9 } },
    });
    expect(reading).toMatchObject({ inputTokens: 9, charges: {} });
  });

  it('speech, by its length where nothing else is told (Groq)', () => {
    const reading = read('audio', { text: 'Hello.', duration: 8.4, segments: [] });
    expect(reading).toMatchObject({ usage: 'final', charges: { audio_seconds: 9 } });
  });
});
