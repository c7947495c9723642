import type { IncomingHttpHeaders } from 'node:http';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { readGatewayKey } from './admission.js';
import type { Provider } from './apis.js';
import { toUpstreamHeaders } from './headers.js';
import { PassAll } from './holdEnd.js';
import { toRefusal } from './refusal.js';
import { Relay } from './relay.js';
import type { Filter, RelayLimits, RelayOutcome } from './relayTypes.js';
import { sendRefusal } from './replies.js';
import { type Target, toSearch } from './target.js';
import { toUpstreamRefusal } from './upstreamFailure.js';
import type { Upstream } from './upstreams.js';

export interface PassedRequest {
  upstream: Upstream;
  provider: Provider;
  target: Target;
  request: FastifyRequest;
  reply: FastifyReply;
  ownHeaders: Readonly<Record<string, string>>;
}

/** What comes back, for who needs to see it. */
export interface PassedAnswer {
  onHead?(statusCode: number, headers: IncomingHttpHeaders): Filter;
  onEnd?(outcome: RelayOutcome): Promise<void>;
}

/** A request that costs nothing: forwarded as it is, not metered. */
export function passOn(
  { upstream, provider, target, request, reply, ownHeaders }: PassedRequest,
  limits: RelayLimits,
  answer: PassedAnswer = {},
): Relay {
  reply.hijack();
  const token = readGatewayKey(request.headers) ?? '';
  const relay = new Relay(
    reply.raw,
    ownHeaders,
    {
      onHead: (statusCode, headers) => answer.onHead?.(statusCode, headers) ?? new PassAll(),
      onClientLeft: () => 'stop',
      settle: async (outcome) => answer.onEnd?.(outcome),
      answerFailure: ({ error }, settleError) => {
        const refusal = settleError === null ? toUpstreamRefusal(error) : toRefusal(settleError, 0);
        sendRefusal(reply.raw, refusal, provider, ownHeaders);
      },
    },
    limits,
  );
  const body = Buffer.isBuffer(request.body) ? request.body : null;
  relay.start(upstream.pool, {
    path: `${upstream.toPath(target.path)}${toSearch(target.query, token)}`,
    method: target.endpoint.method,
    headers: toUpstreamHeaders(request.headers, token, upstream.ownHeaders),
    ...(body === null ? {} : { body }),
  });
  return relay;
}
