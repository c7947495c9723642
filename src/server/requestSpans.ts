import type { ServerResponse } from 'node:http';
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
  app.addHook('onRequest', async (request, reply) => {
    if (request.routeOptions.config.isProbe === true) return;
    const { traceparent, tracestate } = request.headers;
    const span = tracing.start(request.method, {
      kind: SpanKind.SERVER,
      parent: continuesTraces ? readTraceParent(traceparent, tracestate) : null,
      attributes: {
        'http.request.method': request.method,
        'url.scheme': 'http',
        'network.protocol.version': request.raw.httpVersion,
      },
    });
    request.span = span;
    // Also of an answer that is cut, which has no `onResponse`.
    reply.raw.once('close', () => endRequest(span, request, reply.raw));
  });
}

function endRequest(span: Span, request: FastifyRequest, answer: ServerResponse): void {
  const route = routeOf(request);
  span.updateName(`${request.method} ${route}`);
  span.setAttributes({
    'http.route': route,
    'http.response.status_code': answer.statusCode,
    'microdollar.answered': answer.writableFinished,
  });
  if (answer.statusCode >= 500) failSpan(span, String(answer.statusCode));
  span.end();
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
