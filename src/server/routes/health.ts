import type { ServerPlugin } from '../plugins.js';
import { createDatabaseProbe } from '../readiness.js';

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

  app.get('/metrics', { config }, async (_request, reply) => {
    const registry = services.readMetrics();
    reply.header('content-type', registry.contentType);
    return registry.metrics();
  });
};
