import type { FastifyRequest } from 'fastify';
import { z } from 'zod';
import { listAlerts, listDeliveries } from '../../shards/lists.js';
import { isAdmin, resolveAlertPayer } from '../alertAccess.js';
import { type AlertAsker, removeAlertAs, replayDeliveryAs, setAlertAs } from '../alertActions.js';
import { alertPayerInput, deliveriesInput, newAlertInput } from '../alertInput.js';
import type { Principal } from '../auth.js';
import type { ServerPlugin } from '../plugins.js';
import { parseBody, parseInput } from '../validation.js';

/** In a URL everything is a text. */
export const deliveriesSearch = deliveriesInput.extend({
  limit: z.coerce
    .number()
    .nullish()
    .meta({ minimum: 1, maximum: 1_000, description: 'Default 100.' }),
});
export const idParam = z.object({ id: z.string().meta({ format: 'uuid' }) });

/** Alerts, and what became of what they told (src/alerts/README.md). */
export const alertRoutes: ServerPlugin = (app, services) => {
  const { ledger } = services;
  app.addHook('onRequest', services.requireScope('usage:read'));
  const by = (request: FastifyRequest) => request.principal as Principal;
  const askerOf = (request: FastifyRequest): AlertAsker => ({ ledger, principal: by(request) });

  app.post('/api/alerts', async (request, reply) => {
    reply.code(201);
    return setAlertAs(askerOf(request), parseBody(newAlertInput, request.body));
  });
  app.get('/api/alerts', async (request) => {
    const whose = await resolveAlertPayer(
      ledger,
      by(request),
      parseInput(alertPayerInput, request.query),
    );
    return { alerts: await listAlerts(ledger, whose) };
  });
  app.delete('/api/alerts/:id', async (request) =>
    removeAlertAs(askerOf(request), parseInput(idParam, request.params).id),
  );
  app.get('/api/alerts/deliveries', async (request) => {
    const { state, limit, ...asked } = parseInput(deliveriesSearch, request.query);
    const whose = await resolveAlertPayer(ledger, by(request), asked);
    const query = { payer: whose, state, limit, withShared: isAdmin(by(request)) };
    return { deliveries: await listDeliveries(ledger, query) };
  });
  app.post('/api/alerts/deliveries/:id/replay', async (request) =>
    replayDeliveryAs(askerOf(request), parseInput(idParam, request.params).id),
  );
};
