import { describe, expect, it } from 'vitest';
import { createPricer } from '../../../src/gateway/prices/index.js';
import { chatAnswer, meterCall, readAnswer } from './meterCall.js';

const COUNTS = { prompt_tokens: 900, completion_tokens: 200, total_tokens: 1_100 };
const PARTS = { input_tokens_cost: 2e-5, output_tokens_cost: 1.3e-4, request_cost: 0.005 };

/** What providers say that a request cost, each in its own spelling; microdollars. */
const IN_USAGE: [string, object, number][] = [
  ['a number', { cost: 0.000425 }, 425],
  ['decimal text', { cost: '0.000425' }, 425],
  ['text with an exponent', { cost: '4.25E-4' }, 425],
  ['text in dollars', { cost: '$0.000425' }, 425],
  ['text that names the currency', { cost: '0.000425 USD' }, 425],
  ['text without a leading zero', { cost: '.000425' }, 425],
  ['a number with an exponent', { cost: 4.25e-4 }, 425],
  ['an object with total_cost', { cost: { ...PARTS, total_cost: 0.00515 } }, 5_150],
  ['an object with total', { cost: { input: 1, total: '0.00515' } }, 5_150],
  ['an object with total_usd', { cost: { total_usd: 0.00515 } }, 5_150],
  ['an object with amount and currency', { cost: { amount: '0.00515', currency: 'usd' } }, 5_150],
  ['an object of parts alone', { cost: PARTS }, 5_150],
  ['an object with the fee alone', { cost: { request_cost: 0.005 } }, 5_000],
  ['total_cost', { total_cost: 0.01 }, 10_000],
  ['cost_usd_total', { cost_usd_total: 0.01, cost_usd_input: 0.002 }, 10_000],
  ['cost_usd', { cost_usd: '0.01' }, 10_000],
  ['ticks', { cost_in_usd_ticks: 37_756_000 }, 3_776],
  ['ticks as text', { cost_in_usd_ticks: '37756000' }, 3_776],
  ['microdollars', { cost_in_microdollars: 123 }, 123],
  ['an estimated cost', { estimated_cost: 0.008775 }, 8_775],
  ['an estimated cost as text', { estimated_cost: '0.008775' }, 8_775],
  ['cost_details with a total', { cost_details: { total_cost: 0.02 } }, 20_000],
  ['a zero beside a spelling that is more', { cost: 0, cost_in_usd_ticks: 1e10 }, 1_000_000],
  ['a null beside another', { cost: null, estimated_cost: 0.03 }, 30_000],
  ['in camel case', { totalCost: '0.02' }, 20_000],
  ['parts beside the counts', { prompt_cost: 0.001, completion_cost: '0.002' }, 3_000],
  ['parts and a fee beside the counts', PARTS, 5_150],
  ['a total beside its parts', { input_cost: 0.001, output_cost: 0.002, cost: 0.0031 }, 3_100],
  ['parts beside what others are paid', { ...PARTS, upstream_inference_cost: 9 }, 5_150],
  ['a number and its unit', { cost: 0.0045, cost_unit: 'US dollars' }, 4_500],
  ['text that begins with the currency', { cost: 'USD 0.0045' }, 4_500],
  ['text in dollars of the US', { cost: 'US$0.0045' }, 4_500],
  ['an object with a value', { cost: { value: '0.0045', currency: 'USD' } }, 4_500],
  ['an object in cents', { cost: { amount: 0.45, unit: 'cents' } }, 4_500],
  ['an object in cents of USD', { cost: { total: '0.45', unit: 'USD cents' } }, 4_500],
  ['an object of parts in cents', { cost: { input: 0.2, output: 0.25, unit: 'cents' } }, 4_500],
  ['a number in cents', { cost: 0.45, cost_unit: 'cents' }, 4_500],
  ['a number beside the unit of the counts', { cost: 0.0045, unit: 'TOKENS' }, 4_500],
  ['USD beside the unit of others', { cost_usd: 0.0045, cost_unit: 'cents' }, 4_500],
  ['micros', { total_cost_micros: '4500' }, 4_500],
  ['micros of USD', { cost_usd_micros: 4_500 }, 4_500],
  ['microdollars in camel case', { costMicrodollars: 4_500 }, 4_500],
  ['billionths', { cost_in_nanodollars: 4_500_000 }, 4_500],
  ['thousandths of a cent', { cost_millicents: 450 }, 4_500],
  ['ticks in camel case', { costInUsdTicks: 45_000_000 }, 4_500],
  ['ticks of the total', { total_cost_in_usd_ticks: 45_000_000 }, 4_500],
  ['USD in camel case', { totalCostUsd: 0.0045 }, 4_500],
  ['parts in camel case', { inputCost: 0.002, outputCost: 0.0025 }, 4_500],
  ['less than nothing', { cost: -0 }, 0],
  ['nothing, for a free model', { cost: 0 }, 0],
];
const gateway = { gateway: { cost: '0.0045', marketCost: '0.005' } };
const BESIDE_USAGE: [string, object, number][] = [
  ['at the top', { cost: 0.0045 }, 4_500],
  ['at the top, as an object', { cost: { total_cost: 0.0045 } }, 4_500],
  ["in LiteLLM's own members", { _hidden_params: { response_cost: 0.0045 } }, 4_500],
  ['at the top, estimated', { estimated_cost: 0.0045 }, 4_500],
  ['in an object of its own', { billing: { total_cost: 0.0045, currency: 'USD' } }, 4_500],
  ['in the metadata of a gateway', { provider_metadata: gateway }, 4_500],
  ['in the metadata of a gateway, in camel case', { providerMetadata: gateway }, 4_500],
  [
    "in a message's metadata",
    { choices: [{ index: 0, message: { content: 'Hi.', provider_metadata: gateway } }] },
    4_500,
  ],
  ['in a member of its own', { associated_dollar_cost: 0.0045 }, 4_500],
];

