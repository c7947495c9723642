import type { FastifyRequest } from 'fastify';
import { replayWebhook } from '../../alerts/deliveries.js';
import {
  addWebhook,
  enableWebhook,
  getWebhook,
  listWebhooks,
  payerOfWebhook,
  removeWebhook,
  rotateWebhookSecret,
  testWebhook,
} from '../../alerts/webhooks.js';
import { checkAlertPayer, resolveAlertPayer } from '../alertAccess.js';
import { alertPayerInput, newWebhookInput, secretRotationInput } from '../alertInput.js';
import type { Principal } from '../auth.js';
import type { ServerPlugin } from '../plugins.js';
import { parseBody, parseInput } from '../validation.js';
import { idParam } from './alerts.js';

/** Where alerts are sent (src/alerts/README.md). A secret is in the answer that makes it, and in no other. */
export const webhookRoutes: ServerPlugin = (app, services) => {
  const { ledger } = services;
  const { alertStore: store, pool } = ledger;
  app.addHook('onRequest', services.requireScope('usage:read'));

  /** The webhook of the path, if the caller may change it. */
  async function own(request: FastifyRequest): Promise<string> {
    const { id } = parseInput(idParam, request.params);
    const webhook = await getWebhook(pool, id);
    await checkAlertPayer(ledger, request.principal as Principal, payerOfWebhook(webhook));
    return webhook.id;
  }

  app.post('/api/webhooks', async (request, reply) => {
    const principal = request.principal as Principal;
    const wanted = parseBody(newWebhookInput, request.body);
    const isNamed = (wanted.kilo_user_id ?? wanted.organization_id ?? null) !== null;
    const whose = isNamed ? null : await resolveAlertPayer(ledger, principal, {});
    const url = await addWebhook(
      store,
      {
        ...wanted,
        ...(whose?.scope === 'user' ? { kilo_user_id: whose.id } : {}),
        created_by: principal.kiloUserId ?? principal.keyId,
      },
      (named) => checkAlertPayer(ledger, principal, named),
    );
    reply.code(201);
    return url;
  });
  app.get('/api/webhooks', async (request) => {
    const asked = parseInput(alertPayerInput, request.query);
    const whose = await resolveAlertPayer(ledger, request.principal as Principal, asked);
    return { webhooks: await listWebhooks(pool, whose) };
  });
  app.delete('/api/webhooks/:id', async (request) => removeWebhook(pool, await own(request)));
  app.post('/api/webhooks/:id/rotate', async (request) => {
    const { overlap_hours: hours } = parseInput(secretRotationInput, request.body ?? {});
    return rotateWebhookSecret(pool, await own(request), hours);
  });
  app.post('/api/webhooks/:id/enable', async (request) => enableWebhook(pool, await own(request)));
  app.post('/api/webhooks/:id/test', async (request) => testWebhook(store, await own(request)));
  app.post('/api/webhooks/:id/replay', async (request) => replayWebhook(pool, await own(request)));
};
