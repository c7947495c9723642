import type { IncomingHttpHeaders } from 'node:http';
import { isEventStream } from '../processUsage/index.js';

/**
 * Headers that may go from a client to a provider. Whatever is not listed stays here: keys in
 * whichever header (`authorization`, `x-api-key`, `api-key`, cookies), the client's addresses,
 * our own `x-microdollar-*`. Not `idempotency-key`: two clients share one upstream account, and
 * the one must never be answered with the other's answer.
 */
const FORWARDED_REQUEST_HEADERS: ReadonlySet<string> = new Set([
  'accept',
  'accept-language',
  'anthropic-beta',
  'anthropic-dangerous-direct-browser-access',
  'anthropic-version',
  'content-type',
  'http-referer',
  'openai-beta',
  'openai-organization',
  'openai-project',
  'user-agent',
  'x-client-request-id',
  'x-title',
  // Sessions, for the provider's cache, and which program asks.
  'conversation-id',
  'conversation_id',
  'originator',
  'session-id',
  'session_id',
  'version',
  'x-app',
  'x-grok-conv-id',
  'x-session-affinity',
]);
/** What clients say of themselves, and switch on. */
const FORWARDED_PREFIXES = [
  'x-stainless-',
  'x-codex-',
  'x-claude-code-',
  'x-openai-',
  'x-openrouter-',
] as const;

/** Of one connection only (RFC 9110, 7.6.1), or set anew by the server. */
const NOT_PASSED_BACK: ReadonlySet<string> = new Set([
  'connection',
  'keep-alive',
  'proxy-authenticate',
  'proxy-authentication-info',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  // The provider's cookies belong to the operator's account, one jar for every client.
  'set-cookie',
  // Would make browsers call the provider's other ports.
  'alt-svc',
  // Which origins may call this gateway is for its own operator to say.
  'access-control-allow-origin',
  'access-control-allow-credentials',
]);

/**
 * @param token the client's key: a header that repeats it is dropped
 * @param ownHeaders the operator's: key, and what else it adds
 * @returns for undici; `accept-encoding: identity`, for what is compressed cannot be read as it
 *   passes
 */
export function toUpstreamHeaders(
  headers: IncomingHttpHeaders,
  token: string,
  ownHeaders: Readonly<Record<string, string>>,
): Record<string, string> {
  const forwarded: Record<string, string> = {};
  for (const name in headers) {
    if (!isForwarded(name)) continue;
    const value = headers[name];
    if (typeof value === 'string' && !value.includes(token)) forwarded[name] = value;
  }
  return Object.assign(forwarded, { 'accept-encoding': 'identity' }, ownHeaders);
}

function isForwarded(name: string): boolean {
  if (FORWARDED_REQUEST_HEADERS.has(name)) return true;
  return FORWARDED_PREFIXES.some((prefix) => name.startsWith(prefix));
}

/**
 * @param rawHeaders names and values in turn, as the provider sent them
 * @returns the same without hop-by-hop headers and those that `connection` names
 */
export function toClientHeaders(
  rawHeaders: readonly (string | Buffer)[],
  added: Readonly<Record<string, string>>,
  options: { keepLength: boolean; dropEncoding?: boolean },
): string[] {
  const perConnection = new Set<string>();
  const seen = new Set<string>();
  const passed: string[] = [];
  let isStream = false;
  for (let at = 0; at + 1 < rawHeaders.length; at += 2) {
    const name = text(rawHeaders[at]);
    if (name.toLowerCase() !== 'connection') continue;
    for (const each of text(rawHeaders[at + 1]).split(','))
      perConnection.add(each.trim().toLowerCase());
  }
  for (let at = 0; at + 1 < rawHeaders.length; at += 2) {
    const name = text(rawHeaders[at]);
    const key = name.toLowerCase();
    if (NOT_PASSED_BACK.has(key) || perConnection.has(key)) continue;
    if (key === 'content-length' && !options.keepLength) continue;
    if (key === 'content-encoding' && options.dropEncoding) continue;
    if (Object.hasOwn(added, key) && key !== 'x-request-id') continue;
    seen.add(key);
    passed.push(name, text(rawHeaders[at + 1]));
    isStream ||= key === 'content-type' && isEventStream(text(rawHeaders[at + 1]));
  }
  // For nginx, which would else gather events, and lets no client see this.
  if (isStream && !seen.has('x-accel-buffering')) passed.push('x-accel-buffering', 'no');
  for (const [name, value] of Object.entries(added)) if (!seen.has(name)) passed.push(name, value);
  return passed;
}

/**
 * A reason phrase without what a status line of ours may not hold. As it was read, that of some servers
 * (`200 成功`) ended the process.
 */
export function toStatusMessage(read: string): string {
  return read.replace(/[^\t\x20-\x7e]/g, '');
}

/** Header bytes are Latin-1 on the wire, and go out as they came. */
function text(value: string | Buffer | undefined): string {
  return typeof value === 'string' ? value : (value?.toString('latin1') ?? '');
}
