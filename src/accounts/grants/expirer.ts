import type pg from 'pg';
import { type Query, queryOn, queryOnPool } from '../../db/query.js';
import { isLockTimeout } from '../../db/sqlstate.js';
import { inTransaction } from '../../db/transaction.js';
import { toExactInteger } from '../../money.js';
import { type PayerScope, scopeNamed } from '../../schema/unsettled.js';
import { unknownOrganization, unknownUser } from '../fields.js';
import {
  type DuePayersRow,
  deferExpiriesStatement,
  duePayersStatement,
  type LockedPayerRow,
  lockPayerStatement,
  writeExpiryStatement,
} from './grants.sql.js';
import { readGrants } from './readGrants.js';
import { type GrantsState, type Settlement, settleExpiries } from './settlement.js';

/** What the balance has, apart from what is held (src/budgets/folder.ts). */
export interface Withdrawals {
  /** Makes the payer's balance known. */
  open(scope: PayerScope, payerId: string): Promise<void>;
  /**
   * In the caller's transaction, takes what can be withdrawn out of everybody's reach until it ends, and
   * takes in what the payer acquired. Waits for nobody.
   * @returns microdollars; null: somebody else has the payer's budgets
   */
  gather(query: Query, scope: PayerScope, payerId: string): Promise<bigint | null>;
}

export interface ExpirerOptions {
  pool: pg.Pool;
  /** Prepared statements. */
  named: boolean;
  withdrawals: Withdrawals;
  /** A payer whose expiries failed; they are tried again. */
  onError: (error: unknown, payer: string) => void;
}

/** A row that an expiry wrote, or would. */
export interface Expired {
  payer_scope: PayerScope['name'];
  payer_id: string;
  grant_id: string;
  kind: 'expiry' | 'expiry_correction';
  /** Leaves the balance; negative: comes back. */
  expired_microdollars: number | bigint;
}

export type ExpiryResult = readonly Expired[] | 'busy';

export interface ExpiryLook {
  expired: Expired[];
  /** Payers that somebody else held. */
  busy: number;
  /** There were more payers than one look takes. */
  hasMore: boolean;
  /** Until something is due again, ms; null: nothing is known of. */
  nextInMs: number | null;
}

/** Payers of one look. */
const MAX_PAYERS = 100;
/** After which a payer is tried again that somebody else held, or that failed. */
export const BUSY_MS = 250;
const FAILED_MS = 60_000;

/**
 * Lets grants expire (docs/adr/0011-credit-grants.md). Under the lock of the payer's row, taken where it is
 * free: nobody waits for it but other account operations of this payer, and it waits for nobody.
 */
export class GrantExpirer {
  readonly #options: ExpirerOptions;
  readonly #query: Query;

  constructor(options: ExpirerOptions) {
    this.#options = options;
    this.#query = queryOnPool(options.pool, options.named);
  }

  /** One look at whatever is due. */
  async expireDue(signal?: AbortSignal): Promise<ExpiryLook> {
    const rows = await this.#query<DuePayersRow>(duePayersStatement(MAX_PAYERS));
    const expired: Expired[] = [];
    let busy = 0;
    for (const { payer_scope: name, payer_id: id } of rows) {
      if (name === null || id === null || signal?.aborted) break;
      const result = await this.#tryPayer(scopeNamed(name), id);
      if (result === 'busy') busy++;
      else expired.push(...result);
    }
    const hasMore = rows.length === MAX_PAYERS;
    return { expired, busy, hasMore, nextInMs: hasMore ? 0 : (rows[0]?.next_in_ms ?? null) };
  }

  async #tryPayer(scope: PayerScope, id: string): Promise<ExpiryResult> {
    let deferMs = BUSY_MS;
    let result: ExpiryResult = 'busy';
    try {
      result = await this.expirePayer(scope, id);
    } catch (error) {
      deferMs = FAILED_MS;
      this.#options.onError(error, `${scope.name}:${id}`);
    }
    if (result === 'busy') await this.#query(deferExpiriesStatement(scope, id, deferMs));
    return result;
  }

  /** One payer, whatever is due of it. @throws LedgerError `unknown_user`, `unknown_organization` */
  async expirePayer(scope: PayerScope, id: string): Promise<ExpiryResult> {
    try {
      return await inTransaction<ExpiryResult>(
        this.#options.pool,
        (client) => this.#expire(queryOn(client, this.#options.named), scope, id),
        { keep: (result) => result !== 'busy' },
      );
    } catch (error) {
      if (isLockTimeout(error)) return 'busy';
      throw error;
    }
  }

  async #expire(query: Query, scope: PayerScope, id: string): Promise<ExpiryResult> {
    const locked = await query<LockedPayerRow>(lockPayerStatement(scope, id, false));
    let state = await readKnown(query, scope, id);
    if (locked.length === 0) return 'busy';
    // Its grants expire where they are; what is left of them here is about to be cleaned away.
    if (locked[0]?.is_elsewhere) return [];
    let settlement = settleExpiries(state, null);
    const { withdrawals } = this.#options;
    const isWithdrawn = settlement.steps.some(({ amount }) => amount > 0n);
    if (isWithdrawn) {
      await withdrawals.open(scope, id);
      const available = await withdrawals.gather(query, scope, id);
      if (available === null) return 'busy';
      state = await readKnown(query, scope, id);
      settlement = settleExpiries(state, available);
    }
    await writeSettlement(query, scope, id, state, settlement);
    // The slots are locked until the end: what remains is distributed by this one.
    if (isWithdrawn) await withdrawals.gather(query, scope, id);
    return toExpired(scope, id, settlement);
  }

  /** What would be written now, if nobody else held anything. Changes nothing. */
  async preview(scope: PayerScope, id: string): Promise<Expired[]> {
    const state = await readKnown(this.#query, scope, id);
    return toExpired(scope, id, settleExpiries(state, null));
  }

  /** The same of everybody, those that are due longest. */
  async previewDue(limit: number): Promise<Expired[]> {
    const expired: Expired[] = [];
    for (const row of await this.#query<DuePayersRow>(duePayersStatement(limit))) {
      if (row.payer_scope === null || row.payer_id === null) continue;
      expired.push(...(await this.preview(scopeNamed(row.payer_scope), row.payer_id)));
    }
    return expired;
  }
}

async function readKnown(query: Query, scope: PayerScope, id: string): Promise<GrantsState> {
  const state = await readGrants(query, scope, id);
  if (state !== null) return state;
  throw scope.name === 'user' ? unknownUser() : unknownOrganization();
}

/** Under the lock of the payer's row. */
export async function writeSettlement(
  query: Query,
  scope: PayerScope,
  payerId: string,
  { mark }: GrantsState,
  { steps }: Settlement,
): Promise<void> {
  for (const { expires, ...step } of steps) {
    const { left = null, used = null } = expires ?? {};
    await query(writeExpiryStatement(scope, payerId, { ...step, left, used }, mark));
  }
}

function toExpired(scope: PayerScope, payerId: string, { steps }: Settlement): Expired[] {
  return steps
    .filter(({ expires, amount }) => expires !== null || amount !== 0n)
    .map(({ grantId, expires, amount }) => ({
      payer_scope: scope.name,
      payer_id: payerId,
      grant_id: grantId,
      kind: expires === null ? 'expiry_correction' : 'expiry',
      expired_microdollars: toExactInteger(amount),
    }));
}
