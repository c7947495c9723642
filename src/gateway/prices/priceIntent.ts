import type { WireFormat } from '../processUsage/types.js';
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

const FORMATS: Readonly<Record<string, WireFormat>> = {
  openai_chat: 'openai-chat',
  openai_responses: 'openai-responses',
  anthropic_messages: 'anthropic-messages',
  openai_compact: 'openai-responses',
  openai_completions: 'openai-chat',
  openai_embeddings: 'openai-chat',
  openai_images: 'openai-chat',
  openai_image_edits: 'openai-chat',
  openai_transcriptions: 'openai-chat',
  openai_translations: 'openai-chat',
  openai_speech: 'openai-chat',
  rerank: 'openai-chat',
};

/** `api_kind` as it is stored, to its wire format; null for what is none. */
export function toWireFormat(apiKind: string | null): WireFormat | null {
  return FORMATS[apiKind ?? ''] ?? null;
}

/**
 * Prices a request whose usage was lost with its process: its estimated prompt, and
 * `ASSUMED_OUTPUT_TOKENS` or its limit, whichever is less. Null = no price.
 */
export function priceIntent(
  pricer: Pricer,
  intent: PricedIntent,
  upstreamHost: string | null,
): IntentEstimate | null {
  const format = toWireFormat(intent.api_kind);
  if (format === null) return null;
  const outputTokens = Math.min(intent.max_tokens ?? ASSUMED_OUTPUT_TOKENS, ASSUMED_OUTPUT_TOKENS);
  const price = pricer.price(
    { model: null, inputTokens: intent.input_tokens_estimate, outputTokens },
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
