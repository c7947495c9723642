import type { ModelPrice } from './modelPrice.js';

/**
 * What providers charge for their own tools, USD per thousand calls, where the list of a model does
 * not say; as of November 2026. A session of code is that of a container of 1 GB (20 minutes).
 */
const TOOL_PRICES: Readonly<Record<string, ModelPrice>> = {
  openai: {
    web_searches_kcount: '10',
    web_search_previews_kcount: '10',
    storage_searches_kcount: '2.5',
    code_sessions_kcount: '30',
  },
  azure: { storage_searches_kcount: '2.5', code_sessions_kcount: '30' },
  anthropic: { web_searches_kcount: '10' },
  // Claude on Vertex; Gemini is below.
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

/** Models whose prices the list has in part. */
const OWN_PRICES: readonly { provider?: string; models: RegExp; prices: ModelPrice }[] = [
  // They search before every answer.
  { models: /-search-preview/, prices: { web_searches_kcount: '25' } },
  // By the search; before Gemini 3 by the prompt that was searched for, which nobody counts here.
  { models: /gemini-[3-9]/, prices: { web_searches_kcount: '14' } },
  { models: /gemini/, prices: { web_searches_kcount: undefined } },
  {
    models: /^gpt-4o-audio/,
    prices: { input_audio_mtok: '40', output_audio_mtok: '80' },
  },
  {
    models: /^gpt-4o-mini-audio/,
    prices: { input_audio_mtok: '10', output_audio_mtok: '20' },
  },
  // Models that do not reason: what is found costs nothing, the search more.
  {
    provider: 'openai',
    models: /^gpt-4(o|\.1)\b/,
    prices: { web_search_previews_kcount: '25' },
  },
];

/** A model's prices with those of its provider's tools. */
export function withToolPrices(provider: string, model: string, prices: ModelPrice): ModelPrice {
  const own = OWN_PRICES.find(
    ({ provider: only = provider, models }) => only === provider && models.test(model),
  )?.prices;
  return withPreviews({ ...TOOL_PRICES[provider], ...toSeconds(prices), ...prices, ...own });
}

/** Searches by the tool before `web_search` cost what others do where they have no price of their own. */
export function withPreviews(prices: ModelPrice): ModelPrice {
  const { web_searches_kcount: search, web_search_previews_kcount: preview } = prices;
  if (search === undefined || preview !== undefined) return prices;
  return { ...prices, web_search_previews_kcount: search };
}

/** Speech is listed by the hour, and reported by the second. */
function toSeconds(prices: ModelPrice): ModelPrice {
  const hour = prices.input_audio_hours ?? prices.audio_hours;
  if (hour === undefined || typeof hour === 'object' || !(Number(hour) >= 0)) return {};
  return { audio_seconds_kcount: (Number(hour) / 3.6).toFixed(12) };
}
