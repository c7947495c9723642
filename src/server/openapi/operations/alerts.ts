import {
  alertPayerInput,
  newAlertInput,
  newWebhookInput,
  secretRotationInput,
} from '../../alertInput.js';
import { deliveriesSearch, idParam } from '../../routes/alerts.js';
import { EXAMPLE } from '../examples.js';
import { toJsonSchema } from '../jsonSchema.js';
import type { OperationDoc } from '../types.js';

export const alertSchemas = {
  NewAlert: toJsonSchema(newAlertInput),
  NewWebhook: toJsonSchema(newWebhookInput),
  SecretRotation: toJsonSchema(secretRotationInput),
};

const URL = 'https://example.com/hooks/spend';
const payer = { kilo_user_id: EXAMPLE.user, organization_id: null };
const alert = {
  id: EXAMPLE.alert,
  kind: 'balance',
  ...payer,
  budget_id: null,
  thresholds_percent: null,
  below_microdollars: 5_000_000,
  floor_microdollars: null,
  created_at: EXAMPLE.atMicros,
  last_event_at: null,
};
const webhook = {
  id: EXAMPLE.webhook,
  ...payer,
  url: URL,
  previous_secret_until: null,
  failing_since: null,
  disabled_at: null,
  disabled_reason: null,
  created_at: EXAMPLE.atMicros,
};
const secret = 'whsec_...';
const delivery = {
  id: '6a7b8c9d-0e1f-4a2b-8c3d-4e5f60718293',
  event_id: '7b8c9d0e-1f2a-4b3c-9d4e-5f6071829304',
  alert_id: EXAMPLE.alert,
  kind: 'balance',
  type: 'balance.low',
  ...payer,
  budget_id: null,
  window_start: null,
  window_end: null,
  threshold: 5_000_000,
  limit_microdollars: 20_000_000,
  spent_microdollars: 15_001_250,
  created_at: EXAMPLE.atMicros,
  webhook_id: EXAMPLE.webhook,
  url: URL,
  state: 'delivered',
  attempts: 1,
  next_attempt_at: null,
  last_attempt_at: EXAMPLE.atMicros,
  last_status: 204,
  last_error: null,
  delivered_at: EXAMPLE.atMicros,
  dead_at: null,
};

const common = { tag: 'alerts', scope: 'usage:read' } as const;
const ofOne = { ...common, params: idParam, errors: ['not_found'] } as const;
const READERS =
  "Without a payer the caller's own, of an `admin` everybody's; an organization's for its owner.";
const WRITERS =
  'By `admin`, an owner of the organization, or the user; a key that reads alone may not.';

