import type { IncomingMessage } from 'node:http';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { LedgerError } from '../../errors.js';
import type { Bodies } from '../../gateway/proxy/bodies.js';
import { retryAfterSeconds } from '../errors.js';
import { readText } from '../jsonParser.js';
import type { ServerLimits } from '../options.js';
import { createContextFactory, type TrpcServices } from './context.js';
import { fastifyRequestHandler, TRPCError } from './library.js';
import { appRouter } from './router.js';

const TYPE = 'application/json';

export interface TrpcRouteOptions extends TrpcServices {
  limits: Pick<ServerLimits, 'bodyBytes' | 'trpcBatch'>;
  bodies: Bodies;
}

/**
 * tRPC's procedures. Not by its own plugin: that keeps, of whoever sends it, each byte of a form or of a
 * method without a body. Here a body is JSON, and of a stranger none is read.
 */
export function trpcRoutes({ limits, bodies, ...services }: TrpcRouteOptions) {
  const createContext = createContextFactory(services);

  function answer(request: FastifyRequest, reply: FastifyReply): Promise<void> {
    return fastifyRequestHandler({
      router: appRouter,
      req: request,
      res: reply,
      path: (request.params as { path: string }).path,
      createContext,
      maxBatchSize: limits.trpcBatch,
      maxBodySize: limits.bodyBytes,
      // The adapter answers with a Response, whose status the onSend hook does not see yet.
      responseMeta: ({ errors }) => ({ headers: headersOf(errors) }),
      onError: ({ error, path }) => {
        if (error.code !== 'INTERNAL_SERVER_ERROR' && error.code !== 'SERVICE_UNAVAILABLE') return;
        request.log.error({ err: error, path }, 'tRPC call failed');
      },
    }).catch((error) => {
      // Before any call: of its host it makes a URL.
      throw error instanceof TRPCError ? new LedgerError('invalid_request', error.message) : error;
    });
  }

  return async (app: FastifyInstance): Promise<void> => {
    app.removeContentTypeParser(TYPE);
    // tRPC parses it, when a procedure asks for its input.
    app.addContentTypeParser(TYPE, (request: FastifyRequest, payload: IncomingMessage) =>
      readText(bodies, request, payload),
    );
    app.addHook('onRequest', async (request, reply) => {
      try {
        await services.principalOf(request);
      } catch {
        // Told in tRPC's words by the procedures, each of which asks again.
        request.body = '';
        await answer(request, reply);
        return reply;
      }
    });
    // To HEAD Fastify would give the length of an answer that it cannot measure.
    const options = { exposeHeadRoute: false, url: '/:path', handler: answer };
    app.route({ method: ['GET', 'POST'], ...options });
  };
}

function headersOf(errors: readonly TRPCError[]): Record<string, string> {
  const codes = errors.map((error) => error.code);
  const seconds = errors.flatMap(({ cause }) => retryAfterSeconds(cause) ?? []);
  return {
    ...(seconds.length > 0 ? { 'retry-after': String(Math.max(...seconds)) } : {}),
    ...(codes.includes('UNAUTHORIZED') ? { 'www-authenticate': 'Bearer' } : {}),
    ...(codes.includes('SERVICE_UNAVAILABLE') ? { 'retry-after': '1' } : {}),
  };
}
