import type { ModelPrice } from './modelPrice.js';
import type { Modifier } from './modifiers.js';

/**
 * What providers publish of their tiers, speeds and regions, as of November 2026; the list of
 * prices has only the usual ones. A modifier that is not here is flagged, and the operator's file
 * can name it.
 */
export interface KnownModifier {
  kind: Modifier['kind'];
  values: RegExp;
  /** Providers and models as the list names them. */
  providers: readonly string[];
  models?: RegExp;
  /** As it was asked for: the list has previews and what became of them under one name. */
  names?: RegExp;
  /** The first moment at which it holds. */
  from?: Date;
  /** Of every price of tokens. */
  factor?: string;
  /** In place of the list's, where the provider rounds. */
  prices?: ModelPrice;
}

const TIER = 'service_tier';
/** Priority processing, called Fast mode since July 2026. */
const PRIORITY = /^(priority|fast)$/;

const openAiPriority = (models: RegExp, price: Pick<KnownModifier, 'factor' | 'prices'>) => ({
  kind: TIER as 'service_tier',
  values: PRIORITY,
  providers: ['openai'],
  models,
  ...price,
});

/** The first that fits counts. */
export const KNOWN_MODIFIERS: readonly KnownModifier[] = [
  // OpenAI: openai.com/api-fast-mode; flex and batch are half of the list.
  openAiPriority(/^gpt-4o-mini$/, {
    prices: { input_mtok: '0.25', cache_read_mtok: '0.125', output_mtok: '1' },
  }),
  openAiPriority(/^o4-mini$/, {
    prices: { input_mtok: '2', cache_read_mtok: '0.5', output_mtok: '8' },
  }),
  openAiPriority(/^gpt-4o$/, { factor: '1.7' }),
  openAiPriority(/^(gpt-4\.1|gpt-4\.1-mini|o3|gpt-4o-2024-05-13)$/, { factor: '1.75' }),
  openAiPriority(/^(gpt-5-mini|gpt-5\.1-codex-mini)$/, { factor: '1.8' }),
  openAiPriority(/^gpt-5\.5$/, { factor: '2.5' }),
  openAiPriority(
    /^(gpt-4\.1-nano|gpt-5|gpt-5\.[1-4]|gpt-5\.[1-4]-codex|gpt-5\.4-mini|gpt-5\.6-\w+|gpt-6-\w+)$/,
    { factor: '2' },
  ),
  {
    kind: TIER,
    values: /^(flex|batch)$/,
    providers: ['openai'],
    models: /^gpt-5\.4$/,
    factor: '0.5',
    prices: { cache_read_mtok: { base: '0.13', tiers: [{ start: 271_999, price: '0.25' }] } },
  },
  { kind: TIER, values: /^(flex|batch)$/, providers: ['openai', 'azure'], factor: '0.5' },
  // Gemini API, Vertex, Bedrock, Anthropic.
  { kind: TIER, values: /^(flex|batch)$/, providers: ['google', 'aws'], factor: '0.5' },
  {
    kind: TIER,
    values: PRIORITY,
    providers: ['google'],
    models: /^gemini-[3-9]/,
    factor: '1.8',
  },
  { kind: TIER, values: /^priority$/, providers: ['aws'], factor: '1.75' },
  { kind: TIER, values: /^batch$/, providers: ['anthropic'], factor: '0.5' },
  // Groq's flex tier changes limits, not prices.
  { kind: TIER, values: /^flex$/, providers: ['groq'], factor: '1' },
  {
    kind: 'speed',
    values: /^fast$/,
    providers: ['anthropic'],
    models: /^claude-opus-4-[67]$/,
    factor: '6',
  },
  {
    kind: 'speed',
    values: /^fast$/,
    providers: ['anthropic'],
    models: /^claude-opus-(4-8|5|5-5)$/,
    factor: '2',
  },
  { kind: 'region', values: /^us$/, providers: ['anthropic'], factor: '1.1' },
  // Models released since March 2026.
  {
    kind: 'host',
    values: /\.api\.openai\.com$/,
    providers: ['openai'],
    models: /^gpt-(5\.[4-9]|[6-9])/,
    factor: '1.1',
  },
  { kind: 'host', values: /\.api\.openai\.com$/, providers: ['openai'], factor: '1' },
  // Claude on Vertex, from Sonnet 4.5 and Opus 4.5 on.
  {
    kind: 'host',
    values: /googleapis\.com$/,
    providers: ['google', 'anthropic'],
    models: /^claude-((opus|sonnet|haiku)-(4-[5-9]|[5-9])|fable|mythos)/,
    factor: '1.1',
  },
  // Gemini there, generally available and from 3 on.
  {
    kind: 'host',
    values: /googleapis\.com$/,
    providers: ['google'],
    names: /^gemini-[3-9](?!.*preview)/i,
    from: new Date('2026-07-01'),
    factor: '1.1',
  },
  { kind: 'host', values: /googleapis\.com$/, providers: ['google', 'anthropic'], factor: '1' },
  // Perplexity's fee for a request grows with what it reads; its tokens cost the same.
  ...requestFees('sonar', { low: '5', medium: '8', high: '12' }),
  ...requestFees('sonar-pro', { low: '6', medium: '10', high: '14' }),
  ...requestFees('sonar-reasoning', { low: '5', medium: '8', high: '12' }),
  ...requestFees('sonar-reasoning-pro', { low: '6', medium: '10', high: '14' }),
  { kind: 'search_context', values: /^(low|medium|high)$/, providers: ['perplexity'], factor: '1' },
];

function requestFees(model: string, fees: Record<string, string>): KnownModifier[] {
  return Object.entries(fees).map(([value, fee]) => ({
    kind: 'search_context',
    values: new RegExp(`^${value}$`),
    providers: ['perplexity'],
    models: new RegExp(`^${model}$`),
    prices: { requests_kcount: fee },
  }));
}
