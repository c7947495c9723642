import { TtlCache } from '../../accounts/ttlCache.js';
import type { Upstream } from './upstreams.js';

/** A provider may learn it meanwhile. */
const REMEMBERED_MS = 24 * 3_600_000;
const MAX_REMEMBERED = 10_000;

const NAMED = /stream_options|include_usage/i;
/** What a provider answers to a field that it does not know. */
const STATUSES: ReadonlySet<number> = new Set([400, 422]);
const NAMED_STATUSES: ReadonlySet<number> = new Set([400, 403, 404, 405, 415, 422, 500, 501]);

/** Which providers refuse `stream_options`, by what they answered. */
export class StreamOptionsMemory {
  readonly #refused = new TtlCache<true>(MAX_REMEMBERED);

  mayBeAdded(upstream: Upstream, model: string | null): boolean {
    if (upstream.takesStreamOptions !== null) return upstream.takesStreamOptions;
    return this.#refused.get(keyOf(upstream, model)) === undefined;
  }

  noteRefused(upstream: Upstream, model: string | null): void {
    this.#refused.set(keyOf(upstream, model), true, REMEMBERED_MS);
  }
}

/**
 * Whether an error may be about the `stream_options` that were added, so that the client's own bytes
 * deserve a try. An error that names another field, or says what is wrong, is the client's.
 */
export function mayRefuseStreamOptions(statusCode: number, body: Buffer): boolean {
  const text = body.toString();
  if (NAMED.test(text)) return NAMED_STATUSES.has(statusCode);
  return STATUSES.has(statusCode) && !namesAnotherCause(text);
}

function namesAnotherCause(text: string): boolean {
  try {
    const { error } = JSON.parse(text) as { error?: { param?: unknown; code?: unknown } };
    const { param, code } = error ?? {};
    return isWord(param) || (isWord(code) && !/unknown|unsupported|extra|invalid/i.test(code));
  } catch {
    return false;
  }
}

function isWord(value: unknown): value is string {
  return typeof value === 'string' && value !== '';
}

function keyOf({ provider, name }: Upstream, model: string | null): string {
  return `${provider} ${name} ${model ?? ''}`;
}
