import type { FastifyReply, FastifyRequest } from 'fastify';
import { readGatewayKey } from './admission.js';
import type { Provider } from './apis.js';
import { toUpstreamHeaders } from './headers.js';
import { PassAll } from './holdEnd.js';
import { Relay } from './relay.js';
import type { RelayLimits } from './relayTypes.js';
import { sendRefusal } from './replies.js';
import { toUpstreamRefusal } from './upstreamFailure.js';
import { toUpstreamPath } from './upstreamPath.js';
import type { Upstream } from './upstreams.js';

/** `GET /v1/models`: forwarded for clients that list models first; costs nothing, meters nothing. */
export async function relayModels(
  upstream: Upstream,
  provider: Provider,
  { request, reply, limits }: { request: FastifyRequest; reply: FastifyReply; limits: RelayLimits },
): Promise<void> {
  upstream.requireConfigured();
  reply.hijack();
  const token = readGatewayKey(request.headers) ?? '';
  const ownHeaders = { 'x-microdollar-request-id': request.id, 'x-request-id': request.id };
  const relay = new Relay(
    reply.raw,
    ownHeaders,
    {
      onHead: () => new PassAll(),
      settle: async () => {},
      answerFailure: ({ error }) =>
        sendRefusal(reply.raw, toUpstreamRefusal(error), provider, ownHeaders),
    },
    limits,
  );
  relay.start(upstream.pool, {
    path: toUpstreamPath(upstream.pathPrefix, request.raw.url ?? '', token),
    method: 'GET',
    headers: toUpstreamHeaders(request.headers, token, upstream.credentials),
  });
  await relay.finished;
}
