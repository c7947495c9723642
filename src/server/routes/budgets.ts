import type { FastifyRequest } from 'fastify';
import { z } from 'zod';
<<<<<<< HEAD
import { isOrganizationOwner } from '../../accounts/memberships.js';
import {
  type BudgetPayer,
  changeBudget,
  findBudget,
  listBudgets,
  readPayer,
  removeBudget,
  setBudget,
} from '../../budgets/budgets.js';
import { BUDGET_MODES } from '../../budgets/newBudget.js';
import { LedgerError } from '../../errors.js';
import { BUDGET_PERIODS, BUDGET_SCOPES } from '../../schema/budgets.js';
import type { Principal } from '../auth.js';
import type { ServerPlugin, ServerServices } from '../plugins.js';
import { parseBody, parseInput } from '../validation.js';

// Fields and types only; what a value may be is checked by src/budgets.
const optionalText = z.string().nullish();
const optionalUuid = optionalText.meta({ format: 'uuid' });
const usd = z.union([z.string(), z.number()]).describe('USD, 0 or more.');
const mode = optionalText.meta({
  enum: [...BUDGET_MODES, null],
  description: 'A soft one is counted and shown, and refuses nothing. Default `hard`.',
});
export const newBudget = z.strictObject({
  scope: z.string().meta({ enum: [...BUDGET_SCOPES] }),
  id: z.string().describe('Of the user, organization, member (a user), key or project.'),
  limit_usd: usd,
  window: z.string().meta({ enum: [...BUDGET_PERIODS] }),
  time_zone: optionalText.describe('IANA name, like Europe/Berlin. Default UTC.'),
  mode,
  kilo_user_id: optionalText.describe('Who pays for a project.'),
  organization_id: optionalUuid.describe(
    'Of a member the organization; or who pays for a project.',
  ),
});
export const budgetChange = z.strictObject({
  limit_usd: usd.nullish(),
  mode,
  raise_usd: usd.nullish().describe('USD, added to the limit until `raise_until`.'),
  raise_until: optionalText.meta({ format: 'date-time', description: 'In the future.' }),
});
export const budgetFilter = z.strictObject({
  kilo_user_id: optionalText,
  organization_id: optionalUuid,
});
export const idParam = z.object({ id: z.string().meta({ format: 'uuid' }) });
=======
import type { Principal } from '../auth.js';
import { budgetStoreOf, listVisibleBudgets } from '../budgetAccess.js';
import { type BudgetAsker, changeBudgetAs, removeBudgetAs, setBudgetAs } from '../budgetActions.js';
import { budgetChangeInput, budgetPayerInput, newBudgetInput } from '../budgetInput.js';
import type { ServerPlugin } from '../plugins.js';
import { parseInput } from '../validation.js';

const idParam = z.object({ id: z.string() });
>>>>>>> page

/** Budgets: of anybody for `admin`; who else sets and sees which is in budgetAccess.ts. */
export const budgetRoutes: ServerPlugin = (app, { ledger, requireScope }) => {
  app.addHook('onRequest', requireScope('usage:read'));
  const askerOf = (request: FastifyRequest): BudgetAsker => ({
    ledger,
    principal: request.principal as Principal,
    log: request.log,
  });
  const idOf = (request: FastifyRequest) => parseInput(idParam, request.params).id;

  app.post('/api/budgets', async (request, reply) => {
<<<<<<< HEAD
    const principal = request.principal as Principal;
    const wanted = parseBody(newBudget, request.body);
    const createdBy = principal.kiloUserId ?? principal.keyId;
=======
>>>>>>> page
    reply.code(201);
    return setBudgetAs(askerOf(request), parseInput(newBudgetInput, request.body));
  });
  app.get('/api/budgets', async (request) => {
<<<<<<< HEAD
    const principal = request.principal as Principal;
    const { kilo_user_id: user, organization_id: organization } = parseInput(
      budgetFilter,
      request.query,
    );
    const isOfOne = (user ?? organization ?? null) !== null;
    const payer = isOfOne ? readPayer(user, organization) : ownPayer(principal);
    await checkRead(services, principal, payer);
    return { budgets: await listBudgets(store, payer) };
  });
  app.patch('/api/budgets/:id', async (request) => {
    const { id } = parseInput(idParam, request.params);
    await checkWrite(services, request.principal as Principal, await findBudget(ledger.pool, id));
    return changeBudget(store, id, parseBody(budgetChange, request.body));
=======
    const { principal } = askerOf(request);
    const asked = parseInput(budgetPayerInput, request.query);
    return { budgets: await listVisibleBudgets(budgetStoreOf(ledger), principal, asked) };
  });
  app.patch('/api/budgets/:id', async (request) => {
    const change = parseInput(budgetChangeInput, request.body);
    return changeBudgetAs(askerOf(request), idOf(request), change);
>>>>>>> page
  });
  app.delete('/api/budgets/:id', async (request) =>
    removeBudgetAs(askerOf(request), idOf(request)),
  );
};
