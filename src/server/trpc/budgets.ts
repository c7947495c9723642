import { z } from 'zod';
import { toJson } from '../../money.js';
import { listPayersBudgets } from '../../shards/lists.js';
import { listVisibleBudgets } from '../budgetAccess.js';
import { type BudgetAsker, changeBudgetAs, removeBudgetAs, setBudgetAs } from '../budgetActions.js';
import { budgetChangeInput, budgetPayerInput, newBudgetInput } from '../budgetInput.js';
import { inputOf, inputOrNothing, uuid } from '../validation.js';
import type { TrpcContext } from './context.js';
import { procedureFor, router } from './procedure.js';

const MAX_PAYERS = 100;
const DEFAULT_PAYERS = 20;

const payersInput = z.strictObject({
  /** The last payer of the page before. */
  after: z.strictObject({ scope: z.enum(['user', 'organization']), id: z.string() }).nullish(),
  limit: z.int().min(1).max(MAX_PAYERS).nullish(),
});
const changeInput = budgetChangeInput.extend({ id: uuid });
const removeInput = z.strictObject({ id: uuid });

/** Budgets of one payer, the balance first, as far as the asker may see them (budgetAccess.ts). */
const list = procedureFor(
  'usage:read',
  'Budgets of one payer, the balance first, as far as the asker may see them.',
)
  .input(inputOrNothing(budgetPayerInput))
  .query(async ({ ctx, input }) => ({
    budgets: toJson(await listVisibleBudgets(ctx.ledger, ctx.principal, input)),
  }));

/** Everybody's, by payer, in pages. */
const payers = procedureFor('admin', 'Budgets of everybody, by payer, in pages.')
  .input(inputOrNothing(payersInput))
  .query(async ({ ctx, input }) =>
    toJson(await listPayersBudgets(ctx.ledger, input.after ?? null, input.limit ?? DEFAULT_PAYERS)),
  );

const askerOf = ({
  ledger,
  principal,
  request,
}: TrpcContext & Pick<BudgetAsker, 'principal'>): BudgetAsker => ({
  ledger,
  principal,
  log: request.log,
});

const set = procedureFor('usage:read', 'Sets a budget, as `POST /api/budgets`.')
  .input(inputOf(newBudgetInput))
  .mutation(async ({ ctx, input }) => toJson(await setBudgetAs(askerOf(ctx), input)));

const change = procedureFor(
  'usage:read',
  'Changes or raises a budget, as `PATCH /api/budgets/{id}`.',
)
  .input(inputOf(changeInput))
  .mutation(async ({ ctx, input: { id, ...changed } }) =>
    toJson(await changeBudgetAs(askerOf(ctx), id, changed)),
  );

const remove = procedureFor('usage:read', 'Removes a budget, as `DELETE /api/budgets/{id}`.')
  .input(inputOf(removeInput))
  .mutation(({ ctx, input }) => removeBudgetAs(askerOf(ctx), input.id));

/** For the page: budgets are seen, set, changed, raised and removed there. */
export const budgetsRouter = router({ list, payers, set, change, remove });
