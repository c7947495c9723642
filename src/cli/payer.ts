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
