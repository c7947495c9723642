import type { FastifyReply, FastifyRequest } from 'fastify';
import { v7 as uuidv7 } from 'uuid';
import { TtlCache } from '../../accounts/ttlCache.js';
import { payerKey } from '../durable/inFlight.js';
import type { GatewayPrincipal, Intent, Payer } from '../durable/types.js';
import { prepareRequest } from '../processUsage/index.js';
import { readGatewayKey, requireBalance, resolvePayer } from './admission.js';
import type { Api } from './apis.js';
import type { ReadClientAddress } from './clientAddress.js';
import { toUpstreamHeaders } from './headers.js';
import type { GatewayLimits } from './limits.js';
import { type MeteredAnswer, openAnswer } from './metering.js';
import type { GatewayMetrics } from './metrics.js';
import type { GatewayOptions } from './options.js';
import { countUsage, nameOutcome } from './outcomes.js';
import { Refusal, toRefusal } from './refusal.js';
import { Relay } from './relay.js';
import type { RelayHooks, RelayOutcome } from './relayTypes.js';
import { sendRefusal } from './replies.js';
import { readRequestMetadata } from './requestMetadata.js';
import { errorCode, toUpstreamRefusal } from './upstreamFailure.js';
import { toUpstreamPath } from './upstreamPath.js';
import type { Upstreams } from './upstreams.js';
import { type MeteredExchange, type PriceUsage, toUsageEvent } from './usageEvent.js';

export interface GatewayContext extends Pick<GatewayOptions, 'sink' | 'accounts' | 'inFlight'> {
  upstreams: Upstreams;
  limits: GatewayLimits;
  metrics: GatewayMetrics;
  priceUsage: PriceUsage;
  readClientAddress: ReadClientAddress;
}

const SOLVENT_TTL_MS = 60_000;
const MAX_SOLVENT = 20_000;

interface Exchange extends MeteredExchange {
  request: FastifyRequest;
  reply: FastifyReply;
  /** On every answer to it. */
  ownHeaders: Readonly<Record<string, string>>;
}

/** The walk of a metered request; docs/gateway.md draws it. */
export class Gateway {
  readonly #context: GatewayContext;
  readonly #relays = new Set<Relay>();
  /** Payers who had a balance when it was last looked at. */
  readonly #solvent = new TtlCache<true>(MAX_SOLVENT);
  #bodiesInFlightBytes = 0;

  constructor(context: GatewayContext) {
    this.#context = context;
  }

  /**
   * Checks, makes the intent durable and calls the provider; resolves when the usage is durable
   * and the answer handed over. @throws Refusal, LedgerError before the provider is called
   */
  async handle(
    api: Api,
    request: FastifyRequest,
    reply: FastifyReply,
    principal: GatewayPrincipal,
  ): Promise<void> {
    const { accounts, inFlight, metrics, upstreams } = this.#context;
    const body = readBody(request);
    const release = this.#reserve(body.length);
    try {
      upstreams.of(api.provider).requireConfigured();
      const payer = await resolvePayer(accounts, principal, request.headers);
      const leave = inFlight.tryAcquire(payer);
      if (leave === null) throw tooManyRequests();
      metrics.inFlight.inc({ api: api.kind });
      try {
        const exchange = this.#open(api, payer, request, reply, body);
        await this.#admit(exchange, principal);
        await this.#relay(exchange);
      } finally {
        leave();
        metrics.inFlight.dec({ api: api.kind });
      }
    } finally {
      release();
    }
  }

