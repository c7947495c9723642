import type { FastifyBaseLogger, FastifyInstance } from 'fastify';
import { type DestinationStream, pino } from 'pino';
import { logLines } from '../logLines.js';
import type { LogLevel } from './options.js';

const SECRETS = ['authorization', 'cookie', '["x-api-key"]', '["set-cookie"]'];

/** JSON lines on stderr. No keys, no bodies, no query strings (an input may name a person). */
export function createLogger(level: LogLevel, stream?: DestinationStream): FastifyBaseLogger {
  const paths = SECRETS.flatMap((name) => {
    const tail = name.startsWith('[') ? name : `.${name}`;
    return [`headers${tail}`, `req.headers${tail}`, `request.headers${tail}`];
  });
  return pino(
    {
      level,
      base: null,
      redact: { paths, censor: '[redacted]' },
      serializers: { err: describeError },
    },
    stream ?? logLines(),
  );
}

/** Chosen fields only: a database error's `detail` quotes the row. */
function describeError(error: unknown): Record<string, unknown> {
  if (!(error instanceof Error)) return { message: String(error) };
  const { code } = error as { code?: unknown };
  return {
    type: error.name,
    message: error.message,
    ...(typeof code === 'string' ? { code } : {}),
    stack: error.stack,
    ...(error.cause === undefined ? {} : { cause: describeError(error.cause) }),
  };
}

/** One line per request, when it is answered; probes and scrapes only at debug. */
export function addAccessLog(app: FastifyInstance): void {
  app.addHook('onResponse', async (request, reply) => {
    const entry = {
      method: request.method,
      path: request.url.split('?', 1)[0],
      status: reply.statusCode,
      durationMs: Math.round(reply.elapsedTime * 10) / 10,
      keyId: request.principal?.keyId,
    };
    const isProbe = request.routeOptions.config.isProbe === true;
    if (reply.statusCode >= 500 && !isProbe) request.log.error(entry, 'request failed');
    else if (isProbe) request.log.debug(entry, 'probe');
    else request.log.info(entry, 'request');
  });
}

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Called often by machines: logged at debug. */
    isProbe?: boolean;
  }
}
