import type { Query } from '../../db/query.js';
import { Grouped, MAX_BATCH } from './grouped.js';
import { deleteIntentsStatement, insertIntentsStatement } from './intents.sql.js';
import type { Intent } from './types.js';

interface OwnedIntent {
  owner: string;
  intent: Intent;
}

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