export const alertOperations: readonly OperationDoc[] = [
  {
    ...common,
    id: 'setAlert',
    method: 'post',
    path: '/api/alerts',
    summary: 'Set an alert',
    description: `The same kind again, of the same payer or budget, changes it. ${WRITERS}`,
    bodies: [
      {
        schema: 'NewAlert',
        example: { kind: 'balance', kilo_user_id: EXAMPLE.user, below_usd: '5' },
      },
    ],
    answers: { 201: { description: 'Set', body: { schema: 'Alert', example: alert } } },
    errors: ['unknown_user', 'unknown_organization', 'not_found'],
  },
  {
    ...common,
    id: 'listAlerts',
    method: 'get',
    path: '/api/alerts',
    summary: 'List alerts',
    description: READERS,
    search: alertPayerInput,
    answers: {
      200: {
        description: 'Those in force, up to a thousand',
        body: { schema: 'AlertList', example: { alerts: [alert] } },
      },
    },
  },
  {
    ...ofOne,
    id: 'removeAlert',
    method: 'delete',
    path: '/api/alerts/{id}',
    summary: 'Remove an alert',
    description: `What it told is still delivered. ${WRITERS}`,
    answers: {
      200: {
        description: 'Removed',
        body: { schema: 'RemovedAlert', example: { id: EXAMPLE.alert } },
      },
    },
  },
  {
    ...common,
    id: 'listDeliveries',
    method: 'get',
    path: '/api/alerts/deliveries',
    summary: 'List what was told, and what became of it',
    description: READERS,
    search: deliveriesSearch,
    answers: {
      200: {
        description: 'The newest first; one for each webhook',
        body: { schema: 'DeliveryList', example: { deliveries: [delivery] } },
      },
    },
  },
  {
    ...ofOne,
    id: 'replayDelivery',
    method: 'post',
    path: '/api/alerts/deliveries/{id}/replay',
    summary: 'Try a dead letter again',
    description: `At once and from the beginning; its webhook must be there and enabled. ${WRITERS}`,
    answers: {
      200: {
        description: '0 where it is no dead letter',
        body: { schema: 'Replayed', example: { replayed: 1 } },
      },
    },
  },
  {
    ...common,
    id: 'addWebhook',
    method: 'post',
    path: '/api/webhooks',
    summary: 'Add a webhook',
    description: `It gets what is told from then on. ${WRITERS}`,
    bodies: [{ schema: 'NewWebhook', example: { url: URL, kilo_user_id: EXAMPLE.user } }],
    answers: {
      201: {
        description: 'With the secret that verifies what it gets',
        body: { schema: 'NewWebhookSecret', example: { ...webhook, secret } },
      },
    },
    errors: ['unknown_user', 'unknown_organization'],
  },
  {
    ...common,
    id: 'listWebhooks',
    method: 'get',
    path: '/api/webhooks',
    summary: 'List webhooks',
    description: READERS,
    search: alertPayerInput,
    answers: {
      200: {
        description: 'Up to a thousand, never with secrets',
        body: { schema: 'WebhookList', example: { webhooks: [webhook] } },
      },
    },
  },
  {
    ...ofOne,
    id: 'removeWebhook',
    method: 'delete',
    path: '/api/webhooks/{id}',
    summary: 'Remove a webhook',
    description: `What was on its way becomes dead letters. ${WRITERS}`,
    answers: {
      200: {
        description: 'Removed',
        body: { schema: 'RemovedWebhook', example: { id: EXAMPLE.webhook } },
      },
    },
  },
  {
    ...ofOne,
    id: 'rotateWebhookSecret',
    method: 'post',
    path: '/api/webhooks/{id}/rotate',
    summary: 'Make a new secret',
    description: `The old one signs as well for a while. ${WRITERS}`,
    bodies: [{ schema: 'SecretRotation', example: { overlap_hours: 24 } }],
    isBodyOptional: true,
    answers: {
      200: {
        description: 'With the new secret',
        body: {
          schema: 'NewWebhookSecret',
          example: { ...webhook, previous_secret_until: '2026-11-23T10:00:00.000000Z', secret },
        },
      },
    },
  },
  {
    ...ofOne,
    id: 'enableWebhook',
    method: 'post',
    path: '/api/webhooks/{id}/enable',
    summary: 'Enable a webhook that answered 410',
    description: `It is sent to again, from the next event on. ${WRITERS}`,
    answers: { 200: { description: 'Enabled', body: { schema: 'Webhook', example: webhook } } },
  },
  {
    ...ofOne,
    id: 'testWebhook',
    method: 'post',
    path: '/api/webhooks/{id}/test',
    summary: 'Send a test event',
    description: `Of type \`webhook.test\`, once; for a payer five times a minute. ${WRITERS}`,
    errors: ['not_found', 'too_many_requests'],
    answers: {
      200: {
        description: 'How it went',
        body: {
          schema: 'WebhookTest',
          example: { delivered: true, status: 204, error: null },
        },
      },
    },
  },
  {
    ...ofOne,
    id: 'replayWebhook',
    method: 'post',
    path: '/api/webhooks/{id}/replay',
    summary: 'Try all dead letters of a webhook again',
    description: WRITERS,
    answers: {
      200: {
        description: 'How many there were',
        body: { schema: 'Replayed', example: { replayed: 3 } },
      },
    },
  },
];
