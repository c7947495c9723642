import { type Alert, getAlert, payerOfAlert, removeAlert, setAlert } from '../alerts/alerts.js';
import { findDelivery, replayDelivery } from '../alerts/deliveries.js';
import type { NewAlert } from '../alerts/newAlert.js';
import {
  addWebhook,
  getWebhook,
  type NewWebhook,
  payerOfWebhook,
  type WebhookToAdd,
} from '../alerts/webhooks.js';
import { LedgerError } from '../errors.js';
import type { Ledger } from '../ledgerTypes.js';
import { atRow } from '../shards/atRow.js';
import { isSharded } from '../shards/parts.js';
import { checkAlertPayer, resolveAlertPayer } from './alertAccess.js';
import { actorOf, type Principal } from './auth.js';

/** What HTTP and tRPC do alike: only for who may. */
export interface AlertAsker {
  ledger: Ledger;
  principal: Principal;
}

/** @throws LedgerError as `setAlert`; `forbidden` */
export function setAlertAs({ ledger, principal }: AlertAsker, wanted: NewAlert): Promise<Alert> {
  const alert = { ...wanted, created_by: actorOf(principal) };
  const set = ({ alertStore }: Ledger) =>
    setAlert(alertStore, alert, (whose) => checkAlertPayer(ledger, principal, whose));
  return typeof wanted.budget_id === 'string'
    ? atRow(ledger, 'budgets', wanted.budget_id, set)
    : ledger.at(wanted, set);
}

/** @throws LedgerError `not_found`, `forbidden` */
export function removeAlertAs(
  { ledger, principal }: AlertAsker,
  id: string,
): Promise<{ id: string }> {
  return atRow(ledger, 'usage_alerts', id, async ({ pool }) => {
    const alert = await getAlert(pool, id);
    await checkAlertPayer(ledger, principal, payerOfAlert(alert));
    return removeAlert(pool, id);
  });
}

/** A dead letter is sent again. @throws LedgerError as `replayDelivery`; `forbidden` */
export function replayDeliveryAs(
  { ledger, principal }: AlertAsker,
  id: string,
): Promise<{ replayed: number }> {
  return atRow(ledger, 'usage_alert_deliveries', id, async ({ pool }) => {
    await checkAlertPayer(ledger, principal, await findDelivery(pool, id));
    return replayDelivery(pool, id);
  });
}

/** Of whom it names; else of the asker's user, or of everybody. @throws LedgerError as `addWebhook` */
export async function addWebhookAs(
  { ledger, principal }: AlertAsker,
  wanted: WebhookToAdd,
): Promise<NewWebhook> {
  const isNamed = (wanted.kilo_user_id ?? wanted.organization_id ?? null) !== null;
  const whose = isNamed ? null : await resolveAlertPayer(ledger, principal, {});
  const webhook = {
    ...wanted,
    ...(whose?.scope === 'user' ? { kilo_user_id: whose.id } : {}),
    created_by: actorOf(principal),
  };
  if ((webhook.kilo_user_id ?? webhook.organization_id ?? null) === null && isSharded(ledger)) {
    throw new LedgerError(
      'invalid_request',
      'a webhook of everybody is told of the payers of one shard: add it to each with ' +
        '`microdollar alerts webhook add --shard <name>`',
      { details: { field: 'kilo_user_id' } },
    );
  }
  return ledger.at(webhook, ({ alertStore }) =>
    addWebhook(alertStore, webhook, (named) => checkAlertPayer(ledger, principal, named)),
  );
}

/** Work on a webhook that the asker may change. @throws LedgerError `not_found`, `forbidden` */
export function atOwnWebhook<T>(
  { ledger, principal }: AlertAsker,
  id: string,
  run: (part: Ledger, id: string) => Promise<T>,
): Promise<T> {
  return atRow(ledger, 'usage_alert_webhooks', id, async (part) => {
    const webhook = await getWebhook(part.pool, id);
    await checkAlertPayer(ledger, principal, payerOfWebhook(webhook));
    return run(part, webhook.id);
  });
}
