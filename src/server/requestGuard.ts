import { randomUUID } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import { setImmediate as turn } from 'node:timers/promises';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { LedgerError } from '../errors.js';
import type { ServerLimits } from './options.js';

const REQUEST_ID = /^[\w.:-]{1,100}$/;
/** Of a page that says nothing else: an API answer is never rendered, framed or kept. */
const DEFAULT_HEADERS: Readonly<Record<string, string>> = {
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
  'x-frame-options': 'DENY',
  'cross-origin-resource-policy': 'same-origin',
  'content-security-policy': "default-src 'none'; frame-ancestors 'none'",
  'cache-control': 'no-store',
};

/** For an answer to be read while the body still comes, which is thrown away. */
const LINGER_MS = 2_000;

/** The caller's id if it is a plain one, so that logs can be joined; else a new one. */
export function makeRequestId(request: IncomingMessage): string {
  const given = request.headers['x-request-id'];
  return typeof given === 'string' && REQUEST_ID.test(given) ? given : randomUUID();
}

/** An error that keeps its status, whatever shape the route gives to it. */
class RefusedRequest extends Error {
  readonly statusCode: number;

  constructor(statusCode: number, message: string) {
    super(message);
    this.name = 'RefusedRequest';
    this.statusCode = statusCode;
  }
}

export interface Uploads {
  /** At a stop: those whose body has not come whole get 503, for nothing of them has begun. */
  refuse(): void;
}

/** What holds for every request and answer. @returns the requests whose bodies are on their way */
export function addRequestGuard(
  app: FastifyInstance,
  limits: Pick<ServerLimits, 'bodySilenceMs'>,
  isShuttingDown: () => boolean,
): Uploads {
  const uploads = new Set<Refuse>();
  app.addHook('onRequest', async (request, reply) => {
    // Sent behind a body that nobody waited for: no answer would reach its reader.
    if (closing.has(request.raw.socket)) return reply.hijack();
    reply.header('x-request-id', request.id);
    if (isShuttingDown() && request.routeOptions.config.isProbe !== true) {
      // On a kept-alive connection; what came before the shutdown is let finish.
      throw new LedgerError('unavailable', 'the server is shutting down');
    }
    const encoding = request.headers['content-encoding'];
    if (encoding !== undefined && encoding.toLowerCase() !== 'identity') {
      // A small compressed body can become a huge one.
      reply.header('accept-encoding', 'identity');
      throw new RefusedRequest(415, 'content-encoding is not accepted; send the body as it is');
    }
    watchUpload(request, reply, limits.bodySilenceMs, uploads);
  });
  app.addHook('onSend', async (request, reply) => {
    if (await isStillComing(request.raw)) closeAfterAnswer(request, reply);
    for (const [name, value] of Object.entries(DEFAULT_HEADERS)) {
      if (!reply.hasHeader(name)) reply.header(name, value);
    }
    if (reply.statusCode === 401 && !reply.hasHeader('www-authenticate')) {
      reply.header('www-authenticate', 'Bearer');
    }
    const isWorthRepeating = reply.getHeader('x-should-retry') !== 'false';
    if (reply.statusCode === 503 && isWorthRepeating && !reply.hasHeader('retry-after')) {
      reply.header('retry-after', '1');
    }
    if (isShuttingDown()) reply.header('connection', 'close');
  });
  return {
    refuse() {
      for (const refuse of uploads) refuse(503, 'the server is shutting down');
    },
  };
}

type Refuse = (status: 408 | 503, message: string) => void;

/**
 * A body may come as slowly as it likes, so long as it comes: a photograph over a thin line takes
 * minutes. Silence is another thing.
 */
function watchUpload(
  request: FastifyRequest,
  reply: FastifyReply,
  limitMs: number,
  uploads: Set<Refuse>,
): void {
  const { raw } = request;
  if (!hasBody(raw)) return;
  const refuse: Refuse = (status, message) => {
    uploads.delete(refuse);
    if (!reply.sent) reply.header('connection', 'close').send(new RefusedRequest(status, message));
  };
  uploads.add(refuse);
  raw.once('close', () => uploads.delete(refuse));
  // Of the socket: every byte that comes starts it anew.
  raw.setTimeout(limitMs, () => {
    // Answered before its body had come, and the answer is not taken.
    if (reply.sent) raw.socket.destroy();
    refuse(408, `nothing more of the body came for ${limitMs} ms; send the request again`);
  });
  raw.once('end', () => {
    uploads.delete(refuse);
    // Where a body that was there was not read, the socket waits for the next request by now, with the
    // server's own limit.
    if (!reply.raw.writableFinished) raw.socket.setTimeout(0);
  });
}

function hasBody({ headers }: IncomingMessage): boolean {
  const { 'content-length': length, 'transfer-encoding': encoding } = headers;
  return encoding !== undefined || (length !== undefined && length !== '0');
}

/** From when it is known that the answer is the last one: it may leave long after. */
const closing = new WeakSet<Socket>();

/** What came with the headers is read by the next turn of the loop. */
async function isStillComing(raw: IncomingMessage): Promise<boolean> {
  if (!hasBody(raw) || raw.complete !== false) return false;
  await turn();
  return !raw.complete;
}

/**
 * Answered while the body still comes. Node would destroy the socket once the answer has left, and the reset
 * that the rest of the body then meets can take the answer from its reader: our side is ended, and the other
 * side is read for a moment.
 */
function closeAfterAnswer({ raw }: FastifyRequest, reply: FastifyReply): void {
  const { socket } = raw;
  closing.add(socket);
  reply.header('connection', 'close');
  socket.destroySoon = () => {
    socket.end();
    const timer = setTimeout(() => socket.destroy(), LINGER_MS);
    socket.once('close', () => clearTimeout(timer));
    raw.once('end', () => socket.destroy()).resume();
  };
}
