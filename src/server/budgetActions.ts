import type { FastifyBaseLogger } from 'fastify';
import type { z } from 'zod';
import {
  type Budget,
  changeBudget,
  findBudget,
  removeBudget,
  setBudget,
} from '../budgets/budgets.js';
import type { Ledger } from '../ledgerTypes.js';
import { actorOf, type Principal } from './auth.js';
import { authorizeBudget, authorizeBudgetChange, budgetStoreOf } from './budgetAccess.js';
import type { budgetChangeInput, newBudgetInput } from './budgetInput.js';

/** What HTTP and tRPC do alike: only for who may, and told to the log. */
export interface BudgetAsker {
  ledger: Ledger;
  principal: Principal;
  log: FastifyBaseLogger;
}

/** @throws LedgerError as `setBudget`; `forbidden` */
export async function setBudgetAs(
  { ledger, principal, log }: BudgetAsker,
  input: z.output<typeof newBudgetInput>,
): Promise<Budget> {
  const wanted = { ...input, created_by: actorOf(principal) };
  const budget = await setBudget(budgetStoreOf(ledger), wanted, (subject) =>
    authorizeBudget(ledger.pool, principal, subject),
  );
  log.info({ keyId: principal.keyId, budgetId: budget.id }, 'budget set');
  return budget;
}

/** @throws LedgerError as `changeBudget`; `forbidden` */
export async function changeBudgetAs(
  { ledger, principal, log }: BudgetAsker,
  id: string,
  change: z.output<typeof budgetChangeInput>,
): Promise<Budget> {
  await authorizeBudgetChange(ledger.pool, principal, await findBudget(ledger.pool, id));
  const budget = await changeBudget(budgetStoreOf(ledger), id, change);
  log.info({ keyId: principal.keyId, budgetId: budget.id }, 'budget changed');
  return budget;
}

/** @throws LedgerError `not_found`, `forbidden` */
export async function removeBudgetAs(
  { ledger, principal, log }: BudgetAsker,
  id: string,
): Promise<{ id: string }> {
  await authorizeBudgetChange(ledger.pool, principal, await findBudget(ledger.pool, id));
  const removed = await removeBudget(budgetStoreOf(ledger), id);
  log.info({ keyId: principal.keyId, budgetId: removed.id }, 'budget removed');
  return removed;
}
