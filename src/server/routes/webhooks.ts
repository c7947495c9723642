import type { FastifyRequest } from 'fastify';
import { replayWebhook } from '../../alerts/deliveries.js';
import {
  enableWebhook,
  listWebhooks,
  removeWebhook,
  rotateWebhookSecret,
  testWebhook,
} from '../../alerts/webhooks.js';
import { resolveAlertPayer } from '../alertAccess.js';
import { type AlertAsker, addWebhookAs, findOwnWebhook } from '../alertActions.js';
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

  const askerOf = (request: FastifyRequest): AlertAsker => ({
    ledger,
    principal: request.principal as Principal,
  });
  const own = (request: FastifyRequest): Promise<string> =>
    findOwnWebhook(askerOf(request), parseInput(idParam, request.params).id);

  app.post('/api/webhooks', async (request, reply) => {
    const webhook = await addWebhookAs(askerOf(request), parseBody(newWebhookInput, request.body));
    reply.code(201);
    return webhook;
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
