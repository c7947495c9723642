import { randomUUID } from 'node:crypto';
import type pg from 'pg';
import { type Query, queryOn, queryOnPool } from '../db/query.js';
import { withRetry } from '../db/retry.js';
import { isUniqueViolation, toLedgerError } from '../db/sqlstate.js';
import { inTransaction } from '../db/transaction.js';
import { elsewhere, LedgerError } from '../errors.js';
import { toSafeInteger } from '../money.js';
import { formatMicros } from '../record/instants.sql.js';
import {
  addCreditStatement,
  type CreditRow,
  readCreditStatement,
  type StoredCreditRow,
} from './credits.sql.js';
import { invalidField, unknownOrganization, unknownUser } from './fields.js';
import { writeSettlement } from './grants/expirer.js';
import { type LockedPayerRow, lockPayerStatement } from './grants/grants.sql.js';
import { readGrants } from './grants/readGrants.js';
import { settleExpiries } from './grants/settlement.js';
import { type NewCredit, readNewCredit, type ValidCredit } from './newCredit.js';

export interface Credit {
  id: string;
  status: 'recorded' | 'duplicate';
  kilo_user_id: string | null;
  organization_id: string | null;
  amount_microdollars: number;
  description: string | null;
  /** ISO 8601; null: never. */
  expires_at: string | null;
  priority: number;
  /** ISO 8601; of a duplicate the first one's. */
  created_at: string;
  /** Of the payer, now. */
  total_microdollars_acquired: number;
}

/**
 * Top-up of a user or an organization: a grant (docs/adr/0011-credit-grants.md). The same id with the
 * same payer, amount, expiry and priority again adds nothing, also after it has expired. Sent again where
 * the connection was lost, so it may be a `duplicate` of itself.
 * @throws LedgerError `invalid_request` naming the field, `unknown_user` (also of a deleted one),
 *   `unknown_organization`, `idempotency_conflict`, `out_of_range`
 */
export async function addCredit(pool: pg.Pool, credit: NewCredit): Promise<Credit> {
  const valid = readNewCredit(credit);
  // Without one it gets it here: what a commit did whose answer was lost is told by it.
  const named = { ...valid, id: valid.id ?? randomUUID() };
  try {
    if (valid.expiresAt !== null && valid.expiresAt.epochMs <= Date.now()) {
      const duplicate = await readDuplicate(queryOnPool(pool, false), valid);
      if (duplicate !== null) return duplicate;
      throw invalidField('expires_at', 'lies in the past: name a time to come, or leave it out');
    }
    return await withRetry(
      () => inTransaction(pool, (client) => add(queryOn(client, false), named)),
      { splits: true },
    );
  } catch (error) {
    if (!isUniqueViolation(error)) throw toLedgerError(error);
    const duplicate = await readDuplicate(queryOnPool(pool, false), named);
    if (duplicate === null) throw toLedgerError(error);
    return valid.id === null ? { ...duplicate, status: 'recorded' } : duplicate;
  }
}

/**
 * In a statement each, so that the later ones see what the payer's row was locked after: what has expired
 * by now is noted before, and the grant is used by what the payer uses from here on.
 */
async function add(query: Query, credit: ValidCredit): Promise<Credit> {
  const { scope, payerId } = credit;
  const [payer] = await query<LockedPayerRow>(lockPayerStatement(scope, payerId, true));
  const state = payer === undefined ? null : await readGrants(query, scope, payerId);
  if (payer === undefined || state === null) {
    throw scope.name === 'user' ? unknownUser() : unknownOrganization();
  }
  if (payer.is_elsewhere) throw elsewhere(scope.name);
  if (payer.is_deleted) {
    throw new LedgerError('unknown_user', 'kilo_user_id names a user who was deleted', {
      details: { field: 'kilo_user_id' },
    });
  }
  // Nothing can be withdrawn here: what is left of a grant whose time is over goes with its expiry.
  const settlement = settleExpiries(state, 0n);
  await writeSettlement(query, scope, payerId, state, settlement);
  const used = state.used - settlement.late;
  const [row] = await query<CreditRow>(addCreditStatement(credit, used));
  if (row === undefined) {
    throw new LedgerError('out_of_range', 'the total acquired would leave the safe integer range');
  }
  return toCredit('recorded', row);
}

/**
 * The credit that has this id, if there is one.
 * @throws LedgerError `idempotency_conflict`: it is another one
 */
async function readDuplicate(query: Query, credit: ValidCredit): Promise<Credit | null> {
  if (credit.id === null) return null;
  const [row] = await query<StoredCreditRow>(readCreditStatement(credit));
  if (row === undefined) return null;
  if (!row.is_same) {
    throw new LedgerError(
      'idempotency_conflict',
      'id names a credit of another payer, amount, expiry or priority',
      { details: { field: 'id' } },
    );
  }
  return toCredit('duplicate', row);
}

function toCredit(status: Credit['status'], row: CreditRow): Credit {
  return {
    id: row.id,
    status,
    kilo_user_id: row.kilo_user_id,
    organization_id: row.organization_id,
    amount_microdollars: toSafeInteger(row.amount_microdollars),
    description: row.description,
    expires_at: row.expires_micros === null ? null : formatMicros(row.expires_micros),
    priority: toSafeInteger(row.priority),
    created_at: row.created_at.toISOString(),
    total_microdollars_acquired: toSafeInteger(row.total_microdollars_acquired),
  };
}
