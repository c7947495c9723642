import { Registry } from 'prom-client';
import type { Ledger } from '../ledgerTypes.js';
import { isReached } from '../shards/parts.js';
import { getProcessRegistry } from './httpMetrics.js';

/** Every metric of the service as it stands now: what `/metrics` shows, and what is sent elsewhere. */
export function readMetrics(ledger: Ledger, own: readonly Registry[]): Registry {
  for (const { ledger: part } of ledger.parts) {
    if (!isReached(part)) continue;
    const { depth, oldestAgeMs } = part.backlog;
    part.metrics.pendingDepth.set(depth);
    part.metrics.pendingAge.set(oldestAgeMs / 1_000);
    part.metrics.poolWaiting.set(part.pool.waitingCount);
  }
  return Registry.merge([ledger.metrics.registry, ...own, getProcessRegistry()]);
}
