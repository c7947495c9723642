import type { RelayLimits } from './relayTypes.js';
import type { UpstreamTimeouts } from './upstreams.js';

export interface GatewayLimits extends RelayLimits, UpstreamTimeouts {
  /** Of a request's body. Default 32 MiB. */
  bodyBytes: number;
  /** Bodies of requests in flight, all together; beyond it new ones get 503. Default 512 MiB. */
  bodiesInFlightBytes: number;
  /** Answers that are read to their end for a payer whose clients have left. Default 64. */
  drainsPerPayer: number;
  /** Requests that cost nothing, at once, of one user. Default 64. */
  freePerUser: number;
  /** At shutdown, for answers in flight to end; then they are cut and settled. Default 20,000 ms. */
  shutdownTimeoutMs: number;
}

export const DEFAULT_GATEWAY_LIMITS: GatewayLimits = {
  bodyBytes: 32 * 1024 * 1024,
  bodiesInFlightBytes: 512 * 1024 * 1024,
  drainsPerPayer: 64,
  freePerUser: 64,
  shutdownTimeoutMs: 20_000,
  /** A client that waits less ends it by leaving: twice what those of a flex tier are told to wait. */
  headersTimeoutMs: 1_800_000,
  connectTimeoutMs: 10_000,
  /** As long as the providers' own clients wait: a model that thinks may be silent for minutes. */
  bodyTimeoutMs: 600_000,
  // As long as the client might have waited: leaving is never cheaper.
  drainTimeoutMs: 1_800_000,
  drainBytes: 64 * 1024 * 1024,
  stallTimeoutMs: 60_000,
};
