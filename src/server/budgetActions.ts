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
import { atRow } from '../shards/atRow.js';
import { actorOf, type Principal } from './auth.js';
import { authorizeBudget, authorizeBudgetChange, budgetStoreOf } from './budgetAccess.js';
import type { budgetChangeInput, newBudgetInput } from './budgetInput.js';

/** What HTTP and tRPC do alike: only for who may, and told to the log. */
export interface BudgetAsker {
  ledger: Ledger;
  principal: Principal;
  log: FastifyBaseLogger;
}

/** On the part that has who pays; what names nobody is refused by any of them. */
function atBudgetSubject<T>(
  ledger: Ledger,
  { scope, id, kilo_user_id, organization_id }: z.output<typeof newBudgetInput>,
  run: (part: Ledger) => Promise<T>,
): Promise<T> {
  if (scope === 'key') return atRow(ledger, 'api_keys', id, run);
  if (scope === 'user') return ledger.at({ kilo_user_id: id }, run);
  const organization = scope === 'organization' ? id : (organization_id ?? null);
  return ledger.at({ kilo_user_id, organization_id: organization }, run);
}

/** @throws LedgerError as `setBudget`; `forbidden` */
export async function setBudgetAs(
  { ledger, principal, log }: BudgetAsker,
  input: z.output<typeof newBudgetInput>,
): Promise<Budget> {
  const wanted = { ...input, created_by: actorOf(principal) };
  const budget = await atBudgetSubject(ledger, input, (part) =>
    setBudget(budgetStoreOf(part), wanted, (subject) =>
      authorizeBudget(ledger, principal, subject),
    ),
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
  const budget = await atRow(ledger, 'budgets', id, async (part) => {
    await authorizeBudgetChange(ledger, principal, await findBudget(part.pool, id));
    return changeBudget(budgetStoreOf(part), id, change);
  });
  log.info({ keyId: principal.keyId, budgetId: budget.id }, 'budget changed');
  return budget;
}

/** @throws LedgerError `not_found`, `forbidden` */
export async function removeBudgetAs(
  { ledger, principal, log }: BudgetAsker,
  id: string,
): Promise<{ id: string }> {
  const removed = await atRow(ledger, 'budgets', id, async (part) => {
    await authorizeBudgetChange(ledger, principal, await findBudget(part.pool, id));
    return removeBudget(budgetStoreOf(part), id);
  });
  log.info({ keyId: principal.keyId, budgetId: removed.id }, 'budget removed');
  return removed;
}
