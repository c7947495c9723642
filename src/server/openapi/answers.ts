import { z } from 'zod';
import { SCOPES } from '../../accounts/scopes.js';
import { BUDGET_PERIODS, BUDGET_SCOPES } from '../../schema/budgets.js';
import { METRIC_NAMES } from '../../schema/dimensionRollups.js';
import { reference } from './jsonSchema.js';

// What routes answer. A test holds the answers of a server to it, field by field.
const uuid = z.string().meta({ format: 'uuid' });
const instant = z.string().meta({ format: 'date-time' });
const microdollars = reference('ExactInteger');
const error = reference('ErrorBody');

const user = z.object({
  id: z.string(),
  email: z.string().nullable(),
  name: z.string().nullable(),
  microdollars_used: z.int(),
  total_microdollars_acquired: z.int(),
  kilo_pass_threshold: z.int().nullable().describe('Microdollars.'),
  created_at: instant,
});
const organization = z.object({
  id: uuid,
  name: z.string(),
  microdollars_used: z.int(),
  total_microdollars_acquired: z.int(),
  created_at: instant,
});
const membership = z.object({
  organization_id: uuid,
  kilo_user_id: z.string(),
  role: z.string(),
});
const apiKey = z.object({
  id: uuid,
  key_prefix: z.string().describe('First characters of the key, to recognize it.'),
  name: z.string().nullable(),
  kilo_user_id: z.string().nullable(),
  organization_id: uuid.nullable(),
  scopes: z.array(z.enum(SCOPES)),
  created_at: instant,
  last_used_at: instant.nullable().describe('To about a minute; null = never.'),
  revoked_at: instant.nullable(),
});
const credit = z.object({
  id: uuid,
  status: z.enum(['recorded', 'duplicate']),
  kilo_user_id: z.string().nullable(),
  organization_id: uuid.nullable(),
  amount_microdollars: z.int(),
  description: z.string().nullable(),
  created_at: instant,
  total_microdollars_acquired: z.int().describe('Of the payer, now.'),
});
const recorded = z.object({
  id: uuid,
  status: z
    .enum(['recorded', 'duplicate'])
    .describe('`duplicate`: it is there already, and nothing was changed.'),
  created_at: instant,
  new_microdollars_used: reference('NullableExactInteger'),
});
const rejected = z.object({
  id: z.string().nullable(),
  status: z.literal('rejected'),
  created_at: z.null(),
  new_microdollars_used: z.null(),
  error,
});
const budget = z.object({
  id: uuid,
  scope: z.enum(BUDGET_SCOPES),
  kilo_user_id: z.string().nullable(),
  organization_id: uuid.nullable(),
  api_key_id: uuid.nullable(),
  project_id: z.string().nullable(),
  window: z.enum(BUDGET_PERIODS),
  time_zone: z.string(),
  is_hard: z.boolean(),
  is_balance: z.boolean().describe('What the payer acquired, as a budget.'),
  limit_microdollars: z.int(),
  raise_microdollars: z.int().nullable(),
  raise_until: instant.nullable(),
  spent_microdollars: microdollars,
  held_microdollars: microdollars,
  available_microdollars: microdollars,
  overshoot_microdollars: microdollars,
  resets_at: instant.nullable().describe('Null: of all time.'),
});
const hold = z.object({
  id: uuid,
  status: z.enum(['granted', 'duplicate']),
  amount: z.int().describe('Microdollars that are held; 0 when settled already.'),
  available_microdollars: z.int().describe('Left of the window that has least.'),
  created_at: instant.nullable(),
});
const sums = z.object(Object.fromEntries(METRIC_NAMES.map((name) => [name, microdollars])));
const row = z.object({
  start: z.string().describe("The period's first instant: a day of the zone, by hour a time."),
  model: z.string().nullable().optional(),
  provider: z.string().nullable().optional(),
  api_key_id: uuid.nullable().optional(),
  project_id: z.string().nullable().optional(),
  kilo_user_id: z.string().nullable().optional(),
  other: z.literal(true).optional().describe('What is beyond the largest groups.'),
  ...sums.shape,
});
const source = z.object({
  mode: z.enum(['raw', 'rollup']),
  server: z.enum(['primary', 'replica']),
  asOf: instant,
});

export const ANSWERS: Readonly<Record<string, z.ZodType>> = {
  ExactInteger: z
    .union([z.int(), z.string().regex(/^-?\d+$/)])
    .describe('A number, or past 2^53 a decimal string.'),
  NullableExactInteger: z
    .union([z.int(), z.string().regex(/^-?\d+$/), z.null()])
    .describe(
      "The payer's balance used, microdollars; null: recorded, but not to be read just now.",
    ),
  User: user,
  Organization: organization,
  Membership: membership,
  RemovedMembership: z.object({
    organization_id: uuid,
    kilo_user_id: z.string(),
    removed: z.literal(true),
  }),
  ApiKey: apiKey,
  CreatedApiKey: apiKey.extend({ key: z.string().describe('Shown this once.') }),
  ApiKeyList: z.object({ keys: z.array(reference('ApiKey')) }),
  Credit: credit,
  Adjustment: recorded.extend({
    adjusts_usage_id: uuid,
    kilo_user_id: z.string(),
    organization_id: uuid.nullable(),
    cost: z.int().describe('Microdollars, signed.'),
  }),
  RecordedUsage: recorded,
  RejectedUsage: rejected,
  UsageResults: z.object({
    results: z
      .array(z.union([reference('RecordedUsage'), reference('RejectedUsage')]))
      .describe('One an event, in order.'),
  }),
  Budget: budget,
  BudgetList: z.object({ budgets: z.array(reference('Budget')) }),
  RemovedBudget: z.object({ id: uuid }),
  Hold: hold,
  ReleasedHold: z.object({ id: uuid, status: z.enum(['released', 'duplicate', 'settled']) }),
  UsageReport: z.object({
    from: z.string().meta({ format: 'date' }),
    until: z.string().meta({ format: 'date' }),
    zone: z.string(),
    grain: z.string(),
    by: z.array(z.string()),
    rows: z.array(row),
    total: sums,
    previous: z
      .object({
        from: z.string().meta({ format: 'date' }),
        until: z.string().meta({ format: 'date' }),
        rows: z.array(z.object({ start: z.string(), ...sums.shape })),
        total: sums,
      })
      .optional(),
    source,
  }),
  Health: z.object({ status: z.literal('ok') }),
  Readiness: z.object({ status: z.literal('ready') }),
  NotReady: z.object({ status: z.literal('unavailable'), error }),
};
