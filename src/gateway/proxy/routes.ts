import type { IncomingMessage } from 'node:http';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { ServerPlugin } from '../../server/plugins.js';
import { type PriceContext, type Pricer, priceFields } from '../prices/index.js';
import { authenticate, readGatewayKey } from './admission.js';
import type { Provider } from './apis.js';
import { Follower } from './background/follower.js';
import { OwnedRoutes } from './background/ownedRoutes.js';
import { ResponseOwners } from './background/owners.js';
import { Bodies } from './bodies.js';
import { createClientAddressReader } from './clientAddress.js';
import { answerPreflight, createCors, isPreflight, type ReadCors } from './cors.js';
import type { MeteredEndpoint } from './endpoints.js';
import { FreeRoutes } from './freeRoutes.js';
import { Gateway } from './gateway.js';
import type { GatewayContext } from './gatewayContext.js';
import { DEFAULT_GATEWAY_LIMITS } from './limits.js';
import { createGatewayMetrics } from './metrics.js';
import type { GatewayOptions } from './options.js';
import { Refusal, toRefusal } from './refusal.js';
import { Reservations } from './reservations.js';
import { GatewaySpans } from './spans.js';
import { StreamOptionsMemory } from './streamOptions.js';
import { readTarget, type Target } from './target.js';
import { type Upstream, Upstreams } from './upstreams.js';
import type { PriceUsage } from './usageEvent.js';

/** Everything below these is the gateway's; `target.ts` says what of it exists. */
const PATHS = ['/v1/*', '/api/v1/*'];

/** The gateway's routes, in a Fastify instance of their own: bodies stay bytes. */
export function createGatewayRoutes(options: GatewayOptions): ServerPlugin {
  const limits = { ...DEFAULT_GATEWAY_LIMITS, ...options.limits };
  const { upstreams: settings = {}, upstreamEntries = [], onAbort = null } = options;
  const upstreams = new Upstreams(settings, upstreamEntries, limits);
  const readClientAddress = createClientAddressReader(options.trustedProxies ?? []);
  const readCors = createCors(options.corsOrigins ?? []);
  return (app, services) => {
    const { responses, followIntervalMs: intervalMs, holds = null, accounts, pricer } = options;
    const metrics = createGatewayMetrics(services.registry);
    const { tracing } = services.ledger;
    const context: GatewayContext = {
      ...options,
      upstreams,
      limits,
      metrics,
      priceUsage: createPriceUsage(options.pricer),
      readClientAddress,
      streamOptions: new StreamOptionsMemory(),
      owners: new ResponseOwners(responses ?? null),
      follower: null,
      reservations: holds && new Reservations(holds, { pricer, accounts, metrics }),
      onAbort,
      spans: tracing && new GatewaySpans(tracing, options.traces ?? {}),
    };
    if (responses !== undefined) {
      const every = intervalMs === undefined ? {} : { intervalMs };
      context.follower = new Follower(context, responses, app.log, every);
    }
    const bodies = new Bodies(limits.bodiesInFlightBytes);
    const routes = new Routes(context, readCors, bodies);
    keepBytes(app, limits.bodyBytes, bodies);
    services.addErrorShape((request, { status, body }) => {
      if (!isOurs(request.url.split('?', 1)[0] ?? '')) return null;
      const refusal =
        status === 404
          ? routes.refusalOf(request)
          : toRefusal({ statusCode: status, message: body.error.message }, limits.bodyBytes);
      const provider = guessProvider(request);
      return { status: refusal.status, headers: refusal.headers, body: refusal.body(provider) };
    });
    for (const url of PATHS) {
      app.all(url, {
        bodyLimit: limits.bodyBytes,
        onRequest: (request, reply) => routes.onRequest(request, reply),
        errorHandler: (error, request, reply) => routes.refuse(error, request, reply),
        handler: (request, reply) => routes.handle(request, reply),
      });
    }
    services.beforeClose(() => routes.close());
    app.addHook('onClose', async () => {
      await context.follower?.close();
      await upstreams.destroy();
    });
  };
}

class Routes {
  readonly #context: GatewayContext;
  readonly #gateway: Gateway;
  readonly #free: FreeRoutes;
  readonly #owned: OwnedRoutes;
  readonly #readCors: ReadCors;
  readonly #bodies: Bodies;
  readonly #targets = new WeakMap<FastifyRequest, Target>();

  constructor(context: GatewayContext, readCors: ReadCors, bodies: Bodies) {
    this.#context = context;
    this.#bodies = bodies;
    this.#gateway = new Gateway(context);
    this.#free = new FreeRoutes(context, this.#gateway);
    this.#owned = new OwnedRoutes(context, this.#gateway);
    this.#readCors = readCors;
  }

