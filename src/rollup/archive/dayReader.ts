import type pg from 'pg';
import { isStatementTimeout, leavesSession } from '../../db/sqlstate.js';
import {
  type PageCursor,
  type PageResult,
  type PageRow,
  readPageStatement,
  toPageRow,
} from './readPage.sql.js';

const ROWS_PER_PAGE = 2_000;
/** At first; then as many as fill a page: a block's rows are all read, whatever the page takes. */
const USERS_PER_PAGE = 100;
const MAX_USERS = 5_000;
const PATIENCE_MS = 60_000;

/** Reads a day's raw rows once, by user, in short statements. */
export class DayReader {
  readonly #client: pg.PoolClient;
  readonly #day: string;
  readonly #withPersonalData: boolean;
  #after: PageCursor = { kiloUserId: '', createdAt: null, id: null };
  #rows = ROWS_PER_PAGE;
  #users = USERS_PER_PAGE;
  #isDone = false;

  constructor(client: pg.PoolClient, day: string, withPersonalData: boolean) {
    this.#client = client;
    this.#day = day;
    this.#withPersonalData = withPersonalData;
  }

  /**
   * Pages until there are `limit` rows, or no more; none of them is empty. While one is worked on, the
   * server reads the next.
   */
  async *take(limit: number): AsyncGenerator<PageRow[], void> {
    let left = limit;
    let ahead = this.#ahead(left);
    while (ahead !== null) {
      const rows = await ahead;
      left -= rows.length;
      ahead = this.#ahead(left);
      if (rows.length > 0) yield rows;
    }
  }

  /** A failure is told to whoever takes the page, if anybody does. */
  #ahead(left: number): Promise<PageRow[]> | null {
    if (left === 0 || this.#isDone) return null;
    const page = this.#next(left);
    page.catch(() => {});
    return page;
  }

  async #next(limit: number): Promise<PageRow[]> {
    const { results, isFull } = await this.#read(limit);
    const rows = results.flatMap((result) => toPageRow(result) ?? []);
    const last = rows.at(-1);
    const blockUntil = results[0]?.[0] ?? null;
    if (last && isFull) {
      this.#after = { kiloUserId: last.kilo_user_id, createdAt: last.created_at, id: last.id };
      this.#users = new Set(rows.map((row) => row.kilo_user_id)).size;
    } else if (blockUntil === null) {
      this.#isDone = true;
    } else {
      // Behind every row of the block's last user.
      this.#after = { kiloUserId: blockUntil, createdAt: 'infinity', id: null };
      if (rows.length < this.#rows / 2) this.#users = Math.min(MAX_USERS, this.#users * 2);
    }
    return rows;
  }

  async #read(limit: number): Promise<{ results: PageResult[]; isFull: boolean }> {
    for (;;) {
      const rowLimit = Math.min(limit, this.#rows);
      try {
        const results = await this.#readPage(rowLimit, this.#users);
        this.#rows = Math.min(ROWS_PER_PAGE, this.#rows * 2);
        return { results, isFull: results.length >= rowLimit };
      } catch (error) {
        if (!isStatementTimeout(error) || !leavesSession(error)) throw error;
        if (this.#rows + this.#users <= 2) return await this.#readPatiently(limit);
        // A cold cache or a slow disk: smaller steps.
        this.#rows = Math.max(1, Math.floor(this.#rows / 4));
        this.#users = Math.max(1, Math.floor(this.#users / 4));
      }
    }
  }

  /** Rows that share one instant are sorted for every page: where they are many, in large pages. */
  async #readPatiently(limit: number): Promise<{ results: PageResult[]; isFull: boolean }> {
    await this.#client.query(`begin read only; set local statement_timeout = ${PATIENCE_MS}`);
    try {
      const results = await this.#readPage(limit, 1);
      await this.#client.query('commit');
      return { results, isFull: results.length >= limit };
    } catch (error) {
      await this.#client.query('rollback').catch(() => {});
      throw error;
    }
  }

  async #readPage(rowLimit: number, userLimit: number): Promise<PageResult[]> {
    const { text, values } = readPageStatement({
      day: this.#day,
      after: this.#after,
      rowLimit,
      userLimit,
      withPersonalData: this.#withPersonalData,
    });
    const { rows } = await this.#client.query<PageResult>({ text, values, rowMode: 'array' });
    return rows;
  }
}
