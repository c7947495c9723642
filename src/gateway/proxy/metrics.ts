import { Counter, Gauge, Histogram, type Registry } from 'prom-client';

/** Seconds. What begin and settle take is measured where they are done (durable/metrics.ts). */
const FIRST_BYTE_BUCKETS = [0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120];
const OVERHEAD_BUCKETS = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 5];

export type GatewayMetrics = ReturnType<typeof createGatewayMetrics>;

export function createGatewayMetrics(registry: Registry) {
  const registers = [registry];
  return {
    requests: new Counter({
      name: 'microdollar_gateway_requests_total',
      help:
        'Metered requests by API and outcome (complete, upstream_error, cut, unreachable, ' +
        'cut_by_shutdown, cut_by_budget, background, cancelled, abandoned, unsent, unrecorded)',
      labelNames: ['api', 'outcome'] as const,
      registers,
    }),
    refused: new Counter({
      name: 'microdollar_gateway_refusals_total',
      help: 'Requests that the gateway refused before calling a provider, by reason',
      labelNames: ['api', 'reason'] as const,
      registers,
    }),
    holds: new Counter({
      name: 'microdollar_gateway_holds_total',
      help:
        'Holds that were asked for before a provider was called: granted, refused, or unheld (the ' +
        'database was away, and the request let through); and streams that outgrew theirs: ' +
        'extended, outgrown (nothing was left)',
      labelNames: ['api', 'outcome'] as const,
      registers,
    }),
    holdOvershoot: new Counter({
      name: 'microdollar_gateway_hold_overshoot_microdollars_total',
      help: 'What requests cost beyond what was held for them, microdollars',
      labelNames: ['api'] as const,
      registers,
    }),
    inFlight: new Gauge({
      name: 'microdollar_gateway_in_flight',
      help: 'Metered requests whose usage is not durable yet',
      labelNames: ['api'] as const,
      registers,
    }),
    tokens: new Counter({
      name: 'microdollar_gateway_tokens_total',
      help: 'Tokens by API and kind (input, output, cache_write, cache_hit, reasoning)',
      labelNames: ['api', 'kind'] as const,
      registers,
    }),
    cost: new Counter({
      name: 'microdollar_gateway_cost_microdollars_total',
      help: 'Cost recorded, microdollars',
      labelNames: ['api'] as const,
      registers,
    }),
    firstByte: new Histogram({
      name: 'microdollar_gateway_first_byte_seconds',
      help: "From the request to the first byte of the provider's answer",
      labelNames: ['api', 'streamed'] as const,
      buckets: FIRST_BYTE_BUCKETS,
      registers,
    }),
    admission: new Histogram({
      name: 'microdollar_gateway_before_upstream_seconds',
      help: 'From the whole request to the call of the provider: checks and the durable intent',
      labelNames: ['api'] as const,
      buckets: OVERHEAD_BUCKETS,
      registers,
    }),
    unpriced: new Counter({
      name: 'microdollar_gateway_unpriced_total',
      help: 'Requests for whose model no price is known',
      labelNames: ['api'] as const,
      registers,
    }),
    estimated: new Counter({
      name: 'microdollar_gateway_estimated_total',
      help: 'Requests whose usage is an estimate',
      labelNames: ['api'] as const,
      registers,
    }),
    cancelled: new Counter({
      name: 'microdollar_gateway_cancelled_total',
      help: 'Requests whose client left before the end of the answer',
      labelNames: ['api'] as const,
      registers,
    }),
  };
}
