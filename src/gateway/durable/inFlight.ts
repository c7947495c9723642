import type { InFlightLimit, Payer } from './types.js';

export const DEFAULT_MAX_IN_FLIGHT = 64;

/** Of a request, where none has ended yet that would tell: as long as an answer often takes. */
const FIRST_GUESS_MS = 10_000;

/** Weight of the newest duration in the mean. */
const NEWEST = 0.2;
/** What is older than so many means is of another kind than what ended. */
const DISPROVED = 2;
/** What is a minute or more the official clients do not heed. */
const MAX_RETRY_SECONDS = 59;

interface Places {
  /** When each request began, in order: ms of the clock. */
  startedAt: Set<{ atMs: number }>;
  /** Mean duration of this payer's requests, ms; null = none has ended. */
  meanMs: number | null;
  /** When those that were refused were told to come again: ms of the clock. */
  toldAtMs: number[];
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
 * `retryAfterSeconds` is when a place is likely free for the one that asks: the first that is
 * refused is told of the place that ends first, the next of the next one. Told the same, all
 * would come at once, and most be refused again; the official clients try twice.
 *
 * @param clock monotonic, ms
 * @param firstGuessMs how long a request is taken to need before any has ended
 */
export function createInFlightLimit(
  maxPerPayer: number = DEFAULT_MAX_IN_FLIGHT,
  clock: () => number = () => performance.now(),
  firstGuessMs: number = FIRST_GUESS_MS,
): InFlightLimit & { inFlight(payer: Payer): number } {
  const payers = new Map<string, Places>();
  /** Of every payer: what a new one is taken to need. */
  let meanMs: number | null = null;

  /** How much longer a request takes that has taken `ageMs`. */
  function remainingMs(ageMs: number, expectedMs: number | null): number {
    if (expectedMs !== null && ageMs <= DISPROVED * expectedMs) return Math.abs(expectedMs - ageMs);
    return Math.max(firstGuessMs - ageMs, ageMs);
  }

  return {
    tryAcquire(payer) {
      const key = payerKey(payer);
      const places = payers.get(key) ?? { startedAt: new Set(), meanMs: null, toldAtMs: [] };
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
      if (places === undefined) return 1;
      const nowMs = clock();
      const expectedMs = places.meanMs ?? meanMs;
      const untilFreeMs = [...places.startedAt]
        .map(({ atMs }) => remainingMs(nowMs - atMs, expectedMs))
        .sort((one, other) => one - other);
      places.toldAtMs = places.toldAtMs.filter((atMs) => atMs > nowMs);
      // Never beyond the places there are: one client may ask often.
      const before = Math.min(places.toldAtMs.length, untilFreeMs.length - 1);
      const waitMs = Math.max(1_000, untilFreeMs[before] ?? 0);
      if (places.toldAtMs.length < maxPerPayer) places.toldAtMs.push(nowMs + waitMs);
      return Math.min(MAX_RETRY_SECONDS, Math.ceil(waitMs / 1_000));
    },
  };
}

function mix(mean: number | null, newest: number): number {
  return mean === null ? newest : mean + (newest - mean) * NEWEST;
}
