import type { FastifyInstance, FastifyRequest } from 'fastify';
import { failSpan, readTraceParent, type Span, SpanKind, type Tracing } from '../tracing.js';

/**
 * A span for each request but probes, by HTTP's semantic conventions. Of the URL only the route's
 * pattern is told: paths and query strings may name persons.
 * @param continuesTraces a caller's `traceparent` is its parent
 */
export function addRequestSpans(
  app: FastifyInstance,
  tracing: Tracing | null,
  continuesTraces: boolean,
): void {
  app.decorateRequest('span', null);
  if (tracing === null) return;
  app.addHook('onRequest', async (request) => {
    if (request.routeOptions.config.isProbe === true) return;
    const { traceparent, tracestate } = request.headers;
    request.span = tracing.start(request.method, {
      kind: SpanKind.SERVER,
      parent: continuesTraces ? readTraceParent(traceparent, tracestate) : null,
      attributes: {
        'http.request.method': request.method,
        'url.scheme': 'http',
        'network.protocol.version': request.raw.httpVersion,
      },
    });
  });
  app.addHook('onResponse', async (request, reply) => {
    const { span } = request;
    if (span === null) return;
    const route = routeOf(request);
    span.updateName(`${request.method} ${route}`);
    span.setAttributes({ 'http.route': route, 'http.response.status_code': reply.statusCode });
    if (reply.statusCode >= 500) failSpan(span, String(reply.statusCode));
    span.end();
  });
}

/** The pattern that was meant, so that the number of names is bounded. */
export function routeOf(request: FastifyRequest): string {
  return request.routeLabel ?? request.routeOptions.url ?? 'unmatched';
}

declare module 'fastify' {
  interface FastifyRequest {
    /** Of the request, until it is answered; null where nobody wants spans. */
    span: Span | null;
  }
}
