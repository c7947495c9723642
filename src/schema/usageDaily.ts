import { sql } from 'drizzle-orm';
import { date, index, pgTable, text, timestamp, uniqueIndex, uuid } from 'drizzle-orm/pg-core';
import { microdollars } from './columns.js';

/**
 * The rollup: one row per (user, organization, UTC day). Personal and organization rows are
 * separate keys (I8); PostgreSQL allows one conflict target per statement and NULL never
 * conflicts, so each scope has a partial unique index of its own, as in the seed.
 */
export const microdollarUsageDaily = pgTable(
  'microdollar_usage_daily',
  {
    id: uuid().primaryKey().defaultRandom(),
    kilo_user_id: text().notNull(),
    organization_id: uuid(),
    usage_date: date({ mode: 'string' }).notNull(),
    /** Includes `archived_cost_microdollars`. */
    total_cost_microdollars: microdollars().notNull().default(0),
    archived_cost_microdollars: microdollars().notNull().default(0),
    updated_at: timestamp({ withTimezone: true, mode: 'string' }).notNull().defaultNow(),
  },
  (t) => [
    uniqueIndex('uq_microdollar_usage_daily_personal')
      .on(t.kilo_user_id, t.usage_date)
      .where(sql`${t.organization_id} is null`),
    uniqueIndex('uq_microdollar_usage_daily_organization')
      .on(t.kilo_user_id, t.organization_id, t.usage_date)
      .where(sql`${t.organization_id} is not null`),
    // A day at a time, in user order: backfill, verify and archive.
    index('idx_microdollar_usage_daily_usage_date').on(t.usage_date, t.kilo_user_id),
  ],
);
