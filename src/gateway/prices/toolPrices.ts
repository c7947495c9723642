import type { ModelPrice } from './modelPrice.js';

/**
 * What providers charge for their own tools, USD per thousand calls, where the list of a model does
 * not say; as of November 2026. A session of code is that of a container of 1 GB (20 minutes).
 */
const TOOL_PRICES: Readonly<Record<string, ModelPrice>> = {
  openai: {
    web_searches_kcount: '10',
    storage_searches_kcount: '2.5',
    code_sessions_kcount: '30',
  },
  azure: { storage_searches_kcount: '2.5', code_sessions_kcount: '30' },
  // Code is free for 1,550 hours a month, then paid by the hour, which no answer tells.
  anthropic: { web_searches_kcount: '10', code_executions_kcount: '0' },
  google: { web_searches_kcount: '10' },
  'x-ai': {
    web_searches_kcount: '5',
    x_searches_kcount: '5',
    code_executions_kcount: '5',
    storage_searches_kcount: '2.5',
    attachment_searches_kcount: '10',
    search_sources_kcount: '25',
  },
  // Searches are in the fee for the request, citations are free, but for deep research.
  perplexity: { web_searches_kcount: '0', output_citation_mtok: '0' },
};

/** Models of OpenAI that search before every answer, at a price of their own. */
const SEARCHING = { models: /-search-preview/, prices: { web_searches_kcount: '25' } } as const;

/** A model's prices with those of its provider's tools. */
export function withToolPrices(provider: string, model: string, prices: ModelPrice): ModelPrice {
  const own = SEARCHING.models.test(model) ? SEARCHING.prices : {};
  return { ...TOOL_PRICES[provider], ...prices, ...own };
}
