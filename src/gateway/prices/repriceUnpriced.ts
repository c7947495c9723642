import { v5 as uuidv5 } from 'uuid';
import type { UsageEvent } from '../../record/types.js';
import type { WireFormat } from '../processUsage/types.js';
import { toPriceFields } from './priceFields.js';
import type { Pricer, Unpriced } from './pricer.js';

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
  input_tokens: number;
  output_tokens: number;
  cache_write_tokens: number;
  cache_hit_tokens: number;
  reasoning_tokens: number | null;
}

/** Any constant: ids of late prices follow from the ids of what they price. */
const LATE_PRICE_NAMESPACE = '4d0a5b0e-0e0c-4c53-9e43-7a0f8f1c2b9d';

export function latePriceId(usageId: string): string {
  return uuidv5(usageId, LATE_PRICE_NAMESPACE);
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
  const price = pricer.price(
    {
      model: usage.model,
      inputTokens: usage.input_tokens,
      outputTokens: usage.output_tokens,
      cacheWriteTokens: usage.cache_write_tokens,
      cacheHitTokens: usage.cache_hit_tokens,
      reasoningTokens: usage.reasoning_tokens,
    },
    {
      ...context,
      requestedModel: usage.requested_model,
      organizationId: usage.organization_id,
      at: new Date(usage.created_at),
    },
  );
  if ('unpriced' in price) return price;
  return {
    id: latePriceId(usage.id),
    kilo_user_id: usage.kilo_user_id,
    organization_id: usage.organization_id,
    cost: price.costMicrodollars,
    created_at: usage.created_at,
    provider: usage.provider,
    model: usage.model,
    requested_model: usage.requested_model,
    inference_provider: usage.inference_provider,
    project_id: usage.project_id,
    metadata: {
      adjusts_usage_id: usage.id,
      ...toPriceFields(price).metadata,
    },
  };
}
