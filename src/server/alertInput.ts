import { z } from 'zod';
import { DELIVERY_STATES } from '../alerts/deliveries.js';
import { ALERT_KINDS } from '../schema/alerts.js';
import { optionalText, optionalUuid, usd } from './validation.js';

/** Of HTTP and tRPC alike. Fields and types only; what a value may be is checked by src/alerts. */
const payer = { kilo_user_id: optionalText, organization_id: optionalUuid };

export const newAlertInput = z.strictObject({
  kind: z.string().meta({ enum: [...ALERT_KINDS] }),
  kilo_user_id: optionalText.describe(
    'Of kinds `balance` and `spend`: exactly one of user and organization.',
  ),
  organization_id: optionalUuid,
  budget_id: optionalUuid.describe('Of kind `budget`.'),
  thresholds_percent: z
    .array(z.number())
    .nullish()
    .describe(
      'Up to ten whole numbers. Of kind `budget` percent of its limit, to 1,000, default 50, 80 and 100; ' +
        "of `spend` percent of an hour's usual, 101 to 100,000, default 300.",
    ),
  below_usd: usd.nullish().describe('Of kind `balance`: told when less is left. USD, above 0.'),
  floor_usd: usd
    .nullish()
    .describe('Of kind `spend`: an hour with less is never told. USD, default 1.'),
});

export const alertPayerInput = z.strictObject(payer);

export const deliveriesInput = z.strictObject({
  ...payer,
  state: optionalText.meta({ enum: [...DELIVERY_STATES, null] }),
  limit: z.number().nullish().meta({ minimum: 1, maximum: 1_000, description: 'Default 100.' }),
});

export const newWebhookInput = z.strictObject({
  url: z.string().meta({ format: 'uri', description: 'https, and at a public address.' }),
  kilo_user_id: optionalText.describe(
    "Whose alerts it gets. Neither user nor organization: the own user's, of an `admin` everybody's.",
  ),
  organization_id: optionalUuid,
});

export const secretRotationInput = z.strictObject({
  overlap_hours: z.number().optional().meta({
    minimum: 0,
    maximum: 720,
    description: 'For how long the old secret signs as well. Default 24.',
  }),
});
