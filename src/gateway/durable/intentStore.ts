import type { Query } from '../../db/query.js';
import { classifyFailure, toLedgerError } from '../../db/sqlstate.js';
import { deleteIntentsStatement, insertIntentsStatement } from './intents.sql.js';
import type { Intent } from './types.js';

interface OwnedIntent {
  owner: string;
  intent: Intent;
}

const MAX_BATCH = 500;
const LANES = 2;
/** Removals gather this long: an intent whose usage is recorded harms nobody. */
const REMOVE_AFTER_MS = 100;
/** Past that removals are forgotten, and found by whoever settles the owner's intents. */
const MAX_REMOVALS = 100_000;

/** Intents in the database, by group commit: what comes while a statement is out goes together. */
export class IntentStore {
  readonly #query: Query;
  readonly #inserts: Grouped<OwnedIntent>;
  readonly #deletes: Grouped<string>;
  readonly #removals = new Set<string>();
  #removeTimer: NodeJS.Timeout | null = null;
  #removing: Promise<void> = Promise.resolve();

  constructor(query: Query) {
    this.#query = query;
    this.#inserts = new Grouped((intents) => this.insertMany(intents));
    this.#deletes = new Grouped((ids) => this.removeMany(ids));
  }

  /** Committed when it resolves. Again is fine. */
  insert(owned: OwnedIntent): Promise<void> {
    return this.#inserts.add(owned);
  }

  /** Committed when it resolves. */
  remove(id: string): Promise<void> {
    return this.#deletes.add(id);
  }

  /** Some time soon, in one statement with others. */
  removeLater(id: string): void {
    if (this.#removals.size >= MAX_REMOVALS) return;
    this.#removals.add(id);
    this.#removeTimer ??= setTimeout(() => {
      this.#removeTimer = null;
      void this.flushRemovals();
    }, REMOVE_AFTER_MS);
    this.#removeTimer.unref();
  }

  /** Never rejects: what could not be removed waits for the next time. */
  flushRemovals(): Promise<void> {
    this.#removing = this.#removing.then(async () => {
      while (this.#removals.size > 0) {
        const ids = [...this.#removals].slice(0, MAX_BATCH);
        try {
          await this.removeMany(ids);
        } catch {
          return;
        }
        for (const id of ids) this.#removals.delete(id);
      }
    });
    return this.#removing;
  }

  async insertMany(intents: readonly OwnedIntent[]): Promise<void> {
    if (intents.length === 0) return;
    await this.#query(insertIntentsStatement(intents));
  }

  async removeMany(ids: readonly string[]): Promise<void> {
    if (ids.length === 0) return;
    await this.#query(deleteIntentsStatement(ids));
  }
}

interface Queued<Item> {
  item: Item;
  resolve: () => void;
  reject: (error: Error) => void;
}

/** Concurrent calls as one statement; a batch whose values are refused is split. */
class Grouped<Item> {
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
