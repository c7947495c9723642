import { classifyFailure, toLedgerError } from '../../db/sqlstate.js';

/** Of one statement. */
export const MAX_BATCH = 500;
const LANES = 2;

interface Queued<Item> {
  item: Item;
  resolve: () => void;
  reject: (error: Error) => void;
}

/**
 * Concurrent calls as one statement; a batch whose values are refused is split. While none is out a call
 * goes at once, for a request waits for it; what comes in the same turn of the loop follows together.
 */
export class Grouped<Item> {
  readonly #run: (items: readonly Item[]) => Promise<void>;
  readonly #queue: Queued<Item>[] = [];
  #inFlight = 0;
  #isScheduled = false;

  constructor(run: (items: readonly Item[]) => Promise<void>) {
    this.#run = run;
  }

  add(item: Item): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#queue.push({ item, resolve, reject });
      this.#schedule();
    });
  }

  #schedule(): void {
    if (this.#isScheduled || this.#inFlight >= LANES) return;
    if (this.#inFlight === 0) {
      this.#send();
      return;
    }
    this.#isScheduled = true;
    setImmediate(() => {
      this.#isScheduled = false;
      this.#send();
    });
  }

  #send(): void {
    const batch = this.#queue.splice(0, MAX_BATCH);
    if (batch.length === 0) return;
    this.#inFlight++;
    void this.#write(batch).finally(() => {
      this.#inFlight--;
      if (this.#queue.length > 0) this.#schedule();
    });
  }

  async #write(batch: readonly Queued<Item>[]): Promise<void> {
    try {
      await this.#run(batch.map(({ item }) => item));
      for (const { resolve } of batch) resolve();
    } catch (error) {
      if (batch.length > 1 && classifyFailure(error) === 'data') {
        const middle = Math.ceil(batch.length / 2);
        await this.#write(batch.slice(0, middle));
        await this.#write(batch.slice(middle));
        return;
      }
      const ledgerError = toLedgerError(error);
      for (const { reject } of batch) reject(ledgerError);
    }
  }
}
