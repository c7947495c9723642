import type pg from 'pg';
import { invalidField } from '../accounts/fields.js';
import { runStatement } from '../accounts/runStatement.js';
import type { BudgetPayer } from '../budgets/budgets.js';
import { readOneOf } from '../budgets/newBudget.js';
import { LedgerError } from '../errors.js';
import { readUuid } from '../ids.js';
import { toExactInteger } from '../money.js';
import type { AlertKind } from '../schema/alerts.js';
import {
  type DeliveryRow,
  type DeliveryState,
  FIND_DELIVERY,
  LIST_DELIVERIES,
  REPLAY_DELIVERIES,
} from './listDeliveries.sql.js';
import { EVENT_TYPES, instantOf } from './payload.js';

/** What was told, and what became of it at one webhook. Amounts in microdollars. */
export interface Delivery {
  /** Null: no webhook was there for it. */
  id: string | null;
  event_id: string;
  alert_id: string;
  kind: AlertKind;
  type: string;
  kilo_user_id: string | null;
  organization_id: string | null;
  budget_id: string | null;
  /** ISO 8601; null of all time. */
  window_start: string | null;
  window_end: string | null;
  /** Percent, or of a low balance microdollars. */
  threshold: number | bigint;
  /** Of the budget, what was acquired, or what is usual. */
  limit_microdollars: number | bigint;
  spent_microdollars: number | bigint;
  /** ISO 8601. */
  created_at: string;
  webhook_id: string | null;
  url: string | null;
  state: DeliveryState | null;
  attempts: number;
  /** ISO 8601, of one that is pending. */
  next_attempt_at: string | null;
  last_attempt_at: string | null;
  /** HTTP, of the last try. */
  last_status: number | null;
  last_error: string | null;
  delivered_at: string | null;
  dead_at: string | null;
}

export interface DeliveryQuery {
  /** Null: everybody. */
  payer: BudgetPayer | null;
  state?: string | null | undefined;
  /** 1 to 1,000; default 100. */
  limit?: number | null | undefined;
  /** Also what went to webhooks of everybody, which are the operator's. */
  withShared: boolean;
}

export const DELIVERY_STATES = [
  'pending',
  'delivered',
  'dead',
] as const satisfies readonly DeliveryState[];
export const DEFAULT_LIMIT = 100;
const MAX_LIMIT = 1_000;

/** The newest first. @throws LedgerError `invalid_request` */
export async function listDeliveries(pool: pg.Pool, query: DeliveryQuery): Promise<Delivery[]> {
  const { payer } = query;
  const state =
    (query.state ?? null) === null ? null : readOneOf('state', query.state, DELIVERY_STATES);
  const limit = query.limit ?? DEFAULT_LIMIT;
  if (!Number.isSafeInteger(limit) || limit < 1 || limit > MAX_LIMIT) {
    throw invalidField('limit', `must be a whole number from 1 to ${MAX_LIMIT}`);
  }
  const rows = await runStatement<DeliveryRow>(pool, LIST_DELIVERIES, [
    payer?.scope ?? null,
    payer?.id ?? null,
    state,
    limit,
    query.withShared,
  ]);
  return rows.map(toDelivery);
}

/** Whose event it is; null: it went to a webhook of everybody. @throws LedgerError `not_found` */
export async function findDelivery(pool: pg.Pool, id: string): Promise<BudgetPayer | null> {
  const row = await find(pool, readUuid('id', id));
  return row.is_shared ? null : { scope: row.payer_scope, id: row.payer_id };
}

/**
 * A dead letter is tried again, at once and from the beginning; what was delivered, or is on its way, stays.
 * @returns how many: 0 or 1
 * @throws LedgerError `not_found`; `invalid_request` while its webhook takes nothing
 */
export async function replayDelivery(pool: pg.Pool, id: string): Promise<{ replayed: number }> {
  const found = await find(pool, readUuid('id', id));
  if (found.is_dead && found.is_closed) {
    throw invalidField(
      'id',
      'names a delivery whose webhook is removed or disabled; enable it first',
    );
  }
  return { replayed: (await runStatement(pool, REPLAY_DELIVERIES, [id, null])).length };
}

/** Every dead letter of a webhook. */
export async function replayWebhook(
  pool: pg.Pool,
  webhookId: string,
): Promise<{ replayed: number }> {
  const rows = await runStatement(pool, REPLAY_DELIVERIES, [
    null,
    readUuid('webhook_id', webhookId),
  ]);
  return { replayed: rows.length };
}

interface FoundRow {
  payer_scope: 'user' | 'organization';
  payer_id: string;
  is_dead: boolean;
  is_shared: boolean;
  is_closed: boolean;
}

async function find(pool: pg.Pool, id: string): Promise<FoundRow> {
  const [row] = await runStatement<FoundRow>(pool, FIND_DELIVERY, [id]);
  if (row) return row;
  throw new LedgerError('not_found', 'id names no delivery', { details: { field: 'id' } });
}

function toDelivery(row: DeliveryRow): Delivery {
  return {
    id: row.id,
    event_id: row.event_id,
    alert_id: row.alert_id,
    kind: row.kind,
    type: EVENT_TYPES[row.kind],
    kilo_user_id: row.payer_scope === 'user' ? row.payer_id : null,
    organization_id: row.payer_scope === 'organization' ? row.payer_id : null,
    budget_id: row.budget_id,
    window_start: instantOf(row.window_start_micros),
    window_end: instantOf(row.window_end_micros),
    threshold: toExactInteger(row.threshold),
    limit_microdollars: toExactInteger(row.limit_microdollars),
    spent_microdollars: toExactInteger(row.spent_microdollars),
    created_at: instantOf(row.event_created_micros) ?? '',
    webhook_id: row.webhook_id,
    url: row.url,
    state: row.state,
    attempts: row.attempts ?? 0,
    next_attempt_at: row.state === 'pending' ? instantOf(row.next_attempt_micros) : null,
    last_attempt_at: instantOf(row.last_attempt_micros),
    last_status: row.last_status,
    last_error: row.last_error,
    delivered_at: instantOf(row.delivered_micros),
    dead_at: instantOf(row.dead_micros),
  };
}
