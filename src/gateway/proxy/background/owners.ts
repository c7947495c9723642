import { TtlCache } from '../../../accounts/ttlCache.js';
import { LedgerError } from '../../../errors.js';
import type { GatewayPrincipal, ResponseFollowing } from '../../durable/types.js';
import { MAX_ITEM_ID, type NamedItem } from '../../processUsage/index.js';
import { type Exchange, toIntent } from '../exchange.js';
import { Refusal } from '../refusal.js';

const REMEMBERED_MS = 3_600_000;
const MAX_REMEMBERED = 50_000;
const MAX_ITEMS = 200_000;
/** In one statement, of one request: more than any conversation has. */
const MAX_ASKED = 10_000;

/**
 * Which key made a response, and where: in the database for as long as providers keep it, and here for
 * an hour. All keys share one account with the provider, which would show each what others made.
 */
export class ResponseOwners {
  readonly #kept: ResponseFollowing | null;
  readonly #made = new TtlCache<{ keyId: string; userId: string | null; upstream: string }>(
    MAX_REMEMBERED,
  );

  /** Items and who made them. */
  readonly #items = new TtlCache<string>(MAX_ITEMS);

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
  async keep(responseId: string, itemIds: readonly string[], exchange: Exchange): Promise<void> {
    this.remember(responseId, exchange);
    this.rememberItems(itemIds, exchange.payer.kilo_user_id);
    if (this.#kept === null || !this.#kept.isAvailable) return;
    const upstream = exchange.upstream.name;
    const intent = toIntent(exchange);
    const made = { response_id: responseId, upstream, intent, item_ids: itemIds };
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

  rememberItems(itemIds: readonly string[], userId: string): void {
    for (const id of itemIds) this.#items.set(id, userId, REMEMBERED_MS);
  }

  /**
   * The provider puts in what it keeps under an item's name, whichever user of the gateway made it.
   * @throws Refusal `not_found` where another user made one, or nobody is known to have made what has no
   *   content of its own, `invalid_request` of too many names; LedgerError `unavailable` where that cannot be
   *   known now
   */
  async requireOwnItems(
    items: readonly NamedItem[],
    { kiloUserId }: Pick<GatewayPrincipal, 'kiloUserId'>,
  ): Promise<void> {
    const asked = items.filter(({ id }) => this.#items.get(id) !== kiloUserId);
    if (asked.length === 0) return;
    const makers = await this.#findItemUsers(asked);
    const wrong = asked.find(({ id, isReference }) => {
      const maker = this.#items.get(id) ?? makers.get(id) ?? null;
      return maker === null ? isReference : maker !== kiloUserId;
    });
    if (wrong === undefined) return;
    const message =
      `the user of this key made no item ${wrong.id.slice(0, 100)} that the gateway knows of; ` +
      'send its content in place of its id';
    throw new Refusal('not_found', message, { param: 'input' });
  }

  async #findItemUsers(items: readonly NamedItem[]): Promise<ReadonlyMap<string, string>> {
    const unknown = items.filter(({ id }) => this.#items.get(id) === undefined);
    // Longer ones are kept of nobody, nor are those that the database has no text for.
    const isKept = (id: string) => id.length <= MAX_ITEM_ID && !id.includes('\0');
    const ids = new Set(unknown.map(({ id }) => id).filter(isKept));
    if (this.#kept === null || ids.size === 0) return new Map();
    if (ids.size > MAX_ASKED) {
      const message = `the input names more than ${MAX_ASKED} items; send their content without their ids`;
      throw new Refusal('invalid_request', message, { param: 'input' });
    }
    try {
      return await this.#kept.findItemUsers([...ids]);
    } catch (error) {
      // What has its content goes on, as everything else does.
      if (!(error instanceof LedgerError) || unknown.some(({ isReference }) => isReference)) {
        throw error;
      }
      return new Map();
    }
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
