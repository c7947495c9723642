import { Registry } from 'prom-client';
import type { Ledger } from '../ledgerTypes.js';
import { getProcessRegistry } from './httpMetrics.js';

/** Every metric of the service as it stands now: what `/metrics` shows, and what is sent elsewhere. */
export function readMetrics(ledger: Ledger, own: readonly Registry[]): Registry {
  const { depth, oldestAgeMs } = ledger.backlog;
  ledger.metrics.pendingDepth.set(depth);
  ledger.metrics.pendingAge.set(oldestAgeMs / 1_000);
  ledger.metrics.poolWaiting.set(ledger.pool.waitingCount);
  return Registry.merge([ledger.metrics.registry, ...own, getProcessRegistry()]);
}
