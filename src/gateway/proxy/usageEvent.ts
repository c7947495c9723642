import type { UsageEvent, UsageMetadata } from '../../record/types.js';
import type { Payer } from '../durable/types.js';
import { toUsageEvent as toEvent } from '../metering/index.js';
import type { PricedReading, PriceFields } from '../prices/index.js';
import type { PreparedRequest } from '../processUsage/index.js';
import type { Api } from './apis.js';
import type { MeteredAnswer } from './metering.js';
import type { RelayOutcome } from './relayTypes.js';

export { NO_ANSWER } from '../metering/index.js';

/** What a price depends on. */
export interface PriceRequest {
  api: Api;
  payer: Payer;
  at: Date;
  requestedModel: string | null;
  reading: PricedReading;
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
  projectId: string | null;
  /** The key that pays; null = the admin key. */
  apiKeyId: string | null;
}

/** The row of an exchange (src/gateway/metering). */
export function toUsageEvent(
  exchange: MeteredExchange,
  answer: MeteredAnswer | null,
  outcome: RelayOutcome,
  priceUsage: PriceUsage,
): UsageEvent {
  const { id, api, payer, prepared, arrivedAt } = exchange;
  const { end, statusCode, clientLeft, sent, lastByteAt } = outcome;
  const firstTokenAt = answer?.firstTokenAt ?? null;
  return toEvent(
    {
      id,
      kiloUserId: payer.kilo_user_id,
      organizationId: payer.organization_id,
      projectId: exchange.projectId,
      apiKeyId: exchange.apiKeyId,
      startedAt: exchange.createdAt,
      format: api.format,
      apiKind: api.kind,
      provider: api.provider,
      request: prepared,
      metadata: exchange.metadata,
    },
    {
      reading: answer?.read() ?? null,
      statusCode,
      wasSent: sent,
      isBroken: end === 'failed',
      isCancelled: clientLeft,
      streamed: prepared.streamed,
      upstreamId: answer?.upstreamId ?? null,
      elapsedMs: performance.now() - arrivedAt,
      latencyMs: firstTokenAt === null ? null : firstTokenAt - arrivedAt,
      generationMs: firstTokenAt === null || lastByteAt === null ? null : lastByteAt - firstTokenAt,
    },
    (reading, at) =>
      priceUsage({ api, payer, at, requestedModel: prepared.requestedModel, reading }),
  );
}
