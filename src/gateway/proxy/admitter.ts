import { TtlCache } from '../../accounts/ttlCache.js';
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
   * Where the most that a request can cost is reserved, that comes first: an intent that a crash
   * leaves without a hold would be billed past the budget that refused it. Else, for a payer who
   * could pay a moment ago, both at once, for each is a round trip to the database.
   * @throws Refusal `insufficient_balance`, `budget_exceeded`, ...; LedgerError `unavailable`
   */
  async admit(exchange: Exchange): Promise<void> {
    const { reservations } = this.#context;
    const key = payerKey(exchange.payer);
    if (reservations?.mode === 'strict' || this.#solvent.get(key) === undefined) {
      await this.#check(exchange);
      this.#solvent.set(key, true, SOLVENT_TTL_MS);
      await this.#releaseUnless(exchange, this.#context.sink.begin(toIntent(exchange)));
      return;
    }
    const { sink } = this.#context;
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

  async #check(exchange: Exchange): Promise<void> {
    const { reservations, accounts } = this.#context;
    if (reservations === null) await requireBalance(accounts, exchange.payer);
    else if (reservations.mode === 'strict') await reservations.reserveMost(exchange);
    else await reservations.reserveExpected(exchange);
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
