import type { UsageEvent, UsageMetadata } from '../../record/types.js';
import type { Payer } from '../durable/types.js';
import type { PriceFields } from '../prices/index.js';
import {
  createUsageReader,
  estimateUsage,
  type PreparedRequest,
  type UsageReading,
} from '../processUsage/index.js';
import type { Api } from './apis.js';
import type { MeteredAnswer } from './metering.js';
import type { RelayOutcome } from './relayTypes.js';

/** `metadata.estimated` where the provider was called and answered nothing: the cost is unknown. */
export const NO_ANSWER = 'no_answer';

type Reading = ReturnType<typeof estimateUsage>['reading'];

/** What a price depends on. */
export interface PriceRequest {
  api: Api;
  payer: Payer;
  at: Date;
  requestedModel: string | null;
  reading: Reading;
}

export type PriceUsage = (request: PriceRequest) => PriceFields;

/** One metered request, when its end is known. */
export interface MeteredExchange {
  id: string;
  api: Api;
  payer: Payer;
  createdAt: Date;
  /** Of `performance.now()`, ms. */
  arrivedAt: number;
  prepared: PreparedRequest;
  /** From the headers. */
  metadata: UsageMetadata;
}

interface Measured {
  reading: Reading;
  estimated: string | null;
}

/** As the ledger takes them: longer text is cut, not refused. */
const MAX_NAME_LENGTH = 512;
const MAX_ID_LENGTH = 1024;

/**
 * The row of an exchange. Errors of the provider cost nothing; what was not said is estimated and
 * flagged; what has no price is flagged, and costs 0 until it is priced.
 */
export function toUsageEvent(
  exchange: MeteredExchange,
  answer: MeteredAnswer | null,
  outcome: RelayOutcome,
  priceUsage: PriceUsage,
): UsageEvent {
  const { id, api, payer, createdAt, prepared } = exchange;
  const reading = answer?.read() ?? null;
  const measured = measure(prepared, reading, outcome);
  const used = measured?.reading ?? null;
  const price = used === null ? null : priceOf(exchange, used, priceUsage);
  return {
    ...payer,
    id,
    created_at: createdAt.toISOString(),
    cost: price?.cost ?? 0,
    input_tokens: used?.inputTokens ?? 0,
    output_tokens: used?.outputTokens ?? 0,
    cache_write_tokens: used?.cacheWriteTokens ?? 0,
    cache_hit_tokens: used?.cacheHitTokens ?? 0,
    provider: api.provider,
    model: cut(reading?.model ?? prepared.requestedModel, MAX_NAME_LENGTH),
    requested_model: cut(prepared.requestedModel, MAX_NAME_LENGTH),
    inference_provider: cut(reading?.inferenceProvider, MAX_NAME_LENGTH),
    has_error: hasError(reading, outcome),
    metadata: {
      ...exchange.metadata,
      ...requestMetadata(exchange),
      ...answerMetadata(exchange, answer, reading, outcome),
      ...price?.metadata,
      ...(price !== null && price.cost === null ? { unpriced: true } : {}),
      estimated: measured?.estimated ?? (isUnanswered(measured, outcome) ? NO_ANSWER : null),
    },
  };
}

/**
 * What is charged. Null: an error of the provider, or nothing came and nobody left: nothing. A
 * client that left before anything came may well have been billed for its prompt.
 */
function measure(
  prepared: PreparedRequest,
  reading: UsageReading | null,
  outcome: RelayOutcome,
): Measured | null {
  const { end, statusCode, clientLeft, sent } = outcome;
  if (statusCode === null) {
    if (!sent || !clientLeft) return null;
    return estimateUsage(prepared, reading ?? readNothing(prepared));
  }
  if (reading === null) return null;
  const isBroken = end === 'failed' || reading.error !== null;
  const isNothing = reading.usage === 'missing' && reading.outputBytes === 0;
  return isBroken && isNothing && !clientLeft ? null : estimateUsage(prepared, reading);
}

function readNothing({ format, streamed }: PreparedRequest): UsageReading {
  return createUsageReader(format, { streamed }).end();
}

/** The provider was called, and whether it charges for it is not known. */
function isUnanswered(measured: Measured | null, { sent, statusCode }: RelayOutcome): boolean {
  return measured === null && sent && (statusCode === null || statusCode < 400);
}

function hasError(reading: UsageReading | null, outcome: RelayOutcome): boolean {
  const { end, statusCode } = outcome;
  return end === 'failed' || (statusCode ?? 0) >= 400 || (reading?.error ?? null) !== null;
}

function priceOf(
  { api, payer, createdAt, prepared }: MeteredExchange,
  reading: Reading,
  priceUsage: PriceUsage,
): PriceFields {
  const { requestedModel } = prepared;
  return priceUsage({ api, payer, at: createdAt, requestedModel, reading });
}

/** Of the prompt, a person's own alone keeps a few words; an organization's none. */
function requestMetadata({ api, payer, prepared }: MeteredExchange): UsageMetadata {
  const isPersonal = payer.organization_id === null;
  return {
    api_kind: api.kind,
    streamed: prepared.streamed,
    has_tools: prepared.hasTools,
    max_tokens: prepared.maxTokens,
    system_prompt_length: prepared.systemPromptLength,
    user_prompt_prefix: isPersonal ? prepared.userPromptPrefix : null,
    system_prompt_prefix: isPersonal ? prepared.systemPromptPrefix : null,
  };
}

function answerMetadata(
  { arrivedAt }: MeteredExchange,
  answer: MeteredAnswer | null,
  reading: UsageReading | null,
  { statusCode, clientLeft, lastByteAt }: RelayOutcome,
): UsageMetadata {
  const firstTokenAt = answer?.firstTokenAt ?? null;
  return {
    status_code: statusCode,
    cancelled: clientLeft,
    upstream_id: answer?.upstreamId ?? null,
    message_id: cut(reading?.messageId, MAX_ID_LENGTH),
    finish_reason: cut(reading?.finishReason, MAX_NAME_LENGTH),
    reasoning_tokens: reading?.reasoningTokens ?? null,
    is_byok: reading?.isByok ?? null,
    latency: firstTokenAt === null ? null : toMs(firstTokenAt - arrivedAt),
    generation_time:
      firstTokenAt === null || lastByteAt === null ? null : toMs(lastByteAt - firstTokenAt),
  };
}

function cut(text: string | null | undefined, maxLength: number): string | null {
  return text?.slice(0, maxLength) ?? null;
}

/** To the microsecond; the clock says no more. */
function toMs(durationMs: number): number {
  return Math.max(0, Math.round(durationMs * 1_000) / 1_000);
}
