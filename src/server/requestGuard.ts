import { randomUUID } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import type { FastifyInstance } from 'fastify';
import { LedgerError } from '../errors.js';

const REQUEST_ID = /^[\w.:-]{1,100}$/;
/** Of a page that says nothing else: an API answer is never rendered, framed or kept. */
const DEFAULT_HEADERS: Readonly<Record<string, string>> = {
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
  'x-frame-options': 'DENY',
  'cross-origin-resource-policy': 'same-origin',
  'content-security-policy': "default-src 'none'; frame-ancestors 'none'",
  'cache-control': 'no-store',
};

/** The caller's id if it is a plain one, so that logs can be joined; else a new one. */
export function makeRequestId(request: IncomingMessage): string {
  const given = request.headers['x-request-id'];
  return typeof given === 'string' && REQUEST_ID.test(given) ? given : randomUUID();
}

/** What holds for every request and answer. */
export function addRequestGuard(app: FastifyInstance, isShuttingDown: () => boolean): void {
  app.addHook('onRequest', async (request, reply) => {
    reply.header('x-request-id', request.id);
    if (isShuttingDown() && request.routeOptions.config.isProbe !== true) {
      // On a kept-alive connection; what came before the shutdown is let finish.
      throw new LedgerError('unavailable', 'the server is shutting down');
    }
    const encoding = request.headers['content-encoding'];
    if (encoding !== undefined && encoding.toLowerCase() !== 'identity') {
      // A small compressed body can become a huge one.
      return reply
        .code(415)
        .header('accept-encoding', 'identity')
        .send({
          error: {
            code: 'invalid_request',
            message: 'content-encoding is not accepted; send the body as it is',
            details: { field: 'content-encoding' },
          },
        });
    }
  });
  app.addHook('onSend', async (_request, reply) => {
    for (const [name, value] of Object.entries(DEFAULT_HEADERS)) {
      if (!reply.hasHeader(name)) reply.header(name, value);
    }
    if (reply.statusCode === 401 && !reply.hasHeader('www-authenticate')) {
      reply.header('www-authenticate', 'Bearer');
    }
    if (reply.statusCode === 503 && !reply.hasHeader('retry-after')) {
      reply.header('retry-after', '1');
    }
    if (isShuttingDown()) reply.header('connection', 'close');
  });
}
