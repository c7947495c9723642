import type { UsageDetails } from '../../record/types.js';
import { asCount, asObject, asText, objectsIn } from '../processUsage/json.js';
import type { TokenCounts } from '../processUsage/types.js';
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
  input_audio_tokens: 'inputAudioTokens',
  input_image_tokens: 'inputImageTokens',
  output_audio_tokens: 'outputAudioTokens',
  output_image_tokens: 'outputImageTokens',
} as const satisfies Record<string, keyof TokenCounts>;

/** More models, or kinds of charges, than one answer has ever had. */
const MAX_LISTED = 32;
const MAX_NAME_LENGTH = 512;

export interface PriceBasis {
  reading: Omit<PricedReading, 'model'>;
  upstreamHost: string | null;
}

export function toBasis(reading: PricedReading, context: PriceContext): UsageDetails {
  const others = (reading.otherModels ?? [])
    .slice(0, MAX_LISTED)
    .map(({ model, tool, tokens }) => ({
      model: model.slice(0, MAX_NAME_LENGTH),
      ...(tool === undefined ? {} : { tool }),
      ...pick(OTHER_COUNTS, tokens),
    }));
  const charges = Object.entries(reading.charges ?? {}).slice(0, MAX_LISTED);
  return {
    ...pick(COUNTS, reading),
    ...pick(TEXTS, reading),
    ...(context.upstreamHost == null ? {} : { host: context.upstreamHost.slice(0, 256) }),
    ...(others.length === 0 ? {} : { other_models: others }),
    ...(charges.length === 0 ? {} : { charges: Object.fromEntries(charges) }),
  };
}

/** Null for a row that has none: it is older, or was not made by the gateway. */
export function fromBasis(usageDetails: unknown): PriceBasis | null {
  const basis = asObject(asObject(usageDetails)?.price);
  if (basis === null) return null;
  const charges = Object.entries(asObject(basis.charges) ?? {}).flatMap(([name, value]) => {
    const count = asCount(value);
    return count === null ? [] : [[name, count] as const];
  });
  const others = objectsIn(basis.other_models).map((other) => {
    const tool = asText(other.tool);
    return {
      model: asText(other.model) ?? '',
      ...(tool === null ? {} : { tool }),
      tokens: readCounts(OTHER_COUNTS, other) as unknown as TokenCounts,
    };
  });
  const texts = Object.entries(TEXTS).map(([name, field]) => [field, asText(basis[name])]);
  return {
    reading: {
      ...readCounts(COUNTS, basis),
      ...Object.fromEntries(texts),
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
  const entries = Object.entries(names).map(([name, field]) => [name, from[field]] as const);
  return Object.fromEntries(entries.filter(([, value]) => value !== 0 && value != null));
}

function readCounts<Field extends string>(
  names: Readonly<Record<string, Field>>,
  from: Readonly<Record<string, unknown>>,
): Record<Field, number> {
  const entries = Object.entries(names).map(([name, field]) => [field, asCount(from[name]) ?? 0]);
  return Object.fromEntries(entries) as Record<Field, number>;
}
