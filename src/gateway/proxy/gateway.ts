import type { FastifyReply, FastifyRequest } from 'fastify';
import { createInFlightLimit } from '../durable/inFlight.js';
import type { GatewayPrincipal } from '../durable/types.js';
import { resolvePayer } from './admission.js';
import { Admitter } from './admitter.js';
import type { MeteredEndpoint } from './endpoints.js';
import { type Exchange, openExchange } from './exchange.js';
import type { GatewayContext } from './gatewayContext.js';
import { MeteredRelay, type Places } from './meteredRelay.js';
import { Refusal } from './refusal.js';
import type { Target } from './target.js';

/** What of it can be cut when the time is up. */
export interface Cuttable {
  cut(): void;
}

/** The walk of a metered request; docs/gateway.md draws it. */
export class Gateway {
  readonly #context: GatewayContext;
  readonly #running = new Set<Promise<unknown>>();
  readonly #cuttable = new Set<Cuttable>();
  readonly #admitter: Admitter;
  /** Of answers whose client has left. */
  readonly #drains;
  #isTimeUp = false;

  constructor(context: GatewayContext) {
    this.#context = context;
    this.#admitter = new Admitter(context);
    this.#drains = createInFlightLimit(context.limits.drainsPerPayer);
  }

  /**
   * Checks, makes the intent durable and calls the provider; resolves when the usage is durable
   * and the answer handed over. @throws Refusal, LedgerError before the provider is called
   */
  handle(
    target: Target & { endpoint: MeteredEndpoint },
    request: FastifyRequest,
    reply: FastifyReply,
    ownHeaders: Readonly<Record<string, string>>,
  ): Promise<void> {
    return this.track(this.#handle(target, request, reply, ownHeaders));
  }

  /** Work that a shutdown waits for. */
  track<T>(work: Promise<T>): Promise<T> {
    this.#running.add(work);
    const done = () => this.#running.delete(work);
    work.then(done, done);
    return work;
  }

  /** Until it ends, `cut` is called on it when a shutdown's time is up. */
  async withCut(work: Promise<void>, cuttable: Cuttable): Promise<void> {
    this.#cuttable.add(cuttable);
    if (this.#isTimeUp) cuttable.cut();
    try {
      await work;
    } finally {
      this.#cuttable.delete(cuttable);
    }
  }

  /** Lets what is in flight end as it would, within the limit; what is left is cut and settled. */
  async close(): Promise<void> {
    const timer = setTimeout(() => {
      this.#isTimeUp = true;
      for (const each of this.#cuttable) each.cut();
    }, this.#context.limits.shutdownTimeoutMs);
    while (this.#running.size > 0) await Promise.allSettled([...this.#running]);
    clearTimeout(timer);
  }

  async #handle(
    target: Target & { endpoint: MeteredEndpoint },
    request: FastifyRequest,
    reply: FastifyReply,
    ownHeaders: Readonly<Record<string, string>>,
  ): Promise<void> {
    const { accounts, inFlight, metrics, owners, upstreams, readClientAddress } = this.#context;
    const { endpoint } = target;
    const principal = request.principal as GatewayPrincipal;
    const body = readBody(request);
    const payer = await resolvePayer(accounts, principal, request.headers);
    const leave = inFlight.tryAcquire(payer);
    if (leave === null) throw tooManyRequests(inFlight.retryAfterSeconds(payer));
    metrics.inFlight.inc({ api: endpoint.kind });
    try {
      const call = { endpoint, target, principal, payer, request, reply, body };
      const exchange = await openExchange(call, upstreams, readClientAddress, ownHeaders);
      const { previousResponseId, items } = exchange.prepared;
      await owners.requireContinuable(previousResponseId, principal);
      await owners.requireOwnItems(items, principal);
      if (exchange.isBackground && this.#context.follower === null) throw noBackground();
      if (exchange.prepared.deferred) throw noDeferred();
      await this.#admit(exchange);
      await this.#relay(exchange, { leave, drain: () => this.#drains.tryAcquire(payer) });
    } finally {
      leave();
      metrics.inFlight.dec({ api: endpoint.kind });
    }
  }

  #admit(exchange: Exchange): Promise<void> {
    const { spans } = this.#context;
    const admit = () => this.#admitter.admit(exchange);
    return spans === null ? admit() : spans.admit(exchange, admit);
  }

  async #relay(exchange: Exchange, places: Places): Promise<void> {
    const relay = new MeteredRelay(this.#context, exchange, places);
    await this.withCut(relay.run(), relay);
  }
}

function readBody(request: FastifyRequest): Buffer {
  if (Buffer.isBuffer(request.body) && request.body.length > 0) return request.body;
  throw new Refusal('invalid_request', 'the body is empty; send a JSON object');
}

export function tooManyRequests(retryAfterSeconds: number): Refusal {
  return new Refusal(
    'too_many_requests',
    'as many requests are in flight as may be at once; wait for one to end',
    { retryAfterSeconds },
  );
}

/** It would be billed, and neither metered nor got. */
function noDeferred(): Refusal {
  const message = 'this gateway cannot follow completions that are fetched later; send it without';
  return new Refusal('invalid_request', message, { param: 'deferred' });
}

function noBackground(): Refusal {
  const message = 'this gateway cannot follow responses in the background; send it without';
  return new Refusal('invalid_request', message, { param: 'background' });
}
