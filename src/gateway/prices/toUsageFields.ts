import type { UsageEvent, UsageMetadata } from '../../record/types.js';
import {
  type EstimatedUsage,
  estimateUsage,
  type PreparedRequest,
  type UsageReading,
} from '../processUsage/index.js';
import type { Price, Pricer, Unpriced } from './pricer.js';

/** Fields of a usage event that follow from the answer. */
export interface UsageFields {
  event: Pick<
    UsageEvent,
    | 'cost'
    | 'input_tokens'
    | 'output_tokens'
    | 'cache_write_tokens'
    | 'cache_hit_tokens'
    | 'provider'
    | 'model'
    | 'requested_model'
    | 'inference_provider'
    | 'has_error'
  >;
  metadata: UsageMetadata;
}

export interface UsageContext {
  prepared: Omit<PreparedRequest, 'body' | 'hideUsageChunk'>;
  /** Null: there was no answer to read. */
  reading: UsageReading | null;
  /** Of the provider; null when it sent none, or is not known. */
  statusCode: number | null;
  /** The exchange broke off: the provider died, or was not waited for. */
  isBroken: boolean;
  organizationId: string | null;
  /** When the request came; its prices are of that time. */
  at: Date;
  /** `openai`, `anthropic`, ... */
  provider: string;
  upstreamHost: string | null;
}

const INT4_MAX = 2_147_483_647;

/**
 * What is recorded of an exchange. Refused by the provider: no cost. Answered in part, or without
 * usage: an estimate that says so. No price: cost 0 and `unpriced`. Of an organization's request no
 * prompt text is kept.
 */
export function toUsageFields(pricer: Pricer, context: UsageContext): UsageFields {
  const { prepared, reading, statusCode, organizationId, at, upstreamHost } = context;
  const hasError = context.isBroken || (statusCode ?? 200) >= 400 || reading?.error != null;
  const billed = reading !== null && isBilled(reading, statusCode) ? reading : null;
  const estimate = billed && estimateUsage(prepared, billed);
  const { format, requestedModel } = prepared;
  const price =
    estimate &&
    pricer.price(estimate.reading, { requestedModel, format, upstreamHost, organizationId, at });
  return {
    event: {
      cost: price === null || 'unpriced' in price ? 0 : price.costMicrodollars,
      input_tokens: estimate?.reading.inputTokens ?? 0,
      output_tokens: estimate?.reading.outputTokens ?? 0,
      cache_write_tokens: estimate?.reading.cacheWriteTokens ?? 0,
      cache_hit_tokens: estimate?.reading.cacheHitTokens ?? 0,
      provider: context.provider,
      model: cut(reading?.model ?? requestedModel, 512),
      requested_model: requestedModel,
      inference_provider: cut(reading?.inferenceProvider ?? null, 512),
      has_error: hasError,
    },
    metadata: {
      ...toMetadata(prepared, reading, organizationId),
      ...toPriceMetadata(estimate, price),
    },
  };
}

/** A refusal costs nothing; nor does an error before anything was generated. */
function isBilled(reading: UsageReading, statusCode: number | null): boolean {
  if (reading.usage !== 'missing') return true;
  if ((statusCode ?? 200) >= 400) return false;
  return reading.error === null || reading.outputBytes > 0;
}

function toMetadata(
  prepared: UsageContext['prepared'],
  reading: UsageReading | null,
  organizationId: string | null,
): UsageMetadata {
  const keepsText = organizationId === null;
  return {
    message_id: cut(reading?.messageId ?? null, 1024),
    finish_reason: cut(reading?.finishReason ?? reading?.error ?? null, 512),
    reasoning_tokens: atMost(reading?.reasoningTokens ?? null, INT4_MAX),
    is_byok: reading?.isByok ?? null,
    max_tokens: atMost(prepared.maxTokens, INT4_MAX),
    has_tools: prepared.hasTools,
    streamed: prepared.streamed,
    system_prompt_length: atMost(prepared.systemPromptLength, INT4_MAX),
    user_prompt_prefix: keepsText ? prepared.userPromptPrefix : null,
    system_prompt_prefix: keepsText ? prepared.systemPromptPrefix : null,
  };
}

function toPriceMetadata(
  estimate: EstimatedUsage | null,
  price: Price | Unpriced | null,
): UsageMetadata {
  const estimated = { estimated: estimate?.estimated ?? null };
  if (price === null) return estimated;
  if ('unpriced' in price) return { ...estimated, unpriced: true };
  return {
    ...estimated,
    price_source: price.source,
    price_version: price.version,
    market_cost: price.marketCostMicrodollars,
  };
}

function cut(text: string | null, maxLength: number): string | null {
  return text === null ? null : text.slice(0, maxLength);
}

function atMost(count: number | null, max: number): number | null {
  return count === null ? null : Math.min(count, max);
}
