import type { FastifyInstance, FastifyReply, FastifyRequest, RouteShorthandOptions } from 'fastify';
import type { ServerPlugin } from '../../server/plugins.js';
import type { GatewayPrincipal } from '../durable/types.js';
import { type Pricer, priceFields } from '../prices/index.js';
import { authenticate, readGatewayKey } from './admission.js';
import { APIS, MODELS_PATH, type Provider } from './apis.js';
import { createClientAddressReader } from './clientAddress.js';
import { Gateway } from './gateway.js';
import { DEFAULT_GATEWAY_LIMITS } from './limits.js';
import { createGatewayMetrics, type GatewayMetrics } from './metrics.js';
import { relayModels } from './models.js';
import type { GatewayOptions } from './options.js';
import { toRefusal } from './refusal.js';
import { Upstreams } from './upstreams.js';
import type { PriceUsage } from './usageEvent.js';

/** The metered routes, in a Fastify instance of their own: bodies stay bytes. */
export function createGatewayRoutes(options: GatewayOptions): ServerPlugin {
  const limits = { ...DEFAULT_GATEWAY_LIMITS, ...options.limits };
  const upstreams = new Upstreams(options.upstreams ?? {}, limits);
  const readClientAddress = createClientAddressReader(options.trustedProxies ?? []);
  return (app, services) => {
    const metrics = createGatewayMetrics(services.registry);
    const gateway = new Gateway({
      ...options,
      upstreams,
      limits,
      metrics,
      priceUsage: createPriceUsage(options.pricer, upstreams),
      readClientAddress,
    });
    keepBytes(app, limits.bodyBytes);
    const onRequest = async (request: FastifyRequest) => {
      const key = readGatewayKey(request.headers);
      request.principal = await authenticate(options.accounts, key);
    };
    const withErrorsOf = (
      label: string,
      providerOf: (request: FastifyRequest) => Provider,
    ): RouteShorthandOptions => ({
      bodyLimit: limits.bodyBytes,
      onRequest,
      errorHandler: (error, request, reply) =>
        refuse(error, request, reply, metrics, { label, provider: providerOf(request), limits }),
    });
    for (const api of APIS) {
      app.post(
        api.path,
        withErrorsOf(api.kind, () => api.provider),
        (request, reply) =>
          gateway.handle(api, request, reply, request.principal as GatewayPrincipal),
      );
    }
    for (const path of [MODELS_PATH, `${MODELS_PATH}/*`]) {
      app.get(path, withErrorsOf('models', providerOfModels), (request, reply) =>
        relayModels(upstreams.of(providerOfModels(request)), providerOfModels(request), {
          request,
          reply,
          limits,
        }),
      );
    }
    app.addHook('onClose', () => gateway.close());
  };
}

function createPriceUsage(pricer: Pricer, upstreams: Upstreams): PriceUsage {
  return ({ api, payer, at, requestedModel, reading }) =>
    priceFields(pricer, reading, {
      requestedModel,
      format: api.format,
      upstreamHost: upstreams.of(api.provider).host,
      organizationId: payer.organization_id,
      at,
    });
}

/** What is read and forwarded is what the client sent. */
function keepBytes(app: FastifyInstance, bodyLimit: number): void {
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('*', { parseAs: 'buffer', bodyLimit }, (_request, body, done) =>
    done(null, body),
  );
}

/** Both providers have this path; Anthropic's clients always name their version. */
function providerOfModels(request: FastifyRequest): Provider {
  return request.headers['anthropic-version'] === undefined ? 'openai' : 'anthropic';
}

function refuse(
  error: unknown,
  request: FastifyRequest,
  reply: FastifyReply,
  metrics: GatewayMetrics,
  about: { label: string; provider: Provider; limits: { bodyBytes: number } },
) {
  const refusal = toRefusal(error, about.limits.bodyBytes);
  metrics.refused.inc({ api: about.label, reason: refusal.reason });
  if (refusal.reason === 'internal') request.log.error({ err: error }, 'gateway failed');
  return reply.code(refusal.status).headers(refusal.headers).send(refusal.body(about.provider));
}