describe('a cost that the provider reports wins over the list', () => {
  it.each(IN_USAGE)('in a chat: %s', (_name, usage, cost) => {
    const event = meterCall({ body: chatAnswer({ ...COUNTS, ...usage }) });
    expect(event).toMatchObject({
      cost,
      metadata: { price_source: 'upstream', reported_cost: cost },
    });
  });

  it.each(BESIDE_USAGE)('in a chat, beside the usage: %s', (_name, more, cost) => {
    const event = meterCall({ body: chatAnswer(COUNTS, more) });
    expect(event).toMatchObject({ cost, metadata: { price_source: 'upstream' } });
  });

  it.each(IN_USAGE)('in the last chunk of a stream: %s', (_name, usage, cost) => {
    const events = [
      { choices: [{ index: 0, delta: { content: 'Hi.' } }], model: 'gpt-4o' },
      { choices: [], usage: { ...COUNTS, ...usage } },
      '[DONE]',
    ];
    expect(meterCall({ events })).toMatchObject({ cost });
  });

  it.each(IN_USAGE)('in a response: %s', (_name, usage, cost) => {
    const response = {
      id: 'r',
      model: 'gpt-5',
      status: 'completed',
      output: [{ type: 'message', content: [{ type: 'output_text', text: 'ha' }] }],
      usage: { input_tokens: 900, output_tokens: 200, ...usage },
    };
    const format = 'openai-responses';
    expect(meterCall({ format, body: response })).toMatchObject({ cost });
    const events = [{ type: 'response.completed', response }];
    expect(meterCall({ format, events })).toMatchObject({ cost });
  });

  it.each(IN_USAGE)('in a message: %s', (_name, usage, cost) => {
    const counts = { input_tokens: 900, output_tokens: 200, ...usage };
    const content = [{ type: 'text', text: 'ha' }];
    const body = { type: 'message', id: 'm', model: 'claude-sonnet-4-5', content, usage: counts };
    expect(meterCall({ format: 'anthropic-messages', body })).toMatchObject({ cost });
  });

  it('in a frame of its own after the end', () => {
    const choice = { index: 0, delta: { content: 'Hi.' }, finish_reason: 'stop' };
    const chunk = { model: 'gpt-4o', choices: [choice], usage: COUNTS };
    const events = [chunk, '[DONE]', { associated_dollar_cost: 0.0123 }];
    expect(meterCall({ events })).toMatchObject({ cost: 12_300, metadata: { estimated: null } });
  });

  it('is taken in the digits of its sender', () => {
    const usage = JSON.stringify(COUNTS).replace('}', ',"cost":0.000000499999999999999999}');
    const body = `{"model":"gpt-4o","choices":[],"usage":${usage}}`;
    expect(readAnswer({ body }).costUsd).toBe('0.000000499999999999999999');
    expect(meterCall({ body })).toMatchObject({ cost: 0 });
  });

  it('is stored where it is not used', () => {
    const pricer = createPricer();
    const own = {
      ...pricer,
      price: () => ({
        costMicrodollars: 7,
        marketCostMicrodollars: 425,
        source: 'own' as const,
        version: 'v1',
      }),
    };
    const event = meterCall({ pricer: own, body: chatAnswer({ ...COUNTS, cost: 0.000425 }) });
    expect(event).toMatchObject({ cost: 7, metadata: { reported_cost: 425, market_cost: 425 } });
  });
});

