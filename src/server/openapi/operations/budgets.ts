import { budgetChangeInput, budgetPayerInput, newBudgetInput } from '../../budgetInput.js';
import { idParam } from '../../routes/budgets.js';
import { EXAMPLE } from '../examples.js';
import { toJsonSchema } from '../jsonSchema.js';
import type { OperationDoc } from '../types.js';

export const budgetSchemas = {
  NewBudget: toJsonSchema(newBudgetInput),
  BudgetChange: toJsonSchema(budgetChangeInput),
};

const budget = {
  id: EXAMPLE.budget,
  scope: 'user',
  kilo_user_id: EXAMPLE.user,
  organization_id: null,
  api_key_id: null,
  project_id: null,
  window: 'month',
  time_zone: 'Europe/Berlin',
  is_hard: true,
  is_balance: false,
  set_by: 'admin',
  limit_microdollars: 20_000_000,
  raise_microdollars: null,
  raise_until: null,
  spent_microdollars: 1250,
  held_microdollars: 0,
  available_microdollars: 19_998_750,
  overshoot_microdollars: 0,
  resets_at: '2026-11-30T23:00:00.000000Z',
};
const one = (description: string) => ({ description, body: { schema: 'Budget', example: budget } });

const common = { tag: 'budgets', scope: 'usage:read' } as const;
const WRITERS =
  'By `admin`, an owner of the organization that pays, or the user whose usage alone it limits.';

export const budgetOperations: readonly OperationDoc[] = [
  {
    ...common,
    id: 'setBudget',
    method: 'post',
    path: '/api/budgets',
    summary: 'Set a budget',
    description:
      'The same scope, subject and window again changes its limit. In force for the next hold. ' +
      WRITERS,
    bodies: [
      {
        schema: 'NewBudget',
        example: {
          scope: 'user',
          id: EXAMPLE.user,
          limit_usd: '20',
          window: 'month',
          time_zone: 'Europe/Berlin',
        },
      },
    ],
    answers: { 201: one('Set') },
    errors: ['unknown_user', 'unknown_organization', 'not_found'],
  },
  {
    ...common,
    id: 'listBudgets',
    method: 'get',
    path: '/api/budgets',
    summary: 'List budgets',
    description:
      "With what is spent, held and left, exact in one snapshot. A user's key reads its " +
      'own; without a payer `admin` reads those of up to a thousand payers that have some (of all, in ' +
      'pages: `budgets.payers`).',
    search: budgetPayerInput,
    answers: {
      200: {
        description: 'Of one payer with its balance',
        body: { schema: 'BudgetList', example: { budgets: [budget] } },
      },
    },
    errors: ['unknown_user', 'unknown_organization'],
  },
  {
    ...common,
    id: 'changeBudget',
    method: 'patch',
    path: '/api/budgets/{id}',
    summary: 'Change a budget, or raise it for a time',
    description: WRITERS,
    params: idParam,
    bodies: [
      {
        schema: 'BudgetChange',
        example: { raise_usd: '5', raise_until: '2999-01-01T00:00:00Z' },
      },
    ],
    answers: { 200: one('Changed') },
    errors: ['not_found'],
  },
  {
    ...common,
    id: 'removeBudget',
    method: 'delete',
    path: '/api/budgets/{id}',
    summary: 'Remove a budget',
    description: `It limits nothing from the next hold on. ${WRITERS}`,
    params: idParam,
    answers: {
      200: {
        description: 'Removed',
        body: { schema: 'RemovedBudget', example: { id: EXAMPLE.budget } },
      },
    },
    errors: ['not_found'],
  },
];
