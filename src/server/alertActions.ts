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
import type { Ledger } from '../ledgerTypes.js';
import { checkAlertPayer, resolveAlertPayer } from './alertAccess.js';
import { actorOf, type Principal } from './auth.js';

/** What HTTP and tRPC do alike: only for who may. */
export interface AlertAsker {
  ledger: Ledger;
  principal: Principal;
}

/** @throws LedgerError as `setAlert`; `forbidden` */
export function setAlertAs({ ledger, principal }: AlertAsker, wanted: NewAlert): Promise<Alert> {
  return setAlert(ledger.alertStore, { ...wanted, created_by: actorOf(principal) }, (whose) =>
    checkAlertPayer(ledger, principal, whose),
  );
}

/** @throws LedgerError `not_found`, `forbidden` */
export async function removeAlertAs(
  { ledger, principal }: AlertAsker,
  id: string,
): Promise<{ id: string }> {
  const alert = await getAlert(ledger.pool, id);
  await checkAlertPayer(ledger, principal, payerOfAlert(alert));
  return removeAlert(ledger.pool, id);
}

/** A dead letter is sent again. @throws LedgerError as `replayDelivery`; `forbidden` */
export async function replayDeliveryAs(
  { ledger, principal }: AlertAsker,
  id: string,
): Promise<{ replayed: number }> {
  await checkAlertPayer(ledger, principal, await findDelivery(ledger.pool, id));
  return replayDelivery(ledger.pool, id);
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
  return addWebhook(ledger.alertStore, webhook, (named) =>
    checkAlertPayer(ledger, principal, named),
  );
}

/** The id of a webhook that the asker may change. @throws LedgerError `not_found`, `forbidden` */
export async function findOwnWebhook(
  { ledger, principal }: AlertAsker,
  id: string,
): Promise<string> {
  const webhook = await getWebhook(ledger.pool, id);
  await checkAlertPayer(ledger, principal, payerOfWebhook(webhook));
  return webhook.id;
}
