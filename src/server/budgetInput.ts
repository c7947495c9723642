import { z } from 'zod';
import { BUDGET_MODES } from '../budgets/newBudget.js';
import { BUDGET_PERIODS, BUDGET_SCOPES } from '../schema/budgets.js';
import { optionalText, optionalUuid, usd } from './validation.js';

/** Of HTTP and tRPC alike. Fields and types only; what a value may be is checked by src/budgets. */
const limit = usd.describe('USD, from 0 to a billion.');
const mode = optionalText.meta({
  enum: [...BUDGET_MODES, null],
  description:
    'A soft one is counted and shown, and refuses nothing. Default: as it is, of a new one `hard`.',
});

export const newBudgetInput = z.strictObject({
  scope: z.string().meta({ enum: [...BUDGET_SCOPES] }),
  id: z.string().describe('Of the user, organization, member (a user), key or project.'),
  limit_usd: limit,
  window: z.string().meta({ enum: [...BUDGET_PERIODS] }),
  time_zone: optionalText.describe(
    'IANA name, like Europe/Berlin. Default: as it is, of a new one UTC.',
  ),
  mode,
  kilo_user_id: optionalText.describe('Who pays for a project.'),
  organization_id: optionalUuid.describe(
    'Of a member the organization; or who pays for a project.',
  ),
});

export const budgetChangeInput = z.strictObject({
  limit_usd: limit.nullish(),
  mode,
  raise_usd: limit.nullish().describe('USD, added to the limit until `raise_until`.'),
  raise_until: optionalText.meta({ format: 'date-time', description: 'In the future.' }),
});

export const budgetPayerInput = z.strictObject({
  kilo_user_id: optionalText,
  organization_id: optionalUuid,
});
