import { Registry } from 'prom-client';
import { cached, withTimeLimit } from '../cached.js';
import { getProcessRegistry } from '../httpMetrics.js';
import type { ServerPlugin } from '../plugins.js';
import { createDatabaseProbe } from '../readiness.js';

const PENDING_TTL_MS = 2_000;
const PENDING_LIMIT_MS = 1_000;

/** `/healthz`, `/readyz`, `/metrics`: no key, nothing personal. */
export const healthRoutes: ServerPlugin = (app, services) => {
  const { ledger, limits } = services;
  const probe = createDatabaseProbe(ledger, limits.readinessTimeoutMs);
  const config = { isProbe: true };

  app.get('/healthz', { config }, async () => ({ status: 'ok' }));

  app.get('/readyz', { config }, async (_request, reply) => {
    const state = services.isShuttingDown() ? null : await probe();
    if (state?.isReachable) return { status: 'ready' };
    reply.code(503);
    const reason = state === null ? 'the server is shutting down' : state.reason;
    return {
      status: 'unavailable',
      error: {
        code: 'unavailable',
        message: `not ready: ${reason}`,
        details: { reason, retryable: true },
      },
    };
  });

  const refreshPending = cached(async () => {
    const status = await ledger.getPendingStatus();
    ledger.metrics.pendingDepth.set(status.depth);
    ledger.metrics.pendingAge.set(status.oldestAgeMs / 1_000);
  }, PENDING_TTL_MS);

  app.get('/metrics', { config }, async (request, reply) => {
    // Without the database the gauges keep their last value; the scrape goes on.
    await withTimeLimit(refreshPending(), PENDING_LIMIT_MS, 'pending status took too long').catch(
      (error) => request.log.warn({ err: error }, 'pending gauges are stale'),
    );
    ledger.metrics.poolWaiting.set(ledger.pool.waitingCount);
    const registry = Registry.merge([
      ledger.metrics.registry,
      services.registry,
      getProcessRegistry(),
    ]);
    reply.header('content-type', registry.contentType);
    return registry.metrics();
  });
};
