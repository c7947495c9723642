import type { FastifyReply, FastifyRequest } from 'fastify';
import { createInFlightLimit } from '../durable/inFlight.js';
import type { GatewayPrincipal } from '../durable/types.js';
import { MAX_MODEL_CHARACTERS, prepareRequest } from '../processUsage/index.js';
import type { Provider } from './apis.js';
import { type Gateway, tooManyRequests } from './gateway.js';
import type { GatewayContext } from './gatewayContext.js';
import { answerModels } from './models.js';
import { passOn } from './pass.js';
import { OwnEnd } from './relayTypes.js';
import type { Target } from './target.js';
import type { Upstream } from './upstreams.js';

/** Of a list of models, or a count of tokens, where none has ended yet. */
const FIRST_GUESS_MS = 1_000;

/** What costs nothing: passed on for every key. */
export class FreeRoutes {
  readonly #context: GatewayContext;
  readonly #gateway: Gateway;
  /** Apart from those that cost: a flood of them would use up the account's rate limits. */
  readonly #places;

  constructor(context: GatewayContext, gateway: Gateway) {
    this.#context = context;
    this.#gateway = gateway;
    this.#places = createInFlightLimit(context.limits.freePerUser, undefined, FIRST_GUESS_MS);
  }

  /** @throws Refusal before the provider is called */
  async handle(
    target: Target,
    provider: Provider,
    request: FastifyRequest,
    reply: FastifyReply,
    ownHeaders: Readonly<Record<string, string>>,
  ): Promise<void> {
    const { kiloUserId, keyId } = request.principal as GatewayPrincipal;
    const caller = { kilo_user_id: kiloUserId ?? keyId, organization_id: null };
    const leave = this.#places.tryAcquire(caller);
    if (leave === null) throw tooManyRequests(this.#places.retryAfterSeconds(caller));
    try {
      await this.#pass(target, provider, request, reply, ownHeaders);
    } finally {
      leave();
    }
  }

  async #pass(
    target: Target,
    provider: Provider,
    request: FastifyRequest,
    reply: FastifyReply,
    ownHeaders: Readonly<Record<string, string>>,
  ): Promise<void> {
    const candidates = this.#context.upstreams.of(provider);
    if (target.endpoint.path === '/v1/models' && candidates.length > 1) {
      const call = { candidates, provider, target, request, reply, ownHeaders };
      await this.#gateway.track(answerModels(call));
      return;
    }
    if (target.endpoint.kind === 'input_tokens') await this.#requireOwn(request);
    const upstream = this.#upstreamOf(target, provider, request);
    const call = { upstream, provider, target, request, reply, ownHeaders };
    const relay = passOn(call, this.#context.limits);
    const cut = () => relay.abort(new OwnEnd('cut', 'the gateway is shutting down'));
    await this.#gateway.track(this.#gateway.withCut(relay.finished, { cut }));
  }

  /** What it counts may be what others made. */
  async #requireOwn({ body, principal }: FastifyRequest): Promise<void> {
    if (!Buffer.isBuffer(body)) return;
    const { owners } = this.#context;
    const { previousResponseId, items } = prepareRequest('openai-responses', body);
    await owners.requireContinuable(previousResponseId, principal as GatewayPrincipal);
    await owners.requireOwnItems(items, principal as GatewayPrincipal);
  }

  #upstreamOf(target: Target, provider: Provider, request: FastifyRequest): Upstream {
    const { upstreams } = this.#context;
    const only = upstreams.of(provider);
    // Nothing to choose: the body need not be read.
    if (only.length === 1 && only[0]?.models === null) {
      only[0].requireConfigured();
      return only[0];
    }
    return upstreams.forModel(provider, target.id ?? readModel(request.body));
  }
}

function readModel(body: unknown): string | null {
  try {
    const { model } = JSON.parse(String(body)) as { model?: unknown };
    return typeof model === 'string' ? model.slice(0, MAX_MODEL_CHARACTERS) : null;
  } catch {
    return null;
  }
}
