import type { UsageDetails } from '../../record/types.js';
import { asObject, asText, objectsIn } from '../processUsage/json.js';
import type { OtherModelUsage, TokenCounts } from '../processUsage/types.js';
import type { PriceContext, PricedReading } from './pricer.js';

/**
 * What a price depends on, as it is stored with usage that had none, in `usage_details.price`: the
 * counts of the whole answer, also where its row holds only a difference; modifiers; the host.
 */
const COUNTS = {
  input_tokens: 'inputTokens',
  output_tokens: 'outputTokens',
  cache_write_tokens: 'cacheWriteTokens',
  cache_write_1h_tokens: 'cacheWrite1hTokens',
  cache_hit_tokens: 'cacheHitTokens',
  cache_audio_tokens: 'cacheAudioTokens',
  cache_image_tokens: 'cacheImageTokens',
  input_audio_tokens: 'inputAudioTokens',
  input_image_tokens: 'inputImageTokens',
  output_audio_tokens: 'outputAudioTokens',
  output_image_tokens: 'outputImageTokens',
  reasoning_tokens: 'reasoningTokens',
  citation_tokens: 'citationTokens',
  web_searches: 'webSearches',
  file_searches: 'fileSearches',
} as const satisfies Record<string, keyof PricedReading>;

const TEXTS = {
  service_tier: 'serviceTier',
  speed: 'speed',
  region: 'region',
  search_context: 'searchContext',
} as const satisfies Record<string, keyof PricedReading>;

const OTHER_COUNTS = {
  input_tokens: 'inputTokens',
  output_tokens: 'outputTokens',
  cache_write_tokens: 'cacheWriteTokens',
  cache_write_1h_tokens: 'cacheWrite1hTokens',
  cache_hit_tokens: 'cacheHitTokens',
  cache_audio_tokens: 'cacheAudioTokens',
  cache_image_tokens: 'cacheImageTokens',
  input_audio_tokens: 'inputAudioTokens',
  input_image_tokens: 'inputImageTokens',
  output_audio_tokens: 'outputAudioTokens',
  output_image_tokens: 'outputImageTokens',
} as const satisfies Record<string, keyof TokenCounts>;

/** What a row has room for. More models than that are stored as their sums, by model. */
const MAX_MODELS = 12;
const MAX_CHARGES = 16;
const MAX_NAME_LENGTH = 128;

export interface PriceBasis {
  reading: Omit<PricedReading, 'model'>;
  upstreamHost: string | null;
}

export function toBasis(reading: PricedReading, context: PriceContext): UsageDetails {
  const others = listOthers(reading.otherModels ?? []);
  const charges = Object.entries(reading.charges ?? {}).slice(0, MAX_CHARGES);
  return {
    ...pick(COUNTS, reading),
    ...pick(TEXTS, reading),
    // An estimate: by the second where only seconds have a price.
    ...(reading.usage === 'missing' ? { usage: 'missing' } : {}),
    ...(context.upstreamHost == null ? {} : { host: toName(context.upstreamHost) }),
    ...(others.length === 0 ? {} : { other_models: others }),
    ...(charges.length === 0 ? {} : { charges: Object.fromEntries(charges) }),
  };
}

function listOthers(others: readonly OtherModelUsage[]): object[] {
  const all = others.length <= MAX_MODELS ? others : sumByModel(others);
  return all.slice(0, MAX_MODELS).map(({ model, tool, tokens }) => ({
    model: toName(model),
    ...(tool === undefined ? {} : { tool: toName(tool) }),
    ...pick(OTHER_COUNTS, tokens),
  }));
}

function sumByModel(others: readonly OtherModelUsage[]): OtherModelUsage[] {
  const sums = new Map<string, OtherModelUsage>();
  for (const each of others) {
    const key = `${each.tool ?? ''} ${each.model}`;
    const sum = sums.get(key) ?? { ...each, tokens: { ...NO_TOKENS } };
    for (const part of Object.values(OTHER_COUNTS)) sum.tokens[part] += each.tokens[part];
    sums.set(key, sum);
  }
  return [...sums.values()];
}

const NO_TOKENS = readCounts(OTHER_COUNTS, {});

/** No name that a price is listed by has what this takes out. */
function toName(text: string): string {
  return text.slice(0, MAX_NAME_LENGTH).replace(/[^ -!#-[\]-~]/g, '?');
}

/** Null for a row that has none: it is older, or was not made by the gateway. */
export function fromBasis(usageDetails: unknown): PriceBasis | null {
  const basis = asObject(asObject(usageDetails)?.price);
  if (basis === null) return null;
  const charges = Object.entries(asObject(basis.charges) ?? {}).flatMap(([name, value]) => {
    const count = readCount(value);
    return count === 0 ? [] : [[name, count] as const];
  });
  const others = objectsIn(basis.other_models).map((other) => {
    const tool = asText(other.tool);
    return {
      model: asText(other.model) ?? '',
      ...(tool === null ? {} : { tool }),
      tokens: readCounts(OTHER_COUNTS, other),
    };
  });
  const texts = Object.entries(TEXTS).map(([name, field]) => [field, asText(basis[name])]);
  return {
    reading: {
      ...readCounts(COUNTS, basis),
      ...Object.fromEntries(texts),
      usage: basis.usage === 'missing' ? 'missing' : 'final',
      charges: Object.fromEntries(charges),
      otherModels: others,
    },
    upstreamHost: asText(basis.host),
  };
}

/** Of the fields those that say something, under their stored names. */
function pick<Field extends string>(
  names: Readonly<Record<string, Field>>,
  from: { readonly [Name in Field]?: unknown },
): Record<string, unknown> {
  const entries = Object.entries(names).map(([name, field]) => {
    const value = from[field];
    return [name, typeof value === 'string' ? toName(value) : value] as const;
  });
  return Object.fromEntries(entries.filter(([, value]) => value !== 0 && value != null));
}

function readCounts<Field extends string>(
  names: Readonly<Record<string, Field>>,
  from: Readonly<Record<string, unknown>>,
): Record<Field, number> {
  const entries = Object.entries(names).map(([name, field]) => [field, readCount(from[name])]);
  return Object.fromEntries(entries) as Record<Field, number>;
}

/** Sums of counts are larger than any one that a provider may name. */
function readCount(value: unknown): number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value > 0 ? value : 0;
}
