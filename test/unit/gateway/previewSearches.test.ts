import { describe, expect, it } from 'vitest';
import { parseOwnPrices } from '../../../src/gateway/prices/ownPrices.js';
import { priceReading } from '../../../src/gateway/prices/priceReading.js';
import { withToolPrices } from '../../../src/gateway/prices/toolPrices.js';
import { meterCall, NOW } from './meterCall.js';

describe('searches by the tool that came before', () => {
  const search = { type: 'web_search_call', action: { type: 'search' } };
  const cost = (model: string, type: string, more: object = {}) =>
    meterCall({
      format: 'openai-responses',
      body: {
        id: 'r',
        model,
        status: 'completed',
        output: [search, search],
        tools: [{ type }],
        usage: { input_tokens: 0, output_tokens: 0 },
        ...more,
      },
    }).cost;

  it.each([
    ['gpt-4o', 'web_search_preview', 50_000],
    ['gpt-4.1-mini-2025-04-14', 'web_search_preview_2025_03_11', 50_000],
    ['gpt-4o', 'web_search', 20_000],
    ['gpt-5', 'web_search_preview', 20_000],
    ['o4-mini', 'web_search_preview', 20_000],
  ])('%s, %s', (model, type, microdollars) => {
    expect(cost(model, type)).toBe(microdollars);
    const tool_usage = { web_search: { num_requests: 1 } };
    expect(cost(model, type, { tool_usage })).toBe(microdollars / 2);
  });

  it.each<[string, object]>([
    ['of the usage', { tool_usage: { web_search: { num_requests: 2 } } }],
    ['of the prompt', { input_tokens_details: { web_search_requests: 2 } }],
  ])('are paid for once where a count tells of them too: %s', (_name, told) => {
    const usage = { input_tokens: 0, output_tokens: 0, ...told };
    expect(cost('gpt-4o', 'web_search_preview', { usage })).toBe(50_000);
    expect(cost('gpt-4o', 'web_search_preview', { usage, output: [] })).toBe(50_000);
  });

  it('are paid for once where only the end of a stream tells the tool', () => {
    const response = { id: 'r', model: 'gpt-4o', output: [] };
    const usage = { input_tokens: 0, output_tokens: 0 };
    const tools = [{ type: 'web_search_preview' }];
    const item = { ...search, id: 'ws' };
    const events = [
      { type: 'response.created', response },
      { type: 'response.output_item.done', item },
      {
        type: 'response.completed',
        response: { ...response, tools, output: [item], usage, status: 'completed' },
      },
    ];
    expect(meterCall({ format: 'openai-responses', events }).cost).toBe(25_000);
  });

  it('cost what other searches do where nobody has a price of their own', () => {
    const own = { input_mtok: '1', output_mtok: '1', web_searches_kcount: '7' };
    const prices = parseOwnPrices(JSON.stringify({ prices: [{ price: own }] }));
    const context = { requestedModel: null, format: 'openai-responses', at: NOW } as const;
    const charges = { web_search_previews: 2 };
    const reading = { model: 'gpt-4o', inputTokens: 0, outputTokens: 0, charges };
    expect(priceReading(reading, context, prices)).toMatchObject({ costMicrodollars: 14_000 });
    expect(withToolPrices('x-ai', 'grok-4', {})).toMatchObject({ web_search_previews_kcount: '5' });
    expect(withToolPrices('perplexity', 'sonar', {})).toMatchObject({
      web_search_previews_kcount: '0',
    });
    expect(withToolPrices('google', 'gemini-2.5-pro', {}).web_search_previews_kcount).toBe(
      undefined,
    );
  });
});
