import type { FastifyInstance } from 'fastify';
import { collectDefaultMetrics, Histogram, Registry } from 'prom-client';
import { routeOf } from './requestSpans.js';

let processRegistry: Registry | null = null;

/** CPU, memory, event loop, garbage collection; once a process, for it starts observers. */
export function getProcessRegistry(): Registry {
  if (processRegistry === null) {
    processRegistry = new Registry();
    collectDefaultMetrics({ register: processRegistry });
  }
  return processRegistry;
}

/** Latency and count of requests by route pattern, so the number of series is bounded. */
export function addHttpMetrics(app: FastifyInstance, registry: Registry): void {
  const duration = new Histogram({
    name: 'microdollar_http_request_duration_seconds',
    help: 'HTTP requests by method, route and status',
    labelNames: ['method', 'route', 'status'] as const,
    buckets: [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 60],
    registers: [registry],
  });
  app.addHook('onResponse', async (request, reply) => {
    duration.observe(
      {
        method: request.method,
        route: routeOf(request),
        status: String(reply.statusCode),
      },
      reply.elapsedTime / 1_000,
    );
  });
}

declare module 'fastify' {
  interface FastifyRequest {
    /** Of a route that serves several paths: the one that was meant. */
    routeLabel: string | null;
  }
}
