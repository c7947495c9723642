import { sql } from 'drizzle-orm';
import {
  bigint,
  date,
  index,
  integer,
  pgTable,
  text,
  timestamp,
  uniqueIndex,
  uuid,
} from 'drizzle-orm/pg-core';
import { microdollars } from './columns.js';
import { payerKeySql } from './unsettled.js';

/** One row per Exa request; `id` is the idempotency key. */
export const exaUsageLog = pgTable(
  'exa_usage_log',
  {
    id: uuid().primaryKey(),
    kilo_user_id: text().notNull(),
    organization_id: uuid(),
    cost: microdollars().notNull(),
    path: text().notNull(),
    created_at: timestamp({ withTimezone: true, mode: 'string' }).notNull().defaultNow(),
    /** As in `microdollar_usage`. */
    position: bigint({ mode: 'bigint' }),
  },
  (t) => [
    index('idx_exa_usage_log_unsettled')
      .on(sql.raw(`(${payerKeySql()})`), t.position)
      .where(sql`${t.position} is not null`),
    index('idx_exa_usage_log_kilo_user_id_created_at').on(t.kilo_user_id, t.created_at),
    index('idx_exa_usage_log_created_at').on(t.created_at),
    index('idx_exa_usage_log_organization_id_created_at')
      .on(t.organization_id, t.created_at)
      .where(sql`${t.organization_id} is not null`),
  ],
);

/**
 * Exa's monthly counter per (user, organization, UTC month). The charged part is
 * greatest(0, total - free allowance), derived under the row lock from the exact total.
 */
export const exaMonthlyUsage = pgTable(
  'exa_monthly_usage',
  {
    id: uuid().primaryKey().defaultRandom(),
    kilo_user_id: text().notNull(),
    organization_id: uuid(),
    month: date({ mode: 'string' }).notNull(),
    total_cost_microdollars: microdollars().notNull().default(0),
    total_charged_microdollars: microdollars().notNull().default(0),
    /** Requests with a cost; zero-cost requests touch no counter (I6). */
    request_count: integer().notNull().default(0),
    /** Fixed when the row is made, by `ledger_settings.exa_free_allowance_microdollars`. */
    free_allowance_microdollars: microdollars().notNull(),
    created_at: timestamp({ withTimezone: true, mode: 'string' }).notNull().defaultNow(),
    updated_at: timestamp({ withTimezone: true, mode: 'string' }).notNull().defaultNow(),
  },
  (t) => [
    uniqueIndex('uq_exa_monthly_usage_personal')
      .on(t.kilo_user_id, t.month)
      .where(sql`${t.organization_id} is null`),
    uniqueIndex('uq_exa_monthly_usage_organization')
      .on(t.kilo_user_id, t.organization_id, t.month)
      .where(sql`${t.organization_id} is not null`),
    index('idx_exa_monthly_usage_month').on(t.month, t.kilo_user_id),
  ],
);
