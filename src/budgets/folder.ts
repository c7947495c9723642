import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { type Query, queryOn, queryOnPool } from '../db/query.js';
import { isLockTimeout } from '../db/sqlstate.js';
import { LedgerError } from '../errors.js';
import { SLOTS } from '../schema/budgets.js';
import type { PayerScope } from '../schema/unsettled.js';
import { type FoldedWindowRow, type FoldRow, foldBudgetsStatement } from './fold.sql.js';
import {
  lockBudgetsStatement,
  type OpenedPayerRow,
  openPayerStatement,
  openWindowsStatement,
} from './openWindows.sql.js';

/** Bounds the length of a statement; a payer with more is folded again at once. */
const ROWS_PER_FOLD = 20_000;
const CHANGE_TRIES = 20;
const CHANGE_PAUSE_MS = 10;

export interface BudgetFolderOptions {
  pool: pg.Pool;
  /** Prepared statements. */
  named: boolean;
  /** Told what a fold of a payer with alerts did, within its transaction. */
  onSettled?: (query: Query, scope: PayerScope, id: string, rows: FoldedRows) => Promise<void>;
}

export type FoldedRows = readonly FoldRow[];

/** What a fold of a payer did; null: someone else holds its mark, or there is none yet. */
export type Folded = readonly FoldedWindowRow[] | null;

/** Folds payers' usage and closed holds into their windows (src/budgets/README.md). */
export class BudgetFolder {
  readonly #options: BudgetFolderOptions;

  constructor(options: BudgetFolderOptions) {
    this.#options = options;
  }

  /**
   * The payer's balance as a budget, and its mark.
   * @throws LedgerError `unknown_user`, `unknown_organization`; `unavailable` in an unknown cluster
   */
  async open(scope: PayerScope, id: string): Promise<void> {
    const { pool, named } = this.#options;
    const [row] = await queryOnPool(pool, named)<OpenedPayerRow>(openPayerStatement(scope, id));
    if (!row?.is_payer) {
      const [code, field] =
        scope.name === 'user'
          ? (['unknown_user', 'kilo_user_id'] as const)
          : (['unknown_organization', 'organization_id'] as const);
      throw new LedgerError(code, `${field} names no ${scope.name}; create it first`, {
        details: { field },
      });
    }
    if (!row.is_known_cluster) {
      throw new LedgerError('unavailable', 'the ledger does not know this cluster: run migrate');
    }
  }

  /** In the background: takes half of the slots, so that whoever reserves finds another. */
  foldSome(scope: PayerScope, id: string): Promise<Folded> {
    return this.#foldAll(scope, id, SLOTS / 2, 0);
  }

  /** Gathers what there is, from every slot that is free. @param asked microdollars */
  foldFor(scope: PayerScope, id: string, asked: number): Promise<Folded> {
    return this.#foldAll(scope, id, SLOTS, asked);
  }

  /**
   * The same after `change`, in one transaction that is durable when this answers. Repeated while someone
   * else holds the mark, for some 200 ms. @returns whether it was done
   */
  async foldAfter(
    scope: PayerScope,
    id: string,
    change: (query: Query) => Promise<unknown>,
  ): Promise<boolean> {
    for (let tries = 0; tries < CHANGE_TRIES; tries++) {
      if (tries > 0) await sleep(CHANGE_PAUSE_MS);
      const folded = await this.#fold(scope, id, SLOTS, 0, change);
      if (folded?.some((row) => row.has_more)) await this.foldFor(scope, id, 0);
      if (folded !== null) return true;
    }
    return false;
  }

  async #foldAll(scope: PayerScope, id: string, slots: number, asked: number): Promise<Folded> {
    for (;;) {
      const folded = await this.#fold(scope, id, slots, asked);
      // A debt that some slots do not know of: whoever reserves meets it, so all slots pay it.
      const isDebt = folded?.some((row) => row.is_open && Number(row.pool) < 0) ?? false;
      if (isDebt && slots < SLOTS) return await this.#foldAll(scope, id, SLOTS, asked);
      if (!folded?.some((row) => row.has_more)) return folded;
    }
  }

  /** One transaction. What it cannot lock at once fails it as a whole: the tail stays. */
  async #fold(
    scope: PayerScope,
    id: string,
    slots: number,
    asked: number,
    change?: (query: Query) => Promise<unknown>,
  ): Promise<Folded> {
    const { pool, named, onSettled } = this.#options;
    const client = await pool.connect();
    const query = queryOn(client, named);
    let failure: Error | undefined;
    try {
      await client.query('begin isolation level read committed');
      const locked = await query(lockBudgetsStatement(scope, id));
      if (locked.length === 0) {
        await client.query('rollback');
        return null;
      }
      if (change) {
        await client.query('set local synchronous_commit = on');
        await change(query);
      }
      await query(openWindowsStatement(scope, id));
      const limits = { rows: ROWS_PER_FOLD, slots, asked };
      const rows = await query<FoldRow>(foldBudgetsStatement(scope, id, limits));
      if (rows[0]?.has_alerts) await onSettled?.(query, scope, id, rows);
      await client.query('commit');
      return rows;
    } catch (error) {
      await client.query('rollback').catch((broken: Error) => {
        failure = broken;
      });
      if (isLockTimeout(error)) return null;
      throw error;
    } finally {
      client.release(failure);
    }
  }
}
