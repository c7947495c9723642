import { sql } from 'drizzle-orm';
import {
  bigint,
  check,
  index,
  integer,
  pgTable,
  primaryKey,
  text,
  unique,
  uniqueIndex,
  uuid,
} from 'drizzle-orm/pg-core';
import { instant, microdollarSum, microdollars } from './columns.js';

/**
 * `budget`: percent of a budget's limit are spent; `balance`: less than an amount is left; `spend`: an
 * hour's spend is so many percent of the usual.
 */
export const ALERT_KINDS = ['budget', 'balance', 'spend'] as const;
export type AlertKind = (typeof ALERT_KINDS)[number];

/** Usual of an hour is the mean of the hours of so many days before it; older hours are not looked at. */
export const SPEND_DAYS = 7;

/** What is watched, of whom. Removed ones stay, for the events that name them. */
export const usageAlerts = pgTable(
  'usage_alerts',
  {
    id: uuid().primaryKey().defaultRandom(),
    kind: text().notNull(),
    /** `user` or `organization`, as in `budgets`. */
    payer_scope: text().notNull(),
    payer_id: text().notNull(),
    /** Of kind `budget`. */
    budget_id: uuid(),
    /** Percent of the limit, or of the usual; of kind `balance` one amount in microdollars. */
    thresholds: bigint({ mode: 'number' }).array().notNull(),
    /** Of kind `spend`: an hour with less is not looked at. */
    floor_microdollars: microdollars().notNull().default(0),
    /** Windows that ended before are not looked at. */
    set_at: instant().notNull().defaultNow(),
    /** Of kind `balance`: its window begins here, and again when a top-up has led out of it. */
    armed_at: instant().notNull().defaultNow(),
    created_by: text(),
    created_at: instant().notNull().defaultNow(),
    removed_at: instant(),
  },
  (t) => [
    uniqueIndex('uq_usage_alerts_in_force')
      .on(t.payer_scope, t.payer_id, t.kind, sql`coalesce(budget_id::text, '')`)
      .where(sql`${t.removed_at} is null`),
    check('usage_alerts_kind', sql.raw(`kind in ('budget', 'balance', 'spend')`)),
    check('usage_alerts_payer_scope', sql.raw(`payer_scope in ('user', 'organization')`)),
    check('usage_alerts_budget', sql.raw(`(kind = 'budget') = (budget_id is not null)`)),
  ],
);

/**
 * The outbox: thresholds that were crossed, once each. Written with what is settled, by who holds the
 * payer's mark of budgets.
 */
export const usageAlertEvents = pgTable(
  'usage_alert_events',
  {
    /** The `webhook-id` of its deliveries. */
    id: uuid().primaryKey().defaultRandom(),
    alert_id: uuid().notNull(),
    budget_id: uuid(),
    window_start: instant().notNull(),
    /** `infinity` of a total or a balance. */
    window_end: instant().notNull(),
    threshold: bigint({ mode: 'number' }).notNull(),
    /** As it was settled then: limit of the budget, what was acquired, or the usual of an hour. */
    limit_microdollars: microdollarSum().notNull(),
    spent_microdollars: microdollarSum().notNull(),
    created_at: instant().notNull().defaultNow(),
  },
  (t) => [
    unique('uq_usage_alert_events').on(t.alert_id, t.window_start, t.threshold),
    index('idx_usage_alert_events_created_at').on(t.created_at),
  ],
);

/** Hours that an alert of kind `spend` looked at, with what was usual when it did so first. */
export const usageAlertHours = pgTable(
  'usage_alert_hours',
  {
    alert_id: uuid().notNull(),
    /** UTC. */
    hour_start: instant().notNull(),
    usual_microdollars: microdollarSum().notNull(),
  },
  (t) => [primaryKey({ columns: [t.alert_id, t.hour_start] })],
);

/** Where events are sent. Without a payer: those of everybody. */
export const usageAlertWebhooks = pgTable(
  'usage_alert_webhooks',
  {
    id: uuid().primaryKey().defaultRandom(),
    payer_scope: text(),
    payer_id: text(),
    url: text().notNull(),
    /** They must sign, so they are kept as they are; shown when they are made, and never again. */
    secret: text().notNull(),
    /** Signs as well, until then. */
    previous_secret: text(),
    previous_secret_until: instant(),
    /** Since the last try that succeeded. */
    failing_since: instant(),
    disabled_at: instant(),
    disabled_reason: text(),
    created_by: text(),
    created_at: instant().notNull().defaultNow(),
    removed_at: instant(),
  },
  (t) => [
    index('idx_usage_alert_webhooks_payer')
      .on(t.payer_scope, t.payer_id)
      .where(sql`${t.removed_at} is null`),
    check('usage_alert_webhooks_payer', sql.raw(`(payer_scope is null) = (payer_id is null)`)),
  ],
);

/** An event on its way to a webhook: pending until it is delivered, or dead after its last try. */
export const usageAlertDeliveries = pgTable(
  'usage_alert_deliveries',
  {
    id: uuid().primaryKey().defaultRandom(),
    event_id: uuid().notNull(),
    webhook_id: uuid().notNull(),
    /** Tries that were begun; also tells who began the last one. */
    attempts: integer().notNull().default(0),
    next_attempt_at: instant().notNull().defaultNow(),
    /** Somebody tries it until then. */
    leased_until: instant(),
    last_attempt_at: instant(),
    last_status: integer(),
    last_error: text(),
    delivered_at: instant(),
    dead_at: instant(),
    created_at: instant().notNull().defaultNow(),
  },
  (t) => [
    unique('uq_usage_alert_deliveries').on(t.event_id, t.webhook_id),
    index('idx_usage_alert_deliveries_pending')
      .on(t.webhook_id, t.next_attempt_at)
      .where(sql`${t.delivered_at} is null and ${t.dead_at} is null`),
    index('idx_usage_alert_deliveries_dead').on(t.dead_at).where(sql`${t.dead_at} is not null`),
  ],
);
