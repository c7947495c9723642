import { z } from 'zod';

/** Of HTTP and tRPC alike. Fields and types only; what a value may be is checked by src/budgets. */
const optionalText = z.string().nullish();
const usd = z.union([z.string(), z.number()]);

export const newBudgetInput = z.strictObject({
  scope: z.string(),
  id: z.string(),
  limit_usd: usd,
  window: z.string(),
  time_zone: optionalText,
  mode: optionalText,
  kilo_user_id: optionalText,
  organization_id: optionalText,
});

export const budgetChangeInput = z.strictObject({
  limit_usd: usd.nullish(),
  mode: optionalText,
  raise_usd: usd.nullish(),
  raise_until: optionalText,
});

export const budgetPayerInput = z.strictObject({
  kilo_user_id: optionalText,
  organization_id: optionalText,
});
