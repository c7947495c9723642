import { toJson } from '../../money.js';
import { listAlerts, listDeliveries, listWebhooks } from '../../shards/lists.js';
import { isAdmin, resolveAlertPayer } from '../alertAccess.js';
import { alertPayerInput, deliveriesInput } from '../alertInput.js';
import { inputOrNothing } from '../validation.js';
import { alertChanges, webhookChanges } from './alertChanges.js';
import { procedureFor, router } from './procedure.js';

const list = procedureFor(
  'usage:read',
  'Alerts and webhooks of the own user, or of an organization for its owner.',
)
  .input(inputOrNothing(alertPayerInput))
  .query(async ({ ctx, input }) => {
    const whose = await resolveAlertPayer(ctx.ledger, ctx.principal, input);
    return {
      alerts: await listAlerts(ctx.ledger, whose),
      webhooks: await listWebhooks(ctx.ledger, whose),
    };
  });

const deliveries = procedureFor(
  'usage:read',
  'What was told and what became of it, the newest first.',
)
  .input(inputOrNothing(deliveriesInput))
  .query(async ({ ctx, input }) => {
    const { state, limit, ...asked } = input;
    const whose = await resolveAlertPayer(ctx.ledger, ctx.principal, asked);
    const query = { payer: whose, state, limit, withShared: isAdmin(ctx.principal) };
    return toJson({ deliveries: await listDeliveries(ctx.ledger, query) });
  });

/** For the page. */
export const alertsRouter = router({
  list,
  deliveries,
  ...alertChanges,
  webhooks: router(webhookChanges),
});
