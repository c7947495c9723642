import type { InFlightLimit, Payer } from './types.js';

export const DEFAULT_MAX_IN_FLIGHT = 64;

/** Weight of the newest duration in the mean. */
const NEWEST = 0.2;
const MAX_RETRY_SECONDS = 60;

interface Places {
  /** When each request began, in order: ms of the clock. */
  startedAt: Set<{ atMs: number }>;
  /** Mean duration of this payer's requests, ms; null = none has ended. */
  meanMs: number | null;
}

export function payerKey({ kilo_user_id, organization_id }: Payer): string {
  return organization_id === null ? `user:${kilo_user_id}` : `organization:${organization_id}`;
}

/**
 * A cap on the requests that a payer has in flight in this process. What it bounds: a request is
 * let through while something is left, so a payer's last requests together may cost more than
 * that, at most (gateway processes) x (cap) x (cost of the dearest request), and with several
 * processes what the others record while a balance is cached (`balanceFreshMs`).
 *
 * @param clock monotonic, ms
 */
export function createInFlightLimit(
  maxPerPayer: number = DEFAULT_MAX_IN_FLIGHT,
  clock: () => number = () => performance.now(),
): InFlightLimit & { inFlight(payer: Payer): number } {
  const payers = new Map<string, Places>();
  /** Of every payer: what a new one is taken to need. */
  let meanMs: number | null = null;
  return {
    tryAcquire(payer) {
      const key = payerKey(payer);
      const places = payers.get(key) ?? { startedAt: new Set(), meanMs: null };
      if (places.startedAt.size >= maxPerPayer) return null;
      payers.set(key, places);
      const place = { atMs: clock() };
      places.startedAt.add(place);
      return () => {
        if (!places.startedAt.delete(place)) return;
        const tookMs = clock() - place.atMs;
        places.meanMs = mix(places.meanMs, tookMs);
        meanMs = mix(meanMs, tookMs);
        if (places.startedAt.size === 0) payers.delete(key);
      };
    },
    inFlight: (payer) => payers.get(payerKey(payer))?.startedAt.size ?? 0,
    retryAfterSeconds(payer) {
      const places = payers.get(payerKey(payer));
      const oldest = places?.startedAt.values().next().value;
      if (places === undefined || oldest === undefined) return 1;
      const ageMs = clock() - oldest.atMs;
      // Nothing has ended yet: at least as long again as the oldest has taken.
      const expectedMs = places.meanMs ?? meanMs ?? 2 * ageMs;
      const untilNextMs = Math.max(expectedMs - ageMs, expectedMs / places.startedAt.size);
      return Math.min(MAX_RETRY_SECONDS, Math.max(1, Math.ceil(untilNextMs / 1_000)));
    },
  };
}

function mix(mean: number | null, newest: number): number {
  return mean === null ? newest : mean + (newest - mean) * NEWEST;
}