  /** Lets answers in flight end within the limit; what is left is cut and settled. */
  async close(): Promise<void> {
    const { upstreams, limits } = this.#context;
    const timer = setTimeout(() => {
      for (const relay of this.#relays) relay.abort(new Error('the gateway is shutting down'));
    }, limits.shutdownTimeoutMs);
    while (this.#relays.size > 0) {
      await Promise.all([...this.#relays].map((relay) => relay.finished));
    }
    clearTimeout(timer);
    await upstreams.destroy();
  }

  #open(
    api: Api,
    payer: Payer,
    request: FastifyRequest,
    reply: FastifyReply,
    body: Buffer,
  ): Exchange {
    const id = uuidv7();
    return {
      id,
      api,
      payer,
      createdAt: new Date(),
      arrivedAt: performance.now(),
      prepared: prepareRequest(api.format, body),
      metadata: readRequestMetadata(request.raw, this.#context.readClientAddress),
      request,
      reply,
      ownHeaders: {
        'x-microdollar-usage-id': id,
        'x-microdollar-request-id': request.id,
        'x-request-id': request.id,
      },
    };
  }

  /**
   * Checks the balance and makes the intent durable. For a payer who had a balance a moment ago
   * both at once, for each is a round trip to the database.
   * @throws Refusal `insufficient_balance`; LedgerError `unavailable`
   */
  async #admit(exchange: Exchange, principal: GatewayPrincipal): Promise<void> {
    const { accounts, sink } = this.#context;
    const key = payerKey(exchange.payer);
    if (this.#solvent.get(key) === undefined) {
      await requireBalance(accounts, exchange.payer);
      this.#solvent.set(key, true, SOLVENT_TTL_MS);
      return this.#begin(exchange, principal);
    }
    const begun = this.#begin(exchange, principal);
    begun.catch(() => {});
    try {
      await requireBalance(accounts, exchange.payer);
    } catch (error) {
      this.#solvent.set(key, true, 0);
      await begun.then(() => sink.abandon(exchange.id)).catch(() => {});
      throw error;
    }
    await begun;
  }

  /** Durable before the provider is called (I9). @throws LedgerError `unavailable` */
  async #begin(exchange: Exchange, principal: GatewayPrincipal): Promise<void> {
    const { id, api, payer, createdAt, prepared } = exchange;
    const intent: Intent = {
      id,
      kilo_user_id: payer.kilo_user_id,
      organization_id: payer.organization_id,
      api_key_id: principal.keyId,
      api_kind: api.kind,
      requested_model: prepared.requestedModel,
      created_at: createdAt.toISOString(),
      input_tokens_estimate: prepared.inputTokensEstimate,
      max_tokens: prepared.maxTokens,
      streamed: prepared.streamed,
    };
    await this.#context.sink.begin(intent);
  }

  async #relay(exchange: Exchange): Promise<void> {
    const { api, prepared, request, reply, arrivedAt } = exchange;
    const { upstreams, limits, metrics } = this.#context;
    reply.hijack();
    const upstream = upstreams.of(api.provider);
    const relay = new Relay(reply.raw, exchange.ownHeaders, this.#hooks(exchange), limits);
    this.#relays.add(relay);
    metrics.admission.observe({ api: api.kind }, (performance.now() - arrivedAt) / 1_000);
    const token = readGatewayKey(request.headers) ?? '';
    relay.start(upstream.pool, {
      path: toUpstreamPath(upstream.pathPrefix, request.raw.url ?? api.path, token),
      method: 'POST',
      headers: toUpstreamHeaders(request.headers, token, upstream.credentials),
      body: prepared.body,
    });
    await relay.finished;
    this.#relays.delete(relay);
  }

  #hooks(exchange: Exchange): RelayHooks {
    const { api, prepared, reply, ownHeaders, request } = exchange;
    let answer: MeteredAnswer | null = null;
    return {
      onHead(statusCode, headers) {
        answer = openAnswer(prepared, statusCode, headers);
        return answer;
      },
      settle: (outcome) => this.#settle(exchange, answer, outcome),
      answerFailure: (outcome, settleError) => {
        const refusal =
          settleError === null
            ? toUpstreamRefusal(outcome.error)
            : toRefusal(settleError, this.#context.limits.bodyBytes);
        request.log.warn(
          { usageId: exchange.id, api: api.kind, reason: refusal.reason },
          'answered for the provider',
        );
        sendRefusal(reply.raw, refusal, api.provider, ownHeaders);
      },
    };
  }

  /** @throws LedgerError `unavailable`: nothing could take the usage */
  async #settle(
    exchange: Exchange,
    answer: MeteredAnswer | null,
    outcome: RelayOutcome,
  ): Promise<void> {
    const { sink, metrics } = this.#context;
    const { id, api, request } = exchange;
    try {
      if (outcome.end === 'unsent') {
        await sink.abandon(id);
      } else {
        const event = toUsageEvent(exchange, answer, outcome, this.#context.priceUsage);
        await sink.settle(event);
        countUsage(metrics, exchange, event, outcome);
      }
      metrics.requests.inc({ api: api.kind, outcome: nameOutcome(outcome) });
    } catch (error) {
      metrics.requests.inc({ api: api.kind, outcome: 'unrecorded' });
      request.log.error({ usageId: id, api: api.kind, err: error }, 'usage is not recorded');
      throw error;
    }
    if (outcome.end === 'complete' && !outcome.clientLeft) return;
    request.log.warn(
      {
        usageId: id,
        api: api.kind,
        outcome: nameOutcome(outcome),
        status: outcome.statusCode,
        cause: errorCode(outcome.error) ?? outcome.error?.name,
      },
      'the exchange did not end as it should',
    );
  }

  /** @throws Refusal `unavailable` */
  #reserve(bytes: number): () => void {
    if (this.#bodiesInFlightBytes + bytes > this.#context.limits.bodiesInFlightBytes) {
      throw new Refusal('unavailable', 'the gateway holds as many requests as it can');
    }
    this.#bodiesInFlightBytes += bytes;
    return () => {
      this.#bodiesInFlightBytes -= bytes;
    };
  }
}

function readBody(request: FastifyRequest): Buffer {
  if (Buffer.isBuffer(request.body) && request.body.length > 0) return request.body;
  throw new Refusal('invalid_request', 'the body is empty; send a JSON object');
}

function tooManyRequests(): Refusal {
  return new Refusal(
    'too_many_requests',
    'this payer has as many requests in flight as it may; wait for one to end',
    { retryAfterSeconds: 1 },
  );
}
