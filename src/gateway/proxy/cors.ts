import type { FastifyReply, FastifyRequest } from 'fastify';

const EXPOSED = [
  'request-id',
  'retry-after',
  'retry-after-ms',
  'x-microdollar-available-microdollars',
  'x-microdollar-budget-id',
  'x-microdollar-output-limit',
  'x-microdollar-request-id',
  'x-microdollar-resets-at',
  'x-microdollar-usage-id',
  'x-request-id',
  'x-should-retry',
].join(', ');
const MAX_AGE_SECONDS = '600';

/** Which pages may call the gateway from a browser. */
export type ReadCors = (request: FastifyRequest) => Readonly<Record<string, string>>;

/**
 * @param origins like `https://app.example.com`; `*` = every one; empty = none, and no header is sent
 * @returns the headers of an answer to that request: none where its origin is not allowed
 */
export function createCors(origins: readonly string[]): ReadCors {
  const allowed = new Set(origins.map((origin) => origin.toLowerCase()));
  return ({ headers }) => {
    const { origin } = headers;
    if (origin === undefined || allowed.size === 0) return {};
    if (!allowed.has('*') && !allowed.has(origin.toLowerCase())) return { vary: 'origin' };
    return {
      'access-control-allow-origin': allowed.has('*') ? '*' : origin,
      'access-control-expose-headers': EXPOSED,
      vary: 'origin',
    };
  };
}

export function isPreflight({ method, headers }: FastifyRequest): boolean {
  return method === 'OPTIONS' && headers['access-control-request-method'] !== undefined;
}

/** A key is no cookie, so that a page must be allowed to send it: every header it names is. */
export function answerPreflight(request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const wanted = request.headers['access-control-request-headers'];
  return reply
    .code(204)
    .headers({
      'access-control-allow-methods': 'GET, POST, DELETE',
      'access-control-allow-headers': typeof wanted === 'string' ? wanted : 'authorization',
      'access-control-max-age': MAX_AGE_SECONDS,
    })
    .send();
}
