import type { FastifyRequest } from 'fastify';
import { z } from 'zod';
import { getAlert, listAlerts, payerOfAlert, removeAlert, setAlert } from '../../alerts/alerts.js';
import { findDelivery, listDeliveries, replayDelivery } from '../../alerts/deliveries.js';
import { checkAlertPayer, isAdmin, resolveAlertPayer } from '../alertAccess.js';
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
  const { alertStore: store } = ledger;
  app.addHook('onRequest', services.requireScope('usage:read'));
  const by = (request: FastifyRequest) => request.principal as Principal;

  app.post('/api/alerts', async (request, reply) => {
    const principal = by(request);
    const wanted = parseBody(newAlertInput, request.body);
    const createdBy = principal.kiloUserId ?? principal.keyId;
    reply.code(201);
    return setAlert(store, { ...wanted, created_by: createdBy }, (whose) =>
      checkAlertPayer(ledger, principal, whose),
    );
  });
  app.get('/api/alerts', async (request) => {
    const whose = await resolveAlertPayer(
      ledger,
      by(request),
      parseInput(alertPayerInput, request.query),
    );
    return { alerts: await listAlerts(ledger.pool, whose) };
  });
  app.delete('/api/alerts/:id', async (request) => {
    const { id } = parseInput(idParam, request.params);
    const alert = await getAlert(ledger.pool, id);
    await checkAlertPayer(ledger, by(request), payerOfAlert(alert));
    return removeAlert(ledger.pool, id);
  });
  app.get('/api/alerts/deliveries', async (request) => {
    const { state, limit, ...asked } = parseInput(deliveriesSearch, request.query);
    const whose = await resolveAlertPayer(ledger, by(request), asked);
    const query = { payer: whose, state, limit, withShared: isAdmin(by(request)) };
    return { deliveries: await listDeliveries(ledger.pool, query) };
  });
  app.post('/api/alerts/deliveries/:id/replay', async (request) => {
    const { id } = parseInput(idParam, request.params);
    await checkAlertPayer(ledger, by(request), await findDelivery(ledger.pool, id));
    return replayDelivery(ledger.pool, id);
  });
};
