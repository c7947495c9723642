import { TtlCache } from '../../../accounts/ttlCache.js';

const REMEMBERED_MS = 3_600_000;
const MAX_REMEMBERED = 50_000;

/**
 * Which key made a response, and where: of those that were answered at once, for an hour and in this
 * process. All keys share one account with the provider, which would show each what others made.
 */
export class ResponseOwners {
  readonly #made = new TtlCache<{ keyId: string; upstream: string }>(MAX_REMEMBERED);

  remember(responseId: string | null | undefined, keyId: string, upstream: string): void {
    if (responseId) this.#made.set(responseId, { keyId, upstream }, REMEMBERED_MS);
  }

  /** Name of the upstream; null = that key did not make it, as far as is known. */
  upstreamOf(responseId: string, keyId: string): string | null {
    const made = this.#made.get(responseId);
    return made?.keyId === keyId ? made.upstream : null;
  }
}
