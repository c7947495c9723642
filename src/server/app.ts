import type { AddressInfo, Socket } from 'node:net';
import {
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
  fastify,
  LogController,
} from 'fastify';
import { Registry } from 'prom-client';
import type { Scope } from '../accounts/scopes.js';
import { Bodies } from '../gateway/proxy/bodies.js';
import { toJsonText } from '../money.js';
import { actorOf, checkScope, createAuthenticator, readToken } from './auth.js';
import { trackConnections } from './connections.js';
import { type AnswerInShape, sendInShape } from './errorShapes.js';
import { retryAfterSeconds, toHttpFailure } from './errors.js';
import { addHttpMetrics } from './httpMetrics.js';
import { addJsonParser } from './jsonParser.js';
import { addAccessLog, createLogger } from './log.js';
import { createOperations } from './operations/operations.js';
import { DEFAULT_LIMITS, type ServerLimits, type ServerOptions } from './options.js';
import type { ServerServices } from './plugins.js';
import { readMetrics } from './readMetrics.js';
import { addRequestGuard, makeRequestId } from './requestGuard.js';
import { addRequestSpans } from './requestSpans.js';
import { accountRoutes } from './routes/accounts.js';
import { alertRoutes } from './routes/alerts.js';
import { budgetRoutes } from './routes/budgets.js';
import { healthRoutes } from './routes/health.js';
import { holdRoutes } from './routes/holds.js';
import { membershipRoutes } from './routes/memberships.js';
import { referenceRoutes } from './routes/reference.js';
import { reportRoutes } from './routes/reports.js';
import { usageRoutes } from './routes/usage.js';
import { webhookRoutes } from './routes/webhooks.js';
import { createStatus } from './status.js';
import { authenticateOnce } from './trpc/context.js';
import { trpcRoutes } from './trpc/routes.js';
import { addUnmatchedHandler } from './unmatched.js';

export interface Server {
  app: FastifyInstance;
  /** @returns the URL. @throws the system's error (EADDRINUSE, EACCES, ...) */
  listen(): Promise<string>;
  /** Stops accepting, lets requests in flight finish within the limit. The ledger stays open. */
  close(): Promise<void>;
  /** Every metric of the service as it stands now, as `/metrics` shows it. */
  readMetrics(): Registry;
}

/** For what was written last to leave. */
const LAST_BYTES_MS = 100;

/** The ledger over HTTP. */
export function createServer(options: ServerOptions): Server {
  const limits = { ...DEFAULT_LIMITS, ...options.limits };
  const host = options.host ?? '127.0.0.1';
  const port = options.port ?? 8787;
  let isShuttingDown = false;
  let closing: Promise<void> | null = null;

  const shapes: AnswerInShape[] = [];
  const beforeClose: (() => Promise<void>)[] = [];
  const app = createApp(options, limits, shapes);
  const connections = trackConnections(app.server, limits.connections);
  const authenticate = createAuthenticator(options.ledger, options.adminKey);
  const operations = createOperations(options.ledger);
  app.addHook('onClose', () => operations.close());
  const registry = new Registry();
  const readAllMetrics = () =>
    readMetrics(options.ledger, [registry, ...(options.registries ?? [])]);
  const bodies = new Bodies(limits.bodiesInFlightBytes);
  const services: ServerServices = {
    ledger: options.ledger,
    limits,
    bodies,
    registry,
    readMetrics: readAllMetrics,
    isShuttingDown: () => isShuttingDown,
    requireScope:
      (scope: Scope, { apiKeyHeader = false } = {}) =>
      async (request) => {
        request.principal = await authenticate(readToken(request.headers, apiKeyHeader));
        checkScope(request.principal, scope);
      },
    beforeClose: (work) => void beforeClose.push(work),
    addErrorShape: (shape) => void shapes.push(shape),
  };

  app.decorateRequest('principal', null);
  app.setReplySerializer(toJsonText);
  app.decorateRequest('routeLabel', null);
  addRequestSpans(app, options.ledger.tracing, options.continuesTraces ?? true);
  addAccessLog(app);
  addHttpMetrics(app, services.registry);
  const uploads = addRequestGuard(app, limits, services.isShuttingDown);
  app.removeContentTypeParser(['application/json', 'text/plain']);
  // Once it is known whose it is.
  app.addHook('preParsing', async (request, reply) => {
    bodies.open(request, reply, request.principal === null ? '' : actorOf(request.principal));
  });
  addJsonParser(app, { maxDepth: limits.jsonDepth, bodies }, ['application/json']);
  addUnmatchedHandler(app, shapes);
  for (const plugin of [
    healthRoutes,
    usageRoutes,
    reportRoutes,
    accountRoutes,
    membershipRoutes,
    budgetRoutes,
    holdRoutes,
    referenceRoutes,
    alertRoutes,
    webhookRoutes,
    ...(options.plugins ?? []),
  ]) {
    app.register(async (scope) => plugin(scope, services));
  }
  const trpc = trpcRoutes({
    ledger: options.ledger,
    limits,
    bodies,
    principalOf: authenticateOnce(authenticate),
    operations,
    tiersUsd: options.tiersUsd ?? [],
    readStatus: createStatus(options, limits.readinessTimeoutMs, services.isShuttingDown),
  });
  app.register(trpc, { prefix: '/api/trpc' });

  async function close(): Promise<void> {
    isShuttingDown = true;
    const startedAt = performance.now();
    await Promise.all(beforeClose.map((work) => work()));
    const leftMs = limits.shutdownTimeoutMs - (performance.now() - startedAt);
    const timer = setTimeout(
      () => {
        app.log.warn('requests in flight took too long; their connections are cut');
        app.server.closeAllConnections();
      },
      Math.max(leftMs, LAST_BYTES_MS),
    );
    // What is on its way here still gets its answer, that we are stopping.
    const unused = setTimeout(() => {
      uploads.refuse();
      connections.closeUnused();
    }, LAST_BYTES_MS);
    try {
      await app.close();
    } finally {
      clearTimeout(timer);
      clearTimeout(unused);
    }
  }

  return {
    app,
    readMetrics: readAllMetrics,
    listen: () => listen(app, host, port),
    close() {
      closing ??= close();
      return closing;
    },
  };
}

