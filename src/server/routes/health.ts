import type { ServerPlugin } from '../plugins.js';
import { createServiceProbe, type ServiceState } from '../readiness.js';

type ShardState = NonNullable<ServiceState['shards']>[number];

/** `/healthz`, `/readyz`, `/metrics`: no key, nothing personal. */
export const healthRoutes: ServerPlugin = (app, services) => {
  const { ledger, limits } = services;
  const probe = createServiceProbe(ledger, limits.readinessTimeoutMs);
  const config = { isProbe: true };

  app.get('/healthz', { config }, async () => ({ status: 'ok' }));

  app.get('/readyz', { config }, async (_request, reply) => {
    const state = services.isShuttingDown() ? null : await probe();
    // One shard that is away is its payers' alone: the service is ready for all others.
    const shards = state?.shards?.map(describeShard);
    if (state?.database.isReachable) return { status: 'ready', ...(shards ? { shards } : {}) };
    reply.code(503);
    const reason = state === null ? 'the server is shutting down' : state.database.reason;
    return {
      status: 'unavailable',
      error: {
        code: 'unavailable',
        message: `not ready: ${reason}`,
        details: { reason, retryable: true },
      },
    };
  });

  app.get('/metrics', { config }, async (_request, reply) => {
    const registry = services.readMetrics();
    reply.header('content-type', registry.contentType);
    return registry.metrics();
  });
};

function describeShard({ name, database: { isReachable, reason } }: ShardState) {
  return isReachable ? { name, status: 'ready' } : { name, status: 'unavailable', reason };
}
