import {
  OPEN_TRANSACTIONS,
  type OpenTransactionRow,
  PREPARED_TRANSACTIONS,
} from './openTransactions.sql.js';
import type { Query } from './query.js';

export type { OpenTransactionRow } from './openTransactions.sql.js';

/**
 * Whoever may act on what was true before a commit: transactions that were open when this was asked
 * first, which has to be after that commit. A statement that waits has an old snapshot and no
 * transaction id, so ids and `xmin` do not tell; a transaction holds its virtual id from before its
 * first snapshot until its end, or until it is prepared.
 */
export class OlderTransactions {
  readonly #query: Query;
  readonly #ignoresBlank: boolean;
  readonly #phases = [OPEN_TRANSACTIONS, PREPARED_TRANSACTIONS];
  #older: ReadonlySet<string> | null = null;

  /**
   * @param ignoresBlank leaves out who is seen, once, without a snapshot and an id: fit where old
   *   snapshots matter, and not the time that a transaction began
   */
  constructor(query: Query, { ignoresBlank }: { ignoresBlank: boolean }) {
    this.#query = query;
    this.#ignoresBlank = ignoresBlank;
  }

  /** Those that are open still; once there are none, that stays so. */
  async remaining(): Promise<OpenTransactionRow[]> {
    for (;;) {
      const [statement] = this.#phases;
      if (!statement) return [];
      const open = await this.#query<OpenTransactionRow>(statement);
      const left = open.filter(
        (row) =>
          !(this.#ignoresBlank && row.is_blank) && (this.#older?.has(row.transaction) ?? true),
      );
      this.#older = new Set(left.map((row) => row.transaction));
      if (left.length > 0) return left;
      // Prepared meanwhile: asked for anew, when no virtual id is left to wait for.
      this.#phases.shift();
      this.#older = null;
    }
  }
}
