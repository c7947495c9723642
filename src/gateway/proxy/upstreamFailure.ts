import { Refusal } from './refusal.js';
import { OwnEnd } from './relayTypes.js';

/** undici's codes: the provider was reached or not, but took too long. */
const TIMEOUT_CODES: ReadonlySet<string> = new Set([
  'UND_ERR_CONNECT_TIMEOUT',
  'UND_ERR_HEADERS_TIMEOUT',
  'UND_ERR_BODY_TIMEOUT',
  'ETIMEDOUT',
]);

/** What the client is told when the provider sent no answer; its address stays here. */
export function toUpstreamRefusal(error: Error | null): Refusal {
  const cause = { cause: error };
  if (error instanceof OwnEnd) return new Refusal('unavailable', error.message, cause);
  if (TIMEOUT_CODES.has(errorCode(error) ?? '')) {
    return new Refusal(
      'upstream_timeout',
      'the provider took too long to answer; send the request again',
      cause,
    );
  }
  return new Refusal(
    'upstream_unreachable',
    'the provider could not be reached; send the request again, or ask the operator of this gateway',
    cause,
  );
}

/** For logs and metrics; messages of system errors name addresses, never keys. */
export function errorCode(error: unknown): string | null {
  const { code } = (error ?? {}) as { code?: unknown };
  return typeof code === 'string' ? code : null;
}
