import type { Query } from '../../db/query.js';
import { Grouped } from './grouped.js';
import {
  deleteIntentsStatement,
  deleteSettledIntentsStatement,
  insertIntentsStatement,
} from './intents.sql.js';
import { Removals } from './removals.js';
import type { Intent } from './types.js';

interface OwnedIntent {
  owner: string;
  intent: Intent;
}

/** Intents in the database, by group commit: what comes while a statement is out goes together. */
export class IntentStore {
  readonly #query: Query;
  readonly #inserts: Grouped<OwnedIntent>;
  readonly #deletes: Grouped<string>;
  readonly #removals: Removals;
  readonly #settled = new Removals((ids) => this.removeSettled(ids));

  /**
   * @param isOpen the request goes on: its intent stays, also where its removal was asked for before it was
   *   begun, after a hold that failed
   */
  constructor(query: Query, isOpen?: (id: string) => boolean) {
    this.#query = query;
    this.#removals = new Removals((ids) => this.removeMany(ids), isOpen);
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
    this.#removals.add(id);
  }

  /** The same of one whose usage is in the database. */
  removeSettledLater(id: string): void {
    this.#settled.add(id);
  }

  /** Never rejects: what could not be removed is left to whoever settles the owner's intents. */
  async endRemovals(): Promise<void> {
    await Promise.all([this.#removals.end(), this.#settled.end()]);
  }

  async insertMany(intents: readonly OwnedIntent[]): Promise<void> {
    if (intents.length === 0) return;
    await this.#query(insertIntentsStatement(intents));
  }

  async removeMany(ids: readonly string[]): Promise<void> {
    if (ids.length === 0) return;
    await this.#query(deleteIntentsStatement(ids));
  }

  /** A crash of the database may bring them back: whoever then settles them finds their usage. */
  async removeSettled(ids: readonly string[]): Promise<void> {
    if (ids.length === 0) return;
    await this.#query(deleteSettledIntentsStatement(ids));
  }
}