describe('what is no cost in USD', () => {
  // 900 at 2.50 and 200 at 10 USD a million.
  const LIST = 4_250;

  it.each<[string, object]>([
    ['a negative number', { cost: -0.5 }],
    ['text that is no number', { cost: 'free' }],
    ['another currency', { cost: { total: 5, currency: 'EUR' } }],
    ['another currency beside it', { cost: 5, currency: 'CNY' }],
    ['credits', { cost: 5, cost_unit: 'credits' }],
    ['credits in an object', { cost: { total: 5, currency: 'credits' } }],
    ['what others would be paid', { upstream_inference_cost: 5, market_cost: 5 }],
    ['a boolean', { cost: true }],
    ['a list', { cost: [0.5] }],
    ['an empty object', { cost: {} }],
    ['null', { cost: null }],
  ])('is not taken for one: %s', (_name, usage) => {
    const event = meterCall({ body: chatAnswer({ ...COUNTS, ...usage }) });
    expect(event).toMatchObject({ cost: LIST, metadata: { price_source: 'genai-prices' } });
  });

  it('nor one that no ledger takes: the list price, and a flag', () => {
    const event = meterCall({ body: chatAnswer({ ...COUNTS, cost: 9e15 }) });
    expect(event).toMatchObject({
      cost: LIST,
      metadata: { estimated: 'incomplete', usage_details: { doubts: ['reported_cost'] } },
    });
  });

  it('a zero beside usage of zeros is no report', () => {
    const zeros = { prompt_tokens: 0, completion_tokens: 0, total_tokens: 0, cost: 0 };
    const request = { model: 'gpt-4o', messages: [{ role: 'user', content: 'x'.repeat(4_000) }] };
    const event = meterCall({ request, body: chatAnswer(zeros) });
    expect(event).toMatchObject({ metadata: { estimated: 'missing_usage' } });
    expect(event.cost).toBeGreaterThan(2_000);
  });
});

describe('a running cost', () => {
  it('of an answer that broke off is a lower bound', () => {
    const events = [
      {
        model: 'gpt-4o',
        choices: [{ index: 0, delta: { content: 'word '.repeat(8_000) } }],
        usage: { prompt_tokens: 100, completion_tokens: 1, cost: 0.00026 },
      },
    ];
    const event = meterCall({ events, end: { isBroken: true } });
    // 10,000 tokens of text at 10 USD a million.
    expect(event).toMatchObject({ cost: 100_250, metadata: { reported_cost: 260 } });
  });
});