  /** Before the body is read: what the request is for, and whose it is. */
  async onRequest(request: FastifyRequest, reply: FastifyReply): Promise<void> {
    reply.headers(this.#readCors(request));
    if (isPreflight(request) && reply.hasHeader('access-control-allow-origin')) {
      await answerPreflight(request, reply);
      return;
    }
    if (/\bwebsocket\b/i.test(request.headers.upgrade ?? '')) {
      throw new Refusal(
        'upgrade_required',
        'this gateway speaks no WebSocket; send the request as POST over HTTP',
        { headers: { upgrade: 'HTTP/1.1', connection: 'close, upgrade' } },
      );
    }
    const target = readTarget(request.method, request.raw.url ?? '');
    this.#targets.set(request, target);
    request.routeLabel = target.endpoint.path;
    const key = readGatewayKey(request.headers);
    const principal = await authenticate(this.#context.accounts, key);
    request.principal = principal;
    this.#bodies.open(request, reply, principal.kiloUserId ?? principal.keyId);
  }

  async handle(request: FastifyRequest, reply: FastifyReply): Promise<void> {
    const release = this.#bodies.claim(request);
    try {
      await this.#handle(request, reply);
    } finally {
      release();
    }
  }

  async #handle(request: FastifyRequest, reply: FastifyReply): Promise<void> {
    const target = this.#targets.get(request) as Target;
    const { endpoint } = target;
    const ownHeaders = {
      ...this.#readCors(request),
      'x-microdollar-request-id': request.id,
      'x-request-id': request.id,
    };
    if (endpoint.use === 'metered') {
      const metered = target as Target & { endpoint: MeteredEndpoint };
      await this.#gateway.handle(metered, request, reply, ownHeaders);
      return;
    }
    if (endpoint.use === 'owned') {
      await this.#owned.handle(target, request, reply, ownHeaders);
      return;
    }
    await this.#free.handle(target, providerOf(target, request), request, reply, ownHeaders);
  }

  refuse(error: unknown, request: FastifyRequest, reply: FastifyReply): FastifyReply {
    const target = this.#targets.get(request);
    const refusal = toRefusal(error, this.#context.limits.bodyBytes);
    const label = target?.endpoint.kind ?? 'none';
    this.#context.metrics.refused.inc({ api: label, reason: refusal.reason });
    if (refusal.reason === 'internal') request.log.error({ err: error }, 'gateway failed');
    const provider = target === undefined ? guessProvider(request) : providerOf(target, request);
    return reply.code(refusal.status).headers(refusal.headers).send(refusal.body(provider));
  }

  /** Of a path that looks like one of ours and is none. */
  refusalOf(request: Pick<FastifyRequest, 'method' | 'url'>): Refusal {
    try {
      readTarget(request.method, request.url);
    } catch (error) {
      if (error instanceof Refusal) return error;
    }
    return new Refusal('not_found', 'there is nothing at this path');
  }

  close(): Promise<void> {
    return this.#gateway.close();
  }
}

function createPriceUsage(pricer: Pricer): (upstream: Upstream) => PriceUsage {
  return ({ host, reportsCost }) =>
    ({ api, payer, at, requestedModel, reading }) => {
      const context: PriceContext = {
        requestedModel,
        format: api.format,
        upstreamHost: host,
        organizationId: payer.organization_id,
        at,
      };
      const fields = priceFields(pricer, reading, context);
      if (reportsCost) return fields;
      // Kept with the row all the same.
      const { reported_cost } = fields.metadata;
      const own = priceFields(pricer, { ...reading, costUsd: null }, context);
      return { ...own, metadata: { ...own.metadata, reported_cost: reported_cost ?? null } };
    };
}

/** What is read and forwarded is what the client sent. */
function keepBytes(app: FastifyInstance, bodyLimit: number, bodies: Bodies): void {
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('*', (request: FastifyRequest, payload: IncomingMessage) =>
    bodies.read(request, payload, bodyLimit),
  );
}

function providerOf({ endpoint }: Target, request: FastifyRequest): Provider {
  if (endpoint.provider !== 'either') return endpoint.provider;
  return isAnthropicClient(request) ? 'anthropic' : 'openai';
}

/** Whose words a client of an unknown path understands. */
function guessProvider(request: Pick<FastifyRequest, 'url' | 'headers'>): Provider {
  const isMessages = /\/messages(?![\w-])/.test(request.url.split('?', 1)[0] ?? '');
  return isMessages || isAnthropicClient(request) ? 'anthropic' : 'openai';
}

/** They always name the version. */
function isAnthropicClient({ headers }: Pick<FastifyRequest, 'headers'>): boolean {
  return headers['anthropic-version'] !== undefined;
}

/** Also `/chat/completions`, from a base URL that lacks `/v1`. */
function isOurs(pathname: string): boolean {
  if (/^\/+(api\/+)?v1(\/|$)/i.test(pathname)) return true;
  return /^\/(chat\/completions|completions|responses|messages|embeddings|models)(\/|$)/.test(
    pathname,
  );
}
