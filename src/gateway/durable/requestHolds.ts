import type { HoldRequest, HoldResult } from '../../budgets/types.js';
import type { Ledger } from '../../ledgerTypes.js';
import type { DatabaseGate } from './databaseGate.js';
import { isOfOne, toLedgerError } from './failures.js';
import type { IntentStore } from './intentStore.js';
import type { Log } from './options.js';
import type { Intent, RequestHold, RequestHolds } from './types.js';
import { cleanIntent } from './usageSink.js';

const RETRY_MS = 500;
/** What a lost connection has sent is decided by then: longer than a statement may take. */
const LOOK_AGAIN_MS = 20_000;

export interface LedgerHoldsOptions {
  /** Of the intents. */
  owner: string;
  ledger: Pick<Ledger, 'hold' | 'extend' | 'release' | 'parts'>;
  gate: DatabaseGate;
  /** For one hold: requests of a payer wait for each other, and the first for its windows. */
  timeoutMs: number;
  store: IntentStore;
  log: Log;
  /** The request goes on, whatever became of its hold. */
  isOpen: (id: string) => boolean;
}

/**
 * Holds of the requests of this process. Nobody waits for a database that is away, and what was
 * reserved for nothing is given back, however often that takes. What this process does not get to
 * give back is released when it has ended (src/budgets/keeper.ts).
 */
export class LedgerHolds implements RequestHolds {
  readonly #options: LedgerHoldsOptions;
  readonly #unused = new Set<string>();
  /** Of these, without an answer: what is not there yet may still come. */
  readonly #doubted = new Set<string>();
  #releasing: Promise<void> | null = null;
  #retryTimer: NodeJS.Timeout | null = null;
  #isClosed = false;

  constructor(options: LedgerHoldsOptions) {
    this.#options = options;
  }

  async reserve({ intent, ...hold }: RequestHold): Promise<HoldResult> {
    const { gate, timeoutMs } = this.#options;
    let isWanted = true;
    let isSent = false;
    try {
      return await gate.run(async () => {
        isSent = true;
        const result = await this.#hold(hold, intent ?? null);
        // Of what costs nothing too: its intent is there.
        if (!isWanted && result.status !== 'refused') this.#undo(hold.id);
        return result;
      }, timeoutMs);
    } catch (error) {
      isWanted = false;
      const ledgerError = toLedgerError(error);
      // A commit whose answer was lost may have reserved it.
      if (ledgerError.code === 'unavailable' && isSent) {
        this.#doubted.add(hold.id);
        this.release(hold.id);
      }
      throw ledgerError;
    }
  }

  /**
   * Both or neither; of shards, whose intents are in one database, the intent before, and without a hold no
   * longer.
   */
  async #hold(hold: HoldRequest, intent: Intent | null): Promise<HoldResult> {
    const { ledger, owner, store } = this.#options;
    if (intent === null || ledger.parts.length === 1) {
      return await ledger.hold(hold, intent ? toHoldIntent(owner, intent) : null);
    }
    await store.insert({ owner, intent: cleanIntent(intent) });
    try {
      const result = await ledger.hold(hold);
      if (result.status === 'refused') store.removeLater(intent.id);
      return result;
    } catch (error) {
      store.removeLater(intent.id);
      throw error;
    }
  }

  /** It was given up, and may be granted all the same. */
  #undo(id: string): void {
    const { store, isOpen } = this.#options;
    this.release(id);
    if (!isOpen(id)) store.removeLater(id);
  }

  async extend(id: string, amount: number): Promise<HoldResult> {
    const { gate, ledger, timeoutMs } = this.#options;
    try {
      return await gate.run(() => ledger.extend(id, amount), timeoutMs);
    } catch (error) {
      throw toLedgerError(error);
    }
  }

  release(id: string): void {
    this.#unused.add(id);
    this.#releaseAll();
  }

  /** One more try of each; the ledger's end releases the rest. */
  async close(): Promise<void> {
    this.#isClosed = true;
    if (this.#retryTimer !== null) clearTimeout(this.#retryTimer);
    await this.#releasing;
    await this.#run();
  }

  #releaseAll(): void {
    if (this.#releasing !== null || this.#isClosed) return;
    this.#releasing = this.#run().finally(() => {
      this.#releasing = null;
      if (this.#unused.size === 0 || this.#isClosed) return;
      this.#retryTimer = setTimeout(() => this.#releaseAll(), RETRY_MS);
      this.#retryTimer.unref();
    });
  }

  async #run(): Promise<void> {
    const { gate, ledger, log, timeoutMs } = this.#options;
    for (const id of this.#unused) {
      try {
        await gate.run(() => ledger.release(id), timeoutMs);
      } catch (error) {
        const { code, message } = toLedgerError(error);
        // Its shard is away, its payer is moving, or it is in use: the others need not wait for it.
        if (isOfOne(error)) {
          if (this.#isClosed) return;
          continue;
        }
        if (code === 'unavailable') return;
        // Never reserved, or not yet, or gone with its usage.
        if (code !== 'not_found') log.warn({ usage_id: id, reason: message }, 'no release');
        else if (this.#doubted.has(id)) setTimeout(() => this.#undo(id), LOOK_AGAIN_MS).unref();
      }
      this.#unused.delete(id);
      this.#doubted.delete(id);
    }
  }
}

function toHoldIntent(owner: string, intent: Intent) {
  const { api_key_id, api_kind, requested_model, streamed, ...counts } = cleanIntent(intent);
  const { input_tokens_estimate, max_tokens } = counts;
  return {
    owner,
    api_key_id,
    api_kind,
    requested_model,
    input_tokens_estimate,
    max_tokens,
    streamed,
  };
}
