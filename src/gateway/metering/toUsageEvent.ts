import type { UsageDetails, UsageEvent, UsageMetadata } from '../../record/types.js';
import type { PricedReading, PriceFields } from '../prices/index.js';
import { chargedUsage, hasError, isUnanswered, NO_ANSWER } from './chargedUsage.js';
import { startOf } from './startOf.js';
import type { CallEnd, MeteredCall } from './types.js';
import { toUsageDetails } from './usageDetails.js';

/** The price of what was used, at the time of the call. */
export type PriceCall = (reading: PricedReading, at: Date) => PriceFields;

/** `metadata.estimated` of a cost that is not all of it, or not sure. */
const INCOMPLETE = 'incomplete';
/** As the ledger takes them: longer text is cut, not refused. */
const MAX_NAME_LENGTH = 512;
const MAX_ID_LENGTH = 1024;

/**
 * The row of a call. Errors of the provider cost nothing; what was not said is estimated and
 * flagged; what has no price is flagged, and costs 0 until it is priced.
 */
export function toUsageEvent(
  call: MeteredCall,
  end: CallEnd,
  priceCall: PriceCall,
  now = new Date(),
): UsageEvent & { id: string } {
  const { request } = call;
  const { reading } = end;
  const start = startOf(call.startedAt, end.elapsedMs, now);
  const charged = chargedUsage(call, end);
  const used = charged?.reading ?? null;
  const price = used === null ? null : priceCall(used, start.at);
  const isReported = price?.metadata.price_source === 'upstream';
  // A cost that the provider reports has its own tools in it.
  const read = (used?.doubts ?? []).filter((doubt) => !isReported || !/^charge:/.test(doubt));
  const doubts = [...read, ...(price?.doubts ?? [])];
  return {
    id: call.id,
    kilo_user_id: call.kiloUserId,
    organization_id: call.organizationId,
    project_id: call.projectId ?? null,
    api_key_id: call.apiKeyId ?? null,
    created_at: start.at.toISOString(),
    cost: price?.cost ?? 0,
    input_tokens: used?.inputTokens ?? 0,
    output_tokens: used?.outputTokens ?? 0,
    cache_write_tokens: used?.cacheWriteTokens ?? 0,
    cache_hit_tokens: used?.cacheHitTokens ?? 0,
    provider: call.provider,
    model: cut(reading?.model ?? request.requestedModel, MAX_NAME_LENGTH),
    requested_model: cut(request.requestedModel, MAX_NAME_LENGTH),
    inference_provider: cut(reading?.inferenceProvider, MAX_NAME_LENGTH),
    has_error: hasError(end),
    metadata: describe(call, end, {
      price,
      estimated:
        charged?.estimated ??
        (isUnanswered(charged, end) ? NO_ANSWER : doubts.length > 0 ? INCOMPLETE : null),
      usageDetails: toUsageDetails({
        doubts,
        statedAt: start.stated,
        basis: price?.basis ?? null,
      }),
    }),
  };
}

interface Charge {
  price: PriceFields | null;
  estimated: string | null;
  usageDetails: UsageDetails | null;
}

/**
 * One literal, not spreads of parts: each request makes one, and an object that is put together of others
 * costs ten times as much. Of the prompt, a person's own alone keeps a few words; an organization's none.
 */
function describe(call: MeteredCall, end: CallEnd, charge: Charge): UsageMetadata {
  const { request } = call;
  const { reading } = end;
  const { price } = charge;
  const isPersonal = call.organizationId === null;
  const metadata: UsageMetadata = {
    api_kind: call.apiKind,
    end_user: request.endUser,
    streamed: end.streamed,
    has_tools: request.hasTools,
    max_tokens: request.maxTokens,
    system_prompt_length: request.systemPromptLength,
    user_prompt_prefix: isPersonal ? request.userPromptPrefix : null,
    system_prompt_prefix: isPersonal ? request.systemPromptPrefix : null,
    status_code: end.statusCode,
    cancelled: end.isCancelled,
    upstream_id: end.upstreamId ?? null,
    message_id: cut(reading?.messageId, MAX_ID_LENGTH),
    finish_reason: cut(reading?.finishReason, MAX_NAME_LENGTH),
    reasoning_tokens: reading?.reasoningTokens ?? null,
    is_byok: reading?.isByok ?? null,
    latency: toMs(end.latencyMs),
    generation_time: toMs(end.generationMs),
    price_source: price?.metadata.price_source ?? null,
    price_version: price?.metadata.price_version ?? null,
    market_cost: price?.metadata.market_cost ?? null,
    reported_cost: price?.metadata.reported_cost ?? null,
    estimated: charge.estimated,
    usage_details: charge.usageDetails,
  };
  if (price !== null && price.cost === null) metadata.unpriced = true;
  return Object.assign(metadata, call.metadata);
}

function cut(text: string | null | undefined, maxLength: number): string | null {
  return text?.slice(0, maxLength) ?? null;
}

/** To the microsecond; the clock says no more. */
function toMs(durationMs: number | null): number | null {
  return durationMs === null ? null : Math.max(0, Math.round(durationMs * 1_000) / 1_000);
}
