import type { FastifyRequest } from 'fastify';
import { z } from 'zod';
import type { Principal } from '../auth.js';
import { listVisibleBudgets } from '../budgetAccess.js';
import { type BudgetAsker, changeBudgetAs, removeBudgetAs, setBudgetAs } from '../budgetActions.js';
import { budgetChangeInput, budgetPayerInput, newBudgetInput } from '../budgetInput.js';
import type { ServerPlugin } from '../plugins.js';
import { parseBody, parseInput } from '../validation.js';

export const idParam = z.object({ id: z.string().meta({ format: 'uuid' }) });

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
    reply.code(201);
    return setBudgetAs(askerOf(request), parseBody(newBudgetInput, request.body));
  });
  app.get('/api/budgets', async (request) => {
    const { principal } = askerOf(request);
    const asked = parseInput(budgetPayerInput, request.query);
    return { budgets: await listVisibleBudgets(ledger, principal, asked) };
  });
  app.patch('/api/budgets/:id', async (request) => {
    const change = parseBody(budgetChangeInput, request.body);
    return changeBudgetAs(askerOf(request), idOf(request), change);
  });
  app.delete('/api/budgets/:id', async (request) =>
    removeBudgetAs(askerOf(request), idOf(request)),
  );
};
