import { randomUUID } from 'node:crypto';
import type pg from 'pg';
import { invalidField } from '../accounts/fields.js';
import { runStatement } from '../accounts/runStatement.js';
import { type BudgetPayer, readPayer } from '../budgets/budgets.js';
import { checkPayer } from '../budgets/newBudget.js';
import { LedgerError } from '../errors.js';
import { readUuid } from '../ids.js';
import { formatMicros } from '../record/instants.sql.js';
import type { AlertStore, Authorize } from './alerts.js';
import { SEND_TIMEOUT_MS } from './deliverer.js';
import { bodyOf, instantOf } from './payload.js';
import { isSuccess, type Sent, sendWebhook } from './send.js';
import { newWebhookSecret, webhookHeaders } from './signature.js';
import {
  ADD_WEBHOOK,
  ENABLE_WEBHOOK,
  HAS_WEBHOOK,
  LIST_WEBHOOKS,
  READ_SECRETS,
  REMOVE_WEBHOOK,
  ROTATE_SECRET,
  type SecretsRow,
  type WebhookRow,
} from './webhooks.sql.js';
import { readWebhookUrl } from './webhookUrl.js';

/** Where a payer's alerts are sent; without a payer everybody's. */
export interface Webhook {
  id: string;
  kilo_user_id: string | null;
  organization_id: string | null;
  url: string;
  /** Until then two secrets sign; ISO 8601. */
  previous_secret_until: string | null;
  /** Since its last try that succeeded; ISO 8601. */
  failing_since: string | null;
  disabled_at: string | null;
  disabled_reason: string | null;
  /** ISO 8601. */
  created_at: string;
}

/** With the secret, which is never shown again. */
export interface NewWebhook extends Webhook {
  secret: string;
}

export interface WebhookToAdd {
  url: string;
  /** Neither: everybody's alerts. */
  kilo_user_id?: string | null | undefined;
  organization_id?: string | null | undefined;
  created_by?: string | null | undefined;
}

const MAX_PER_PAYER = 20;
export const MAX_WEBHOOKS_LISTED = 1_000;
const DEFAULT_OVERLAP_HOURS = 24;
const MAX_OVERLAP_HOURS = 24 * 30;

/**
 * Adds a webhook. It gets what is told from now on.
 * @throws LedgerError `invalid_request` naming the field: a URL that is not https, or leads to an address
 *   that is not public; a payer with twenty. `unknown_user`, `unknown_organization`
 */
export async function addWebhook(
  { pool, allowsPrivate, lookup }: AlertStore,
  webhook: WebhookToAdd,
  authorize: Authorize = async () => {},
): Promise<NewWebhook> {
  const payer = await readOptionalPayer(pool, webhook);
  await authorize(payer);
  const url = await readWebhookUrl(webhook.url, { allowsPrivate, lookup });
  const secret = newWebhookSecret();
  const [row] = await runStatement<WebhookRow>(pool, ADD_WEBHOOK, [
    payer?.scope ?? null,
    payer?.id ?? null,
    url,
    secret,
    webhook.created_by ?? null,
    MAX_PER_PAYER,
  ]);
  if (!row) {
    // Deleted, or moved, since.
    await readOptionalPayer(pool, webhook);
    throw invalidField('url', `is one too many: a payer has at most ${MAX_PER_PAYER}`);
  }
  return { ...toWebhook(row), secret };
}

async function readOptionalPayer(
  pool: pg.Pool,
  webhook: WebhookToAdd,
): Promise<BudgetPayer | null> {
  const { kilo_user_id: user = null, organization_id: organization = null } = webhook;
  if (user === null && organization === null) return null;
  const payer = readPayer(user, organization);
  await checkPayer(pool, user, organization, {});
  return payer;
}

/** Of one payer, or of all and of everybody (null); never with secrets. */
export async function listWebhooks(pool: pg.Pool, payer: BudgetPayer | null): Promise<Webhook[]> {
  const values = [
    payer?.scope ?? null,
    payer?.id ?? null,
    payer === null,
    null,
    MAX_WEBHOOKS_LISTED,
  ];
  return (await runStatement<WebhookRow>(pool, LIST_WEBHOOKS, values)).map(toWebhook);
}

