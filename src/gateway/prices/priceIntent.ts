import { KINDS_OF_IMAGES, KINDS_WITHOUT_OUTPUT, toWireFormat } from '../processUsage/apiKinds.js';
import type { Pricer } from './pricer.js';

/** What an intent tells; the shape is that of `durable`. */
export interface PricedIntent {
  api_kind: string;
  requested_model: string | null;
  organization_id: string | null;
  /** ISO 8601. */
  created_at: string;
  input_tokens_estimate: number;
  max_tokens: number | null;
}

export interface IntentEstimate {
  cost: number;
  output_tokens: number;
  price_source: string;
  price_version: string;
}

/** Output tokens that an answer is taken to have had when nothing of it is known. */
export const ASSUMED_OUTPUT_TOKENS = 500;

/** `ASSUMED_OUTPUT_TOKENS`, or the request's limit, whichever is less; of vectors and ranks none. */
export function assumedOutputTokens({
  api_kind,
  max_tokens: limit,
}: Pick<PricedIntent, 'api_kind' | 'max_tokens'>) {
  if (KINDS_WITHOUT_OUTPUT.has(api_kind)) return 0;
  return Math.min(limit ?? ASSUMED_OUTPUT_TOKENS, ASSUMED_OUTPUT_TOKENS);
}

/**
 * Prices a request whose usage was lost with its process: its estimated prompt, and
 * `assumedOutputTokens`. Null = no price.
 */
export function priceIntent(
  pricer: Pricer,
  intent: PricedIntent,
  upstreamHost: string | null,
): IntentEstimate | null {
  const format = toWireFormat(intent.api_kind);
  if (format === null) return null;
  const outputTokens = assumedOutputTokens(intent);
  const outputImageTokens = KINDS_OF_IMAGES.has(intent.api_kind) ? outputTokens : 0;
  const counts = {
    inputTokens: intent.input_tokens_estimate,
    outputTokens,
    outputImageTokens,
  };
  const price = pricer.price(
    { model: null, ...counts, usage: 'missing' },
    {
      requestedModel: intent.requested_model,
      format,
      upstreamHost,
      organizationId: intent.organization_id,
      at: new Date(intent.created_at),
    },
  );
  if ('unpriced' in price) return null;
  return {
    cost: price.costMicrodollars,
    output_tokens: outputTokens,
    price_source: price.source,
    price_version: price.version,
  };
}
