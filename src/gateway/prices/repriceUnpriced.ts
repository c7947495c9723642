import { correctionId } from '../../record/corrections.js';
import type { UsageEvent } from '../../record/types.js';
import type { WireFormat } from '../processUsage/types.js';
import { fromBasis } from './priceBasis.js';
import { toPriceFields } from './priceFields.js';
import type { PricedReading, Pricer, Unpriced } from './pricer.js';

/** A usage row that was recorded without a price. Times ISO 8601 UTC to the microsecond. */
export interface UnpricedUsage {
  id: string;
  created_at: string;
  kilo_user_id: string;
  organization_id: string | null;
  provider: string | null;
  model: string | null;
  requested_model: string | null;
  inference_provider: string | null;
  project_id: string | null;
  api_key_id?: string | null;
  input_tokens: number;
  output_tokens: number;
  cache_write_tokens: number;
  cache_hit_tokens: number;
  reasoning_tokens: number | null;
  usage_details?: unknown;
  /** Where the row itself corrects another one: that one. */
  original_id?: string;
  /** Of the next correction. Default 1. */
  next_number?: number;
  /** For the original and its corrections until now, microdollars. Default 0. */
  charged?: number;
}

/** The first correction of a usage row: as a rule its late price. */
export function latePriceId(usageId: string): string {
  return correctionId(usageId, 1);
}

/**
 * The signed usage row that prices one recorded without a price: it names the original and carries
 * its payer and time. Its id follows from the original's, so it is recorded once however often and
 * by whomever it is tried (I3). Its token counts are 0: the original has them.
 */
export function repriceUnpriced(
  pricer: Pricer,
  usage: UnpricedUsage,
  context: { format: WireFormat; upstreamHost: string | null },
): UsageEvent | Unpriced {
  const { original_id: originalId = usage.id, next_number: number = 1, charged = 0 } = usage;
  const basis = fromBasis(usage.usage_details);
  const price = pricer.price(
    { ...readRow(usage), ...basis?.reading },
    {
      format: context.format,
      upstreamHost: basis === null ? context.upstreamHost : basis.upstreamHost,
      requestedModel: usage.requested_model,
      organizationId: usage.organization_id,
      at: new Date(usage.created_at),
    },
  );
  if ('unpriced' in price) return price;
  const { metadata, doubts } = toPriceFields(price);
  return {
    id: correctionId(originalId, number),
    kilo_user_id: usage.kilo_user_id,
    organization_id: usage.organization_id,
    cost: price.costMicrodollars - charged,
    created_at: usage.created_at,
    provider: usage.provider,
    model: usage.model,
    requested_model: usage.requested_model,
    inference_provider: usage.inference_provider,
    project_id: usage.project_id,
    api_key_id: usage.api_key_id ?? null,
    metadata: {
      adjusts_usage_id: originalId,
      correction_number: number,
      ...metadata,
      ...(doubts.length === 0 ? {} : { estimated: 'incomplete', usage_details: { doubts } }),
    },
  };
}

function readRow(usage: UnpricedUsage): PricedReading {
  return {
    model: usage.model,
    // A row without a basis is that of a request whose process died.
    usage: 'missing',
    inputTokens: usage.input_tokens,
    outputTokens: usage.output_tokens,
    cacheWriteTokens: usage.cache_write_tokens,
    cacheHitTokens: usage.cache_hit_tokens,
    reasoningTokens: usage.reasoning_tokens,
  };
}
