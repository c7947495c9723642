import type { FastifyRequest } from 'fastify';
import { replayWebhook } from '../../alerts/deliveries.js';
import {
  enableWebhook,
  removeWebhook,
  rotateWebhookSecret,
  testWebhook,
} from '../../alerts/webhooks.js';
import type { Ledger } from '../../ledgerTypes.js';
import { listWebhooks } from '../../shards/lists.js';
import { resolveAlertPayer } from '../alertAccess.js';
import { type AlertAsker, addWebhookAs, atOwnWebhook } from '../alertActions.js';
import { alertPayerInput, newWebhookInput, secretRotationInput } from '../alertInput.js';
import type { Principal } from '../auth.js';
import type { ServerPlugin } from '../plugins.js';
import { parseBody, parseInput } from '../validation.js';
import { idParam } from './alerts.js';

/** Where alerts are sent (src/alerts/README.md). A secret is in the answer that makes it, and in no other. */
export const webhookRoutes: ServerPlugin = (app, services) => {
  const { ledger } = services;
  app.addHook('onRequest', services.requireScope('usage:read'));

  const askerOf = (request: FastifyRequest): AlertAsker => ({
    ledger,
    principal: request.principal as Principal,
  });
  const atOwn = <T>(request: FastifyRequest, run: (part: Ledger, id: string) => Promise<T>) =>
    atOwnWebhook(askerOf(request), parseInput(idParam, request.params).id, run);

  app.post('/api/webhooks', async (request, reply) => {
    const webhook = await addWebhookAs(askerOf(request), parseBody(newWebhookInput, request.body));
    reply.code(201);
    return webhook;
  });
  app.get('/api/webhooks', async (request) => {
    const asked = parseInput(alertPayerInput, request.query);
    const whose = await resolveAlertPayer(ledger, request.principal as Principal, asked);
    return { webhooks: await listWebhooks(ledger, whose) };
  });
  app.delete('/api/webhooks/:id', (request) =>
    atOwn(request, ({ pool }, id) => removeWebhook(pool, id)),
  );
  app.post('/api/webhooks/:id/rotate', async (request) => {
    const { overlap_hours: hours } = parseInput(secretRotationInput, request.body ?? {});
    return atOwn(request, ({ pool }, id) => rotateWebhookSecret(pool, id, hours));
  });
  app.post('/api/webhooks/:id/enable', (request) =>
    atOwn(request, ({ pool }, id) => enableWebhook(pool, id)),
  );
  app.post('/api/webhooks/:id/test', (request) =>
    atOwn(request, ({ alertStore }, id) => testWebhook(alertStore, id)),
  );
  app.post('/api/webhooks/:id/replay', (request) =>
    atOwn(request, ({ pool }, id) => replayWebhook(pool, id)),
  );
};
