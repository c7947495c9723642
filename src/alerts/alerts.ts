import type pg from 'pg';
import { unknownUser } from '../accounts/fields.js';
import { runStatement } from '../accounts/runStatement.js';
import type { BudgetPayer } from '../budgets/budgets.js';
import type { BudgetFolder } from '../budgets/folder.js';
import { toLedgerError } from '../db/sqlstate.js';
import { LedgerError } from '../errors.js';
import { readUuid } from '../ids.js';
import { toSafeInteger } from '../money.js';
import { formatMicros } from '../record/instants.sql.js';
import type { AlertKind } from '../schema/alerts.js';
import { scopeNamed } from '../schema/unsettled.js';
import type { LookupAll } from './address.js';
import { type AlertRow, LIST_ALERTS, REMOVE_ALERT, setAlertStatement } from './alerts.sql.js';
import { type NewAlert, readNewAlert } from './newAlert.js';
import { instantOf } from './payload.js';
import type { TestLimit } from './testLimit.js';

/** What is watched. Amounts in microdollars. */
export interface Alert {
  id: string;
  kind: AlertKind;
  kilo_user_id: string | null;
  organization_id: string | null;
  budget_id: string | null;
  /** Of a budget's limit, or an hour's usual spend. */
  thresholds_percent: number[] | null;
  below_microdollars: number | null;
  floor_microdollars: number | null;
  /** ISO 8601. */
  created_at: string;
  /** When it told something last; ISO 8601. */
  last_event_at: string | null;
}

/** Where alerts are kept, and what their webhooks may be. */
export interface AlertStore {
  pool: pg.Pool;
  folder: BudgetFolder;
  allowsPrivate: boolean;
  lookup: LookupAll;
  tests: TestLimit;
  /** This payer's usage is to be folded soon from now on. */
  onSet: (payer: BudgetPayer) => void;
}

/** @throws where the caller may not watch this payer, or tell others of it */
export type Authorize = (payer: BudgetPayer | null) => Promise<void>;

export const MAX_ALERTS_LISTED = 1_000;

/**
 * Sets an alert; the same kind again, of the same payer or budget, changes it. What is crossed already is
 * told at once, but for an hour's spend: that with the next usage.
 * @throws LedgerError `invalid_request` naming the field, `not_found` of a budget, `unknown_user`,
 *   `unknown_organization`; `unavailable` while another transaction keeps the payer's budgets
 */
export async function setAlert(
  store: AlertStore,
  alert: NewAlert,
  authorize: Authorize = async () => {},
): Promise<Alert> {
  const { payer, ...valid } = await readNewAlert(store.pool, alert);
  await authorize(payer);
  const scope = scopeNamed(payer.scope);
  let id: string | undefined;
  try {
    await store.folder.open(scope, payer.id);
    const isSet = await store.folder.foldAfter(scope, payer.id, async (query) => {
      const statement = setAlertStatement(scope, { ...valid, payerId: payer.id });
      const [row] = await query<{ id: string }>(statement);
      id = row?.id;
      if (!row && valid.budgetId === null) throw unknownUser();
      if (!row) throw noAlert('budget_id', 'names no budget that is in force');
    });
    if (!isSet) {
      throw new LedgerError('unavailable', 'the budgets of this payer are in use; try again');
    }
  } catch (error) {
    throw toLedgerError(error);
  }
  store.onSet(payer);
  return await getAlert(store.pool, id ?? '');
}

/** Alerts in force, of one payer or of everybody (null), up to a thousand. */
export async function listAlerts(pool: pg.Pool, payer: BudgetPayer | null): Promise<Alert[]> {
  const values = [payer?.scope ?? null, payer?.id ?? null, null, MAX_ALERTS_LISTED];
  const rows = await runStatement<AlertRow>(pool, LIST_ALERTS, values);
  return rows.map(toAlert);
}

/** @throws LedgerError `not_found` */
export async function getAlert(pool: pg.Pool, id: string): Promise<Alert> {
  const values = [null, null, readUuid('id', id), 1];
  const [row] = await runStatement<AlertRow>(pool, LIST_ALERTS, values);
  if (!row) throw noAlert('id', 'names no alert');
  return toAlert(row);
}

/** It tells nothing more; what it told is still delivered. @throws LedgerError `not_found` */
export async function removeAlert(pool: pg.Pool, id: string): Promise<{ id: string }> {
  const [row] = await runStatement<{ id: string }>(pool, REMOVE_ALERT, [readUuid('id', id)]);
  if (!row) throw noAlert('id', 'names no alert');
  return { id: row.id };
}

export function payerOfAlert(alert: Alert): BudgetPayer {
  return alert.organization_id === null
    ? { scope: 'user', id: alert.kilo_user_id ?? '' }
    : { scope: 'organization', id: alert.organization_id };
}

function toAlert(row: AlertRow): Alert {
  const thresholds = row.thresholds.map((each) => toSafeInteger(each));
  const isBalance = row.kind === 'balance';
  return {
    id: row.id,
    kind: row.kind,
    kilo_user_id: row.payer_scope === 'user' ? row.payer_id : null,
    organization_id: row.payer_scope === 'organization' ? row.payer_id : null,
    budget_id: row.budget_id,
    thresholds_percent: isBalance ? null : thresholds,
    below_microdollars: isBalance ? (thresholds[0] ?? null) : null,
    floor_microdollars: row.kind === 'spend' ? toSafeInteger(row.floor_microdollars) : null,
    created_at: formatMicros(row.created_micros),
    last_event_at: instantOf(row.raised_micros),
  };
}

function noAlert(field: string, problem: string): LedgerError {
  return new LedgerError('not_found', `${field} ${problem}`, { details: { field } });
}
