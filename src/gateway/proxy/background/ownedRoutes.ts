import type { FastifyReply, FastifyRequest } from 'fastify';
import type { GatewayPrincipal, OpenResponse } from '../../durable/types.js';
import { prepareRequest } from '../../processUsage/index.js';
import type { Gateway } from '../gateway.js';
import type { GatewayContext } from '../gatewayContext.js';
import { type MeteredAnswer, openAnswer } from '../metering.js';
import { type PassedAnswer, passOn } from '../pass.js';
import { Refusal } from '../refusal.js';
import { OwnEnd } from '../relayTypes.js';
import type { Target } from '../target.js';
import type { Upstream } from '../upstreams.js';
import { type Follower, hasEnded } from './follower.js';

interface Owned {
  upstream: Upstream;
  /** Null: it was metered when it was made. */
  response: OpenResponse | null;
}

/** `/v1/responses/{id}`: passed on for the key that made the response, and for no other. */
export class OwnedRoutes {
  readonly #context: GatewayContext;
  readonly #gateway: Gateway;

  constructor(context: GatewayContext, gateway: Gateway) {
    this.#context = context;
    this.#gateway = gateway;
  }

  /** @throws Refusal `not_found`, `conflict`; LedgerError `unavailable` */
  async handle(
    target: Target,
    request: FastifyRequest,
    reply: FastifyReply,
    ownHeaders: Readonly<Record<string, string>>,
  ): Promise<void> {
    const { keyId } = request.principal as GatewayPrincipal;
    const id = target.id ?? '';
    const { upstream, response } = await this.#find(id, keyId);
    const { kind } = target.endpoint;
    const { follower } = this.#context;
    const open = response === null || response.isSettled ? null : response;
    if (kind === 'response_delete' && open !== null && !(await follower?.lookAt(open))) {
      const message = `${id} is not metered yet: delete it when it has ended, or cancel it first`;
      throw new Refusal('conflict', message);
    }
    const isSeen = kind === 'response' || kind === 'response_cancel';
    const answer = isSeen && open !== null && follower !== null ? meter(open, follower) : {};
    const call = { upstream, provider: 'openai' as const, target, request, reply, ownHeaders };
    const relay = passOn(call, this.#context.limits, answer);
    const cut = () => relay.abort(new OwnEnd('cut', 'the gateway is shutting down'));
    await this.#gateway.track(this.#gateway.withCut(relay.finished, { cut }));
  }

  async #find(id: string, keyId: string): Promise<Owned> {
    const { upstreams, owners, follower } = this.#context;
    const response = (await follower?.find(id, keyId)) ?? null;
    const name = response?.upstream ?? owners.upstreamOf(id, keyId);
    const upstream = name === null ? null : upstreams.named('openai', name);
    if (upstream !== null) return { upstream, response };
    throw new Refusal(
      'not_found',
      `this key made no response ${id} that the gateway knows of; it knows those of the last 30 days`,
      { param: 'response_id' },
    );
  }
}

/** Should the client be the first to see that it has ended, it is metered before the client does. */
function meter(response: OpenResponse, follower: Follower): PassedAnswer {
  const prepared = prepareRequest('openai-responses', Buffer.from('{}'));
  let answer: MeteredAnswer | null = null;
  return {
    onHead(statusCode, headers) {
      answer = openAnswer({ prepared, side: null }, statusCode, headers);
      return answer;
    },
    async onEnd() {
      const reading = answer?.read() ?? null;
      if (reading !== null && hasEnded(reading)) await follower.settle(response, reading);
    },
  };
}
