import type { UsageEvent } from '../../record/types.js';
import { isErrorStatus } from '../metering/index.js';
import type { GatewayMetrics } from './metrics.js';
import type { RelayOutcome } from './relayTypes.js';
import type { MeteredExchange } from './usageEvent.js';

/** Of `microdollar_gateway_requests_total`. */
export function nameOutcome({ end, statusCode, clientLeft }: RelayOutcome): string {
  if (end === 'unsent' || end === 'abandoned') return end;
  if (end === 'cut') return 'cut_by_shutdown';
  if (end === 'failed') return statusCode === null ? 'unreachable' : 'cut';
  if (statusCode !== null && isErrorStatus(statusCode)) return 'upstream_error';
  return clientLeft ? 'cancelled' : 'complete';
}

/** What was recorded of an exchange. */
export function countUsage(
  metrics: GatewayMetrics,
  { api, arrivedAt, prepared }: MeteredExchange,
  event: UsageEvent,
  outcome: RelayOutcome,
): void {
  const labels = { api: api.kind };
  const { metadata } = event;
  if (event.cost > 0) metrics.cost.inc(labels, event.cost);
  const tokens = {
    input: event.input_tokens,
    output: event.output_tokens,
    cache_write: event.cache_write_tokens,
    cache_hit: event.cache_hit_tokens,
    reasoning: metadata?.reasoning_tokens,
  };
  for (const [kind, count] of Object.entries(tokens)) {
    if (count) metrics.tokens.inc({ ...labels, kind }, count);
  }
  if (metadata?.unpriced) metrics.unpriced.inc(labels);
  if (metadata?.estimated) metrics.estimated.inc(labels);
  if (outcome.clientLeft) metrics.cancelled.inc(labels);
  if (outcome.firstByteAt === null) return;
  metrics.firstByte.observe(
    { ...labels, streamed: String(prepared.streamed) },
    (outcome.firstByteAt - arrivedAt) / 1_000,
  );
}
