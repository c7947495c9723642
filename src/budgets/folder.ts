import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { type Query, queryOn, queryOnPool } from '../db/query.js';
import { isLockTimeout } from '../db/sqlstate.js';
import { inTransaction } from '../db/transaction.js';
import { elsewhere, LedgerError } from '../errors.js';
import { SLOTS } from '../schema/budgets.js';
import { ORGANIZATION_SCOPE, type PayerScope, scopeNamed } from '../schema/unsettled.js';
import { type FoldedWindowRow, type FoldRow, foldBudgetsStatement } from './fold.sql.js';
import {
  beginBudgetsStatement,
  findInvolvedStatement,
  type InvolvedPayerRow,
  lockBudgetsStatement,
  lockOtherPayersStatement,
  type OpenedPayerRow,
  type OpenedWindowsRow,
  type OtherPayerRow,
  openPayerStatement,
  openWindowsStatement,
} from './openWindows.sql.js';

/** Bounds the length of a statement; a payer with more is folded again at once. */
const ROWS_PER_FOLD = 20_000;
/** In somebody's transaction, which holds what it folds. */
const MAX_FOLDS_WITHIN = 5;
const CHANGE_TRIES = 20;
const CHANGE_PAUSE_MS = 10;
const DURABLE = {
  name: 'microdollar_budgets_durable',
  text: 'set local synchronous_commit = on',
  values: [],
};

export interface BudgetFolderOptions {
  pool: pg.Pool;
  /** Prepared statements. */
  named: boolean;
  /** Told what a fold of a payer with alerts did, within its transaction: who folds decides on them. */
  onSettled: (query: Query, scope: PayerScope, id: string, rows: FoldedRows) => Promise<void>;
}

export type FoldedRows = readonly FoldRow[];

/** What a fold does first, in its transaction. */
type Change = (query: Query) => Promise<unknown>;

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
    const look = () => queryOnPool(pool, named)<OpenedPayerRow>(openPayerStatement(scope, id));
    // Where another process opens the same payer, its mark is there a moment later.
    const [row] = await look().catch((error) => {
      if (isLockTimeout(error)) return look();
      throw error;
    });
    if (!row?.is_payer) {
      const [code, field] =
        scope.name === 'user'
          ? (['unknown_user', 'kilo_user_id'] as const)
          : (['unknown_organization', 'organization_id'] as const);
      throw new LedgerError(code, `${field} names no ${scope.name}; create it first`, {
        details: { field },
      });
    }
    if (row.is_elsewhere) throw elsewhere(scope.name);
    if (!row.is_known_cluster) {
      throw new LedgerError('unavailable', 'the ledger does not know this cluster: run migrate');
    }
    if (!row.has_begun) await queryOnPool(pool, named)(beginBudgetsStatement(scope, id));
  }

  /** The same, and of the organizations that may pay for keys of a user: a key's window needs their marks. */
  async openWithOthers(scope: PayerScope, id: string): Promise<void> {
    const { pool, named } = this.#options;
    await this.open(scope, id);
    const statement = lockOtherPayersStatement(scope, id);
    const others = await queryOnPool(pool, named)<OtherPayerRow>(statement);
    for (const { organization_id: other, has_begun: hasBegun } of others) {
      if (!hasBegun) await this.open(ORGANIZATION_SCOPE, other);
    }
  }

  /**
   * The payer and others, in the order in which they are to be folded: who holds by keys that are limited,
   * the payer, whose budgets bind what it pays for.
   * @param found windows, and keys, of requests
   */
  async involvedIn(
    scope: PayerScope,
    id: string,
    found: { windowIds: readonly string[]; keys: readonly string[] },
  ): Promise<{ scope: PayerScope; id: string }[]> {
    const { pool, named } = this.#options;
    const statement = findInvolvedStatement(scope, id, found.windowIds, found.keys);
    const rows = await queryOnPool(pool, named)<InvolvedPayerRow>(statement);
    const payers = (isHolder: boolean) =>
      rows
        .filter((row) => row.is_holder === isHolder)
        .map((row) => ({ scope: scopeNamed(row.payer_scope), id: row.payer_id }));
    return [...payers(true), { scope, id }, ...payers(false)];
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
  async foldAfter(scope: PayerScope, id: string, change: Change): Promise<boolean> {
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
    change?: Change,
  ): Promise<Folded> {
    const { pool, named } = this.#options;
    try {
      return await inTransaction<Folded>(
        pool,
        (client) => this.#foldWithin(queryOn(client, named), scope, id, { slots, asked, change }),
        { keep: (rows) => rows !== null },
      );
    } catch (error) {
      if (isLockTimeout(error)) return null;
      throw error;
    }
  }

  /**
   * In the caller's transaction: what the payer's balance has that is neither spent nor held, of all slots
   * that are free. Until the transaction ends nobody reserves of them.
   * @returns microdollars, not negative; null: somebody else holds the mark, or there is too much to fold
   */
  async gather(query: Query, scope: PayerScope, id: string): Promise<bigint | null> {
    for (let folds = 0; folds < MAX_FOLDS_WITHIN; folds++) {
      const rows = await this.#foldWithin(query, scope, id, { slots: SLOTS, asked: 0 });
      if (rows === null) return null;
      if (rows.some((row) => row.has_more)) continue;
      const pool = BigInt(rows.find((row) => row.is_balance)?.pool ?? 0);
      return pool > 0n ? pool : 0n;
    }
    return null;
  }

  /** The mark's lock first: the statements after it see all that its last holder wrote. */
  async #foldWithin(
    query: Query,
    scope: PayerScope,
    id: string,
    { slots, asked, change }: { slots: number; asked: number; change?: Change | undefined },
  ): Promise<Folded> {
    const locked = await query(lockBudgetsStatement(scope, id));
    if (locked.length === 0) return null;
    if (change) {
      await query(DURABLE);
      await change(query);
    }
    const [opened] = await query<OpenedWindowsRow>(openWindowsStatement(scope, id));
    if (opened?.is_key_left) {
      const others = await query<OtherPayerRow>(lockOtherPayersStatement(scope, id));
      const hasAll = others.every((other) => other.has_begun && other.is_locked);
      if (hasAll) await query(openWindowsStatement(scope, id, true));
    }
    const limits = { rows: ROWS_PER_FOLD, slots, asked };
    const rows = await query<FoldRow>(foldBudgetsStatement(scope, id, limits));
    if (rows[0]?.has_alerts) await this.#options.onSettled(query, scope, id, rows);
    return rows;
  }
}
