import type pg from 'pg';
import { requireAccounts } from '../accounts/requireAccounts.js';
import { type BudgetPayer, readPayer } from '../budgets/budgets.js';

/** `--user` or `--org`. */
export interface PayerOptions {
  user?: string;
  org?: string;
}

/** Null: neither was named. @throws LedgerError naming the field where both were */
export function payerOf({ user, org }: PayerOptions): BudgetPayer | null {
  return user === undefined && org === undefined ? null : readPayer(user, org);
}

/**
 * The same of a payer that is there, also one that was deleted: a typing error must not look like a list
 * without rows.
 * @throws LedgerError `unknown_user`, `unknown_organization`
 */
export async function knownPayerOf(
  pool: pg.Pool,
  options: PayerOptions,
): Promise<BudgetPayer | null> {
  const payer = payerOf(options);
  if (payer === null) return null;
  await requireAccounts(
    pool,
    payer.scope === 'user' ? { kilo_user_id: payer.id } : { organization_id: payer.id },
  );
  return payer;
}