function createApp(
  options: ServerOptions,
  limits: ServerLimits,
  shapes: readonly AnswerInShape[],
): FastifyInstance {
  const app = fastify({
    loggerInstance: createLogger(options.logLevel ?? 'info', options.logStream),
    // addAccessLog writes one line per request.
    logController: new LogController({ disableRequestLogging: true }),
    genReqId: makeRequestId,
    bodyLimit: limits.bodyBytes,
    // Of a start on a busy machine; the default of 10 s ends it.
    pluginTimeout: 60_000,
    // A tRPC batch names all its procedures in one path segment.
    routerOptions: { maxParamLength: 4_000 },
    requestTimeout: limits.requestTimeoutMs,
    keepAliveTimeout: limits.keepAliveTimeoutMs,
    http: {
      headersTimeout: limits.headersTimeoutMs,
      connectionsCheckingInterval: 2_000,
      // An answer may take half an hour to begin: what forwards forgets a silent connection before, and a
      // client that is gone without a word would keep its place for as long.
      keepAlive: true,
      keepAliveInitialDelay: 60_000,
    },
    // Shutdown answers in our own shape (requestGuard.ts).
    return503OnClosing: false,
    clientErrorHandler: answerClientError,
    frameworkErrors: (error, request, reply) => {
      const failure = toHttpFailure(error, limits.bodyBytes);
      sendInShape(shapes, request as FastifyRequest, reply as FastifyReply, failure);
    },
  });
  app.server.maxConnections = limits.connections;
  app.setErrorHandler((error, request, reply) => {
    const { status, body } = toHttpFailure(error, request.routeOptions.bodyLimit);
    if (status >= 500) request.log.error({ err: error }, 'request failed');
    const seconds = retryAfterSeconds(error);
    if (seconds !== null) reply.header('retry-after', String(seconds));
    return reply.code(status).send(body);
  });
  return app;
}

/** What is not HTTP, or comes too slowly: answered on the socket, for there is no request. */
function answerClientError(error: NodeJS.ErrnoException, socket: Socket): void {
  if (error.code === 'ECONNRESET' || socket.destroyed || !socket.writable) {
    socket.destroy();
    return;
  }
  const [status, message] =
    error.code === 'ERR_HTTP_REQUEST_TIMEOUT'
      ? ['408 Request Timeout', 'the request took too long to arrive']
      : error.code === 'HPE_HEADER_OVERFLOW'
        ? ['431 Request Header Fields Too Large', 'the headers are too large']
        : ['400 Bad Request', 'this is not a valid HTTP request'];
  // Before any path is known: in a shape that the clients of every API here can read.
  const type = 'invalid_request_error';
  const problem = { code: 'invalid_request', message, type, param: null };
  const body = JSON.stringify({ type: 'error', error: problem });
  socket.end(
    `HTTP/1.1 ${status}\r\nContent-Type: application/json\r\nConnection: close\r\n` +
      `Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
  );
}

async function listen(app: FastifyInstance, host: string, port: number): Promise<string> {
  await app.listen({ host, port, listenTextResolver: (address) => `listening on ${address}` });
  const address = app.server.address() as AddressInfo;
  return `http://${host.includes(':') ? `[${host}]` : host}:${address.port}`;
}
