import { TtlCache } from '../../../accounts/ttlCache.js';
import type { GatewayPrincipal } from '../../durable/types.js';
import { Refusal } from '../refusal.js';

type Maker = Pick<GatewayPrincipal, 'keyId' | 'kiloUserId'>;

const REMEMBERED_MS = 3_600_000;
const MAX_REMEMBERED = 50_000;

/**
 * Which key made a response, and where: of those that were answered at once, for an hour and in this
 * process. All keys share one account with the provider, which would show each what others made.
 */
export class ResponseOwners {
  readonly #made = new TtlCache<Maker & { upstream: string }>(MAX_REMEMBERED);

  remember(responseId: string | null | undefined, { keyId, kiloUserId }: Maker, upstream: string) {
    if (responseId) this.#made.set(responseId, { keyId, kiloUserId, upstream }, REMEMBERED_MS);
  }

  /**
   * An answer that goes on from a response repeats what was said in it, to whoever knows its id.
   * @throws Refusal `not_found` where another user made it, as far as is known
   */
  requireContinuable(id: string | null, { kiloUserId }: Maker): void {
    const made = id === null ? undefined : this.#made.get(id);
    if (made === undefined || made.kiloUserId === kiloUserId) return;
    const message = `the user of this key made no response ${id} to go on from`;
    throw new Refusal('not_found', message, { param: 'previous_response_id' });
  }

  /** Name of the upstream; null = that key did not make it, as far as is known. */
  upstreamOf(responseId: string, keyId: string): string | null {
    const made = this.#made.get(responseId);
    return made?.keyId === keyId ? made.upstream : null;
  }
}
