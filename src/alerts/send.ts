import http from 'node:http';
import https from 'node:https';
import { guardedLookup, isPublicAddress, RefusedAddress } from './address.js';
import { retryAfterMs } from './backOff.js';
import { isPrivateLiteral, type UrlRules } from './webhookUrl.js';

export interface SendOptions extends UrlRules {
  /** From the start to the end of the answer. */
  timeoutMs: number;
  /** The process stops. */
  signal?: AbortSignal;
}

/** How a try ended: with a status, or why there is none. */
export interface Sent {
  status: number | null;
  error: string | null;
  /** Until it wants the next one, ms; null: it did not say. */
  retryAfterMs: number | null;
}

/** 2xx; whatever else is a failure. */
export function isSuccess(status: number | null): status is number {
  return status !== null && status >= 200 && status < 300;
}

/** Of the answer; what is in it is not looked at. */
const MAX_ANSWER_BYTES = 64 * 1024;

/**
 * One POST, on a connection of its own. No redirect is followed: a 3xx is an answer like any other. Never
 * throws.
 */
export async function sendWebhook(
  target: string,
  headers: Record<string, string>,
  body: string,
  options: SendOptions,
): Promise<Sent> {
  const url = new URL(target);
  if (!options.allowsPrivate && (url.protocol !== 'https:' || isPrivateLiteral(url))) {
    return unanswered(new RefusedAddress().message);
  }
  const timeout = AbortSignal.timeout(options.timeoutMs);
  const signal = AbortSignal.any([timeout, ...(options.signal ? [options.signal] : [])]);
  try {
    return await post(url, headers, body, options, signal);
  } catch (error) {
    if (options.signal?.aborted) return unanswered('the process stopped');
    if (timeout.aborted) {
      return unanswered(`no answer within ${options.timeoutMs / 1_000} s`);
    }
    return unanswered(describe(error));
  }
}

const unanswered = (error: string): Sent => ({ status: null, error, retryAfterMs: null });

function post(
  url: URL,
  headers: Record<string, string>,
  body: string,
  { lookup, allowsPrivate }: UrlRules,
  signal: AbortSignal,
): Promise<Sent> {
  const { request } = url.protocol === 'https:' ? https : http;
  return new Promise((resolve, reject) => {
    const sending = request(url, {
      method: 'POST',
      agent: false,
      headers: {
        ...headers,
        'content-type': 'application/json',
        'content-length': Buffer.byteLength(body),
        'user-agent': 'microdollar',
      },
      lookup: guardedLookup(lookup, allowsPrivate),
      signal,
    });
    let answer: Sent | null = null;
    // It has answered: what becomes of the rest does not matter, also where that never ends.
    sending.on('error', (error) => (answer === null ? reject(error) : resolve(answer)));
    // Nobody asked for one: there is no other event, not even of the signal, and it would never end.
    sending.on('upgrade', ({ statusCode = 0 }, socket) => {
      socket.destroy();
      resolve({ status: statusCode, error: null, retryAfterMs: null });
    });
    sending.on('socket', (socket) => {
      // The last word: whatever was resolved, this is who is at the other end. TLS has not begun.
      socket.on('connect', () => {
        const { remoteAddress = '' } = socket;
        if (allowsPrivate || isPublicAddress(remoteAddress)) return;
        sending.destroy(new RefusedAddress());
      });
    });
    sending.on('response', (response) => {
      const { statusCode = 0, headers: theirs } = response;
      const asked = retryAfterMs(theirs['retry-after']);
      const answered: Sent = { status: statusCode, error: null, retryAfterMs: asked };
      answer = answered;
      let bytes = 0;
      const end = () => {
        response.destroy();
        resolve(answered);
      };
      response.on('data', (chunk: Buffer) => {
        bytes += chunk.length;
        if (bytes > MAX_ANSWER_BYTES) end();
      });
      response.on('end', end);
      response.on('error', end);
    });
    sending.end(body);
  });
}

/** No stack, no URL with its secrets: the kind of failure, and its code. */
function describe(error: unknown): string {
  if (error instanceof RefusedAddress) return error.message;
  const { code, errors } = (error ?? {}) as { code?: string; errors?: unknown[] };
  if (code !== undefined) return code;
  return errors?.length ? describe(errors[0]) : 'the request failed';
}
