import type { ServerResponse } from 'node:http';
import type { Provider } from './apis.js';
import type { Refusal } from './refusal.js';

/** Answers with an error of the gateway where Fastify no longer has the reply. */
export function sendRefusal(
  reply: ServerResponse,
  refusal: Refusal,
  provider: Provider,
  headers: Readonly<Record<string, string>>,
): void {
  if (reply.destroyed) return;
  const body = JSON.stringify(refusal.body(provider));
  reply.writeHead(refusal.status, {
    ...headers,
    ...refusal.headers,
    'content-type': 'application/json; charset=utf-8',
    'content-length': Buffer.byteLength(body),
  });
  reply.end(body);
}
