import { z } from 'zod';
import { SCOPES } from '../../accounts/scopes.js';
import { DELIVERY_STATES } from '../../alerts/deliveries.js';
import { ALERT_KINDS } from '../../schema/alerts.js';
import { BUDGET_PERIODS, BUDGET_SCOPES, BUDGET_SETTERS } from '../../schema/budgets.js';
import { CREDIT_KINDS } from '../../schema/credits.js';
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
  expires_at: instant.nullable().describe('Null: never.'),
  priority: z.int(),
  created_at: instant,
  total_microdollars_acquired: z.int().describe('Of the payer, now.'),
});
const listedCredit = z.object({
  id: uuid,
  kind: z.enum(CREDIT_KINDS),
  grant_id: uuid.nullable().describe('The grant that an expiry is of.'),
  kilo_user_id: z.string().nullable(),
  organization_id: uuid.nullable(),
  amount_microdollars: microdollars,
  description: z.string().nullable(),
  expires_at: instant.nullable().describe('Null: never.'),
  priority: z.int(),
  created_at: instant,
  grant: z
    .object({
      status: z
        .enum(['active', 'used', 'expiring', 'expired'])
        .describe('`expiring`: its time is over, and some of it is held or not yet written off.'),
      left_microdollars: microdollars,
      used_microdollars: microdollars,
      expired_microdollars: microdollars,
    })
    .nullable()
    .describe('What became of it; null of what was taken back, and of expiries.'),
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
  set_by: z.enum(BUDGET_SETTERS).describe('Who changes it, beside an administrator.'),
  limit_microdollars: z.int(),
  raise_microdollars: z.int().nullable(),
  raise_until: instant.nullable(),
  spent_microdollars: microdollars,
  held_microdollars: microdollars,
  available_microdollars: microdollars,
  overshoot_microdollars: microdollars,
  resets_at: instant.nullable().describe('Null: of all time.'),
});
const payer = { kilo_user_id: z.string().nullable(), organization_id: uuid.nullable() };
const alert = z.object({
  id: uuid,
  kind: z.enum(ALERT_KINDS),
  ...payer,
  budget_id: uuid.nullable(),
  thresholds_percent: z.array(z.int()).nullable(),
  below_microdollars: z.int().nullable(),
  floor_microdollars: z.int().nullable(),
  created_at: instant,
  last_event_at: instant.nullable().describe('When it told something last.'),
});
const webhook = z.object({
  id: uuid,
  ...payer,
  url: z.string(),
  previous_secret_until: instant.nullable().describe('Until then two secrets sign.'),
  failing_since: instant.nullable().describe('Since its last try that succeeded.'),
  disabled_at: instant.nullable(),
  disabled_reason: z.string().nullable(),
  created_at: instant,
});
const delivery = z.object({
  id: uuid.nullable().describe('Null: no webhook was there for it.'),
  event_id: uuid,
  alert_id: uuid,
  kind: z.enum(ALERT_KINDS),
  type: z.string().describe('Of the event, as the webhook gets it.'),
  ...payer,
  budget_id: uuid.nullable(),
  window_start: instant.nullable().describe('Null: of all time.'),
  window_end: instant.nullable(),
  threshold: microdollars.describe('Percent, or of a low balance microdollars.'),
  limit_microdollars: microdollars.describe('Of the budget, what was acquired, or what is usual.'),
  spent_microdollars: microdollars,
  created_at: instant,
  webhook_id: uuid.nullable(),
  url: z.string().nullable(),
  state: z.enum(DELIVERY_STATES).nullable(),
  attempts: z.int(),
  next_attempt_at: instant.nullable(),
  last_attempt_at: instant.nullable(),
  last_status: z.int().nullable().describe('HTTP, of the last try.'),
  last_error: z.string().nullable(),
  delivered_at: instant.nullable(),
  dead_at: instant.nullable(),
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
  ListedCredit: listedCredit,
  CreditList: z.object({
    credits: z.array(reference('ListedCredit')),
    has_more: z.boolean(),
    next_expiry_at: instant
      .nullable()
      .describe('When the next grant that has something left expires; null: none does.'),
  }),
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
  Alert: alert,
  AlertList: z.object({ alerts: z.array(reference('Alert')) }),
  RemovedAlert: z.object({ id: uuid }),
  Webhook: webhook,
  NewWebhookSecret: webhook.extend({ secret: z.string().describe('Shown this once.') }),
  WebhookList: z.object({ webhooks: z.array(reference('Webhook')) }),
  RemovedWebhook: z.object({ id: uuid }),
  WebhookTest: z.object({
    delivered: z.boolean(),
    status: z.int().nullable().describe('HTTP; null: no answer.'),
    error: z.string().nullable(),
  }),
  Delivery: delivery,
  DeliveryList: z.object({ deliveries: z.array(reference('Delivery')) }),
  Replayed: z.object({ replayed: z.int().describe('How many dead letters are tried again.') }),
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
    pairs: z
      .object({ by: z.array(z.string()), rows: z.array(row.omit({ start: true })) })
      .optional()
      .describe('With `and_by`: the largest pairs over the whole range, largest first.'),
    previous: z
      .object({
        from: z.string().meta({ format: 'date' }),
        until: z.string().meta({ format: 'date' }),
        rows: z.array(z.object({ start: z.string(), ...sums.shape })),
        total: sums,
      })
      .optional(),
    source,
    member_names: z
      .record(z.string(), z.string())
      .optional()
      .describe('Of members that the report names, and that have a name: by id.'),
  }),
  Health: z.object({ status: z.literal('ok') }),
  Readiness: z.object({
    status: z.literal('ready'),
    shards: z
      .array(
        z.object({
          name: z.string(),
          status: z.enum(['ready', 'unavailable']),
          reason: z.string().optional(),
        }),
      )
      .optional()
      .describe('Over shards: each. The service is ready while it can use one of them.'),
  }),
  NotReady: z.object({ status: z.literal('unavailable'), error }),
};
