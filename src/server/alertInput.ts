import { z } from 'zod';

/** Of HTTP and tRPC alike. Fields and types only; what a value may be is checked by src/alerts. */
const optionalText = z.string().nullish();
const usd = z.union([z.string(), z.number()]).nullish();
const payer = { kilo_user_id: optionalText, organization_id: optionalText };

export const newAlertInput = z.strictObject({
  kind: z.string(),
  ...payer,
  budget_id: optionalText,
  thresholds_percent: z.array(z.number()).nullish(),
  below_usd: usd,
  floor_usd: usd,
});

export const newWebhookInput = z.strictObject({ url: z.string(), ...payer });

/** Whose alerts, webhooks or deliveries. */
export const alertPayerInput = z.strictObject(payer);
