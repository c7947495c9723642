import { type Query, queryOn, queryOnPool } from '../../db/query.js';
import { withRetry } from '../../db/retry.js';
import { isUniqueViolation } from '../../db/sqlstate.js';
import { inTransaction } from '../../db/transaction.js';
import { LedgerError } from '../../errors.js';
import { type Log, USAGE_LOG } from '../../schema/unsettled.js';
import type { Columns } from './columns.js';
import { notKept } from './fitting.js';
import {
  findExpiriesStatement,
  type HistoryCursor,
  OLDEST_POSITION,
  type RecentCursor,
  type RecentRange,
  type RowsPage,
  readByIdStatement,
  readHistoryStatement,
  readLateStatement,
  readRecentStatement,
} from './readRows.sql.js';
import { keyOf, type MovedPayer, type MoveShard } from './types.js';
import {
  type ConflictRow,
  createLookupsStatement,
  findConflictsStatement,
  knowUsersStatement,
  openMonthsStatement,
  type WrittenRow,
  writeRowsStatement,
} from './writeRows.sql.js';

const ZERO_ID = '00000000-0000-0000-0000-000000000000';

/**
 * Copies rows of a payer's logs. Rows never change, so a page may be copied while writers go on, and copied
 * again: the id decides. At the target they are appends like any other, of a payer that is elsewhere.
 */
export class RowCopier {
  readonly #payer: MovedPayer;
  readonly #from: Query;
  readonly #to: MoveShard;
  readonly #toQuery: Query;
  readonly #columns: Columns;
  readonly #limit: number;

  constructor(
    payer: MovedPayer,
    from: MoveShard,
    to: MoveShard,
    { columns, pageRows }: { columns: Columns; pageRows: number },
  ) {
    this.#payer = payer;
    // Planned for each page: a plan for any payer may look for ids among all rows of a large one.
    this.#from = queryOnPool(from.pool, false);
    this.#to = to;
    this.#toQuery = queryOnPool(to.pool, true);
    this.#columns = columns;
    this.#limit = pageRows;
  }

  /** Position below which everything has ended at the source. */
  async oldestPosition(): Promise<string> {
    const [row] = await this.#from<{ position: string }>(OLDEST_POSITION);
    if (!row) throw new Error('a position is one row');
    return row.position;
  }

  /** One page of the history. @returns rows, and where it ends; null: there is no more */
  async copyHistory(
    log: Log,
    after: HistoryCursor,
    began: string,
  ): Promise<{ rows: number; after: HistoryCursor } | null> {
    const { scope, id } = this.#payer;
    const page = await this.#read(
      readHistoryStatement(log, scope, id, { after, began, limit: this.#limit }),
    );
    const { count, last_created_at: createdAt, last_id: lastId } = page;
    if (createdAt === null || lastId === null) return null;
    await this.#write(log, page);
    return { rows: count, after: { created_at: createdAt, id: lastId } };
  }

  /** Everything from a position on; without a range all of it, under the fence. @returns rows */
  async copyRecent(log: Log, from: string, range: RecentRange | null): Promise<number> {
    const { scope, id } = this.#payer;
    let after: RecentCursor = { position: from, id: ZERO_ID };
    for (let rows = 0; ; ) {
      const page = await this.#read(
        readRecentStatement(log, scope, id, { after, range, limit: this.#limit }),
      );
      if (page.last_position === null || page.last_id === null) return rows;
      await this.#write(log, page);
      rows += page.count;
      after = { position: page.last_position, id: page.last_id };
    }
  }

  /** Under the fence: whether usage from after the beginning of the move may have been left for now. */
  async hasLeft(): Promise<boolean> {
    const { scope, id } = this.#payer;
    return (await this.#from(findExpiriesStatement(scope, id))).length > 0;
  }

  /** Late usage, in a transaction for each set of expiries that it is late for. @returns rows */
  async copyLate(): Promise<number> {
    const { scope, id } = this.#payer;
    const groups = await this.#from<{ ids: string[] }>(readLateStatement(scope, id));
    let rows = 0;
    for (const { ids } of groups) rows += await this.copyIds(USAGE_LOG, ids);
    return rows;
  }

  /** Rows by id, in one transaction. @returns rows */
  async copyIds(log: Log, ids: readonly string[]): Promise<number> {
    const { scope, id } = this.#payer;
    const page = await this.#read(readByIdStatement(log, scope, id, ids));
    if (page.count > 0) await this.#write(log, page);
    return page.count;
  }

  async #read(statement: Parameters<Query>[0]): Promise<RowsPage> {
    const [page] = await withRetry(() => this.#from<RowsPage>(statement));
    if (!page) throw new Error('a page is one row');
    return page;
  }

  async #write(log: Log, page: RowsPage): Promise<void> {
    if (page.metadata !== '[]') await this.#createLookups(page.metadata);
    await withRetry(() =>
      inTransaction(this.#to.pool, async (client) => {
        const query = queryOn(client, true);
        if (page.users !== '[]') await query(knowUsersStatement(page.users));
        if (page.months !== '[]') await query(openMonthsStatement(page.months));
        const [row] = await query<WrittenRow>(writeRowsStatement(log, page, this.#columns));
        if (row?.written !== page.count) await this.#requireSame(query, log, page);
        if (row !== undefined && row.metadata_left > 0) {
          throw notKept(this.#payer, this.#to.name, 'microdollar_usage_metadata');
        }
      }),
    );
  }

  async #createLookups(metadata: string): Promise<void> {
    try {
      await this.#toQuery(createLookupsStatement(metadata));
    } catch (error) {
      // Another value was given the same id at this moment: those of the page stay text.
      if (!isUniqueViolation(error)) throw error;
    }
  }

  /** What was not written must be there already, this payer's, and the same. */
  async #requireSame(query: Query, log: Log, page: RowsPage): Promise<void> {
    const { scope, id } = this.#payer;
    const conflicts = await query<ConflictRow>(findConflictsStatement(log, scope, id, page.rows));
    const [first] = conflicts;
    if (!first) return;
    if (first.is_absent) throw notKept(this.#payer, this.#to.name, log.table);
    throw new LedgerError(
      'idempotency_conflict',
      `usage ${first.id} of ${keyOf(this.#payer)} cannot move: shard ${this.#to.name} has another ` +
        'event with this id',
      { details: { id: first.id } },
    );
  }
}
