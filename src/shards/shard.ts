import { LedgerError } from '../errors.js';
import { createLedger } from '../ledger.js';
import type { Ledger, PartOptions } from '../ledgerTypes.js';
import { ofShard, readShardState, type ShardState } from './registry.js';

/** A shard that could not be reached is tried again no sooner, however many ask for it. */
const RETRY_MS = 500;

export interface ShardSettings {
  name: string;
  options: PartOptions;
  /** What its database says of itself, before anything is done there. @throws LedgerError to refuse it */
  check: (state: ShardState) => void;
}

/**
 * One shard: an ordinary ledger, opened when its database can be reached. While it cannot, whoever asks is
 * told so at once, and the others do not notice.
 */
export class Shard {
  readonly name: string;
  readonly #settings: ShardSettings;
  #ledger: Ledger | null = null;
  #opening: Promise<Ledger> | null = null;
  #failed: { error: LedgerError; atMs: number } | null = null;
  #isClosed = false;

  constructor(settings: ShardSettings) {
    this.name = settings.name;
    this.#settings = settings;
  }

  /** Null while it has not been reached yet. Once open it stays, and waits out outages as any ledger does. */
  get ledger(): Ledger | null {
    return this.#ledger;
  }

  /** Why it is not open. */
  get failure(): LedgerError | null {
    return this.#failed?.error ?? null;
  }

  /** @throws LedgerError `unavailable` naming the shard; `invalid_request` where it is another one */
  async open(): Promise<Ledger> {
    if (this.#ledger !== null) return this.#ledger;
    if (this.#isClosed) throw new LedgerError('unavailable', 'the ledger is closed');
    const failed = this.#failed;
    if (failed !== null && performance.now() - failed.atMs < RETRY_MS) throw failed.error;
    this.#opening ??= this.#tryToOpen().finally(() => {
      this.#opening = null;
    });
    return await this.#opening;
  }

  async #tryToOpen(): Promise<Ledger> {
    try {
      const ledger = await createLedger(this.#settings.options);
      try {
        this.#settings.check(await readShardState(this.name, ledger.pool));
        if (this.#isClosed) throw new LedgerError('unavailable', 'the ledger is closed');
      } catch (error) {
        await ledger.close();
        throw error;
      }
      this.#ledger = ledger;
      this.#failed = null;
      return ledger;
    } catch (thrown) {
      const error = ofShard(this.name, thrown as LedgerError);
      this.#failed = { error, atMs: performance.now() };
      throw error;
    }
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#opening?.catch(() => {});
    await this.#ledger?.close();
  }
}
