import type { InFlightLimit, Payer } from './types.js';

export const DEFAULT_MAX_IN_FLIGHT = 64;

export function payerKey({ kilo_user_id, organization_id }: Payer): string {
  return organization_id === null ? `user:${kilo_user_id}` : `organization:${organization_id}`;
}

/**
 * A cap on the requests that a payer has in flight in this process. What it bounds: a request is
 * let through while something is left, so a payer's last requests together may cost more than
 * that, at most (gateway processes) x (cap) x (cost of the dearest request), and with several
 * processes what the others record while a balance is cached (`balanceFreshMs`).
 */
export function createInFlightLimit(
  maxPerPayer: number = DEFAULT_MAX_IN_FLIGHT,
): InFlightLimit & { inFlight(payer: Payer): number } {
  const counts = new Map<string, number>();
  return {
    tryAcquire(payer) {
      const key = payerKey(payer);
      const count = counts.get(key) ?? 0;
      if (count >= maxPerPayer) return null;
      counts.set(key, count + 1);
      let isReleased = false;
      return () => {
        if (isReleased) return;
        isReleased = true;
        const left = (counts.get(key) ?? 1) - 1;
        if (left === 0) counts.delete(key);
        else counts.set(key, left);
      };
    },
    inFlight: (payer) => counts.get(payerKey(payer)) ?? 0,
  };
}
