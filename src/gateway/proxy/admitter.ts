import { TtlCache } from '../../accounts/ttlCache.js';
import { LedgerError } from '../../errors.js';
import { payerKey } from '../durable/inFlight.js';
import type { AccountsCache, UsageSink } from '../durable/types.js';
import { requireBalance } from './admission.js';
import { type Exchange, toIntent } from './exchange.js';
import type { Reservations } from './reservations.js';

const SOLVENT_TTL_MS = 60_000;
const MAX_SOLVENT = 20_000;

export interface AdmitterContext {
  accounts: AccountsCache;
  sink: UsageSink;
  /** Null: requests are let through while something is left of the balance. */
  reservations: Reservations | null;
}

/** Whether a request may cost something, and its durable intent: before its provider is called. */
export class Admitter {
  readonly #context: AdmitterContext;
  /** Payers who could pay when it was last looked at. */
  readonly #solvent = new TtlCache<true>(MAX_SOLVENT);

  constructor(context: AdmitterContext) {
    this.#context = context;
  }

  /**
   * A hold and its intent are one statement: an intent that a crash left without its hold would be
   * billed past the budget that refused it. Else, for a payer who could pay a moment ago, check and
   * intent at once, for each is a round trip to the database.
   * @throws Refusal `insufficient_balance`, `budget_exceeded`, ...; LedgerError `unavailable`
   */
  async admit(exchange: Exchange): Promise<void> {
    const admitted = this.#admit(exchange);
    // It was read before the first wait, and no prompt is kept twice while its answer comes.
    exchange.json = null;
    await admitted;
  }

  async #admit(exchange: Exchange): Promise<void> {
    const { reservations, sink } = this.#context;
    const key = payerKey(exchange.payer);
    if (reservations?.holdsAlways(exchange)) return this.#hold(reservations, exchange);
    if (this.#solvent.get(key) === undefined) {
      await this.#check(exchange);
      this.#solvent.set(key, true, SOLVENT_TTL_MS);
      await this.#releaseUnless(exchange, sink.begin(toIntent(exchange)));
      return;
    }
    const begun = sink.begin(toIntent(exchange));
    begun.catch(() => {});
    try {
      await this.#check(exchange);
    } catch (error) {
      this.#solvent.set(key, true, 0);
      await begun.then(() => sink.abandon(exchange.id)).catch(() => {});
      throw error;
    }
    await this.#releaseUnless(exchange, begun);
  }

  async #hold(reservations: Reservations, exchange: Exchange): Promise<void> {
    const { sink } = this.#context;
    try {
      const isHeld = await reservations.reserve(exchange, { withIntent: true });
      if (isHeld) sink.adopt(exchange.id);
      else await sink.begin(toIntent(exchange));
    } catch (error) {
      // A commit whose answer was lost may have made the intent durable.
      if (error instanceof LedgerError) await sink.abandon(exchange.id).catch(() => {});
      throw error;
    }
  }

  async #check(exchange: Exchange): Promise<void> {
    const { reservations, accounts } = this.#context;
    if (reservations === null) await requireBalance(accounts, exchange.payer);
    else await reservations.reserve(exchange, { withIntent: false });
  }

  async #releaseUnless(exchange: Exchange, begun: Promise<void>): Promise<void> {
    try {
      await begun;
    } catch (error) {
      this.#context.reservations?.release(exchange);
      throw error;
    }
  }
}