/** Whether a webhook is in use that is told of the payer: of its own, or of everybody. */
export async function hasWebhook(pool: pg.Pool, { scope, id }: BudgetPayer): Promise<boolean> {
  const [row] = await runStatement<{ has_webhook: boolean }>(pool, HAS_WEBHOOK, [scope, id]);
  return row?.has_webhook ?? false;
}

/** @throws LedgerError `not_found` */
export async function getWebhook(pool: pg.Pool, id: string): Promise<Webhook> {
  return one(await runStatement(pool, LIST_WEBHOOKS, [null, null, true, readUuid('id', id), 1]));
}

/** It gets nothing more; what was on its way becomes dead letters. @throws LedgerError `not_found` */
export async function removeWebhook(pool: pg.Pool, id: string): Promise<{ id: string }> {
  const { id: removed } = one(await runStatement(pool, REMOVE_WEBHOOK, [readUuid('id', id)]));
  return { id: removed };
}

/**
 * A new secret; the one of now signs as well for `overlapHours` (default 24, at most 720; 0: it is known to
 * others), and one that was replaced before does not any more.
 * @throws LedgerError `invalid_request`, `not_found`
 */
export async function rotateWebhookSecret(
  pool: pg.Pool,
  id: string,
  overlapHours = DEFAULT_OVERLAP_HOURS,
): Promise<NewWebhook> {
  if (!(overlapHours >= 0 && overlapHours <= MAX_OVERLAP_HOURS)) {
    throw invalidField('overlap_hours', `must be a number from 0 to ${MAX_OVERLAP_HOURS}`);
  }
  const secret = newWebhookSecret();
  const values = [readUuid('id', id), secret, overlapHours];
  return { ...one(await runStatement(pool, ROTATE_SECRET, values)), secret };
}

/** One that answered 410 is sent to again, from the next event on. @throws LedgerError `not_found` */
export async function enableWebhook(pool: pg.Pool, id: string): Promise<Webhook> {
  return one(await runStatement(pool, ENABLE_WEBHOOK, [readUuid('id', id)]));
}

/**
 * Sends an event of type `webhook.test`, once, and says how it went.
 * @throws LedgerError `not_found`, `too_many_requests`
 */
export async function testWebhook(
  { pool, allowsPrivate, lookup, tests }: AlertStore,
  id: string,
): Promise<Omit<Sent, 'retryAfterMs'> & { delivered: boolean }> {
  const [row] = await runStatement<SecretsRow>(pool, READ_SECRETS, [readUuid('id', id)]);
  if (!row) throw noWebhook();
  tests.take(row.payer_id === null ? '' : `${row.payer_scope}:${row.payer_id}`);
  const secrets = [row.secret, ...(row.previous_secret === null ? [] : [row.previous_secret])];
  const nowMs = Date.now();
  const body = bodyOf('webhook.test', new Date(nowMs).toISOString(), { webhook_id: id });
  const headers = webhookHeaders(randomUUID(), nowMs, body, secrets);
  const rules = { allowsPrivate, lookup, timeoutMs: SEND_TIMEOUT_MS };
  const { status, error } = await sendWebhook(row.url, headers, body, rules);
  return { delivered: isSuccess(status), status, error };
}

export function payerOfWebhook(webhook: Webhook): BudgetPayer | null {
  if (webhook.kilo_user_id !== null) return { scope: 'user', id: webhook.kilo_user_id };
  if (webhook.organization_id === null) return null;
  return { scope: 'organization', id: webhook.organization_id };
}

function one([row]: readonly WebhookRow[]): Webhook {
  if (!row) throw noWebhook();
  return toWebhook(row);
}

function toWebhook(row: WebhookRow): Webhook {
  return {
    id: row.id,
    kilo_user_id: row.payer_scope === 'user' ? row.payer_id : null,
    organization_id: row.payer_scope === 'organization' ? row.payer_id : null,
    url: row.url,
    previous_secret_until: instantOf(row.previous_until_micros),
    failing_since: instantOf(row.failing_micros),
    disabled_at: instantOf(row.disabled_micros),
    disabled_reason: row.disabled_reason,
    created_at: formatMicros(row.created_micros),
  };
}

function noWebhook(): LedgerError {
  return new LedgerError('not_found', 'id names no webhook', { details: { field: 'id' } });
}
