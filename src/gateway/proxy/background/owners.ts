import { TtlCache } from '../../../accounts/ttlCache.js';
import type { GatewayPrincipal, ResponseFollowing } from '../../durable/types.js';
import { type Exchange, toIntent } from '../exchange.js';
import { Refusal } from '../refusal.js';

const REMEMBERED_MS = 3_600_000;
const MAX_REMEMBERED = 50_000;

/**
 * Which key made a response, and where: in the database for as long as providers keep it, and here for
 * an hour. All keys share one account with the provider, which would show each what others made.
 */
export class ResponseOwners {
  readonly #kept: ResponseFollowing | null;
  readonly #made = new TtlCache<{ keyId: string; userId: string | null; upstream: string }>(
    MAX_REMEMBERED,
  );

  /** @param kept null: nothing is kept, and other processes know nothing of it */
  constructor(kept: ResponseFollowing | null) {
    this.#kept = kept;
  }

  /** Of one in the background, which is kept already. */
  remember(responseId: string, { principal, upstream }: Exchange): void {
    const { keyId, kiloUserId: userId } = principal;
    this.#made.set(responseId, { keyId, userId, upstream: upstream.name }, REMEMBERED_MS);
  }

  /** Of one that was answered at once. Never rejects: without the database this process alone knows. */
  async keep(responseId: string, exchange: Exchange): Promise<void> {
    this.remember(responseId, exchange);
    if (this.#kept === null || !this.#kept.isAvailable) return;
    const upstream = exchange.upstream.name;
    const made = { response_id: responseId, upstream, intent: toIntent(exchange) };
    await this.#kept.keep(made).catch((error: Error) => {
      const details = { usageId: exchange.id, reason: error.message };
      exchange.request.log.warn(details, 'other processes do not know who made this response');
    });
  }

  /**
   * An answer that goes on from a response repeats what was said in it, to whoever knows its id.
   * @throws Refusal `not_found` where another user made it, as far as is known
   */
  async requireContinuable(
    id: string | null,
    { kiloUserId }: Pick<GatewayPrincipal, 'kiloUserId'>,
  ): Promise<void> {
    if (id === null) return;
    const maker = this.#made.get(id)?.userId ?? (await this.#findUser(id));
    if (maker === null || maker === kiloUserId) return;
    const message = `the user of this key made no response ${id} to go on from`;
    throw new Refusal('not_found', message, { param: 'previous_response_id' });
  }

  /** Name of the upstream; null = that key did not make it, as far as this process knows. */
  upstreamOf(responseId: string, keyId: string): string | null {
    const made = this.#made.get(responseId);
    return made?.keyId === keyId ? made.upstream : null;
  }

  /** Without the database requests go on, as everything else does. */
  async #findUser(id: string): Promise<string | null> {
    return (await this.#kept?.findUser(id).catch(() => null)) ?? null;
  }
}
