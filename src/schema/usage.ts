import { sql } from 'drizzle-orm';
import { bigint, boolean, index, pgTable, text, timestamp, uuid } from 'drizzle-orm/pg-core';
import { microdollars } from './columns.js';

/** One row per request. `id` is the idempotency key (I3); rows are never updated. */
export const microdollarUsage = pgTable(
  'microdollar_usage',
  {
    id: uuid().primaryKey(),
    kilo_user_id: text().notNull(),
    organization_id: uuid(),
    provider: text(),
    model: text(),
    requested_model: text(),
    inference_provider: text(),
    project_id: text(),
    cost: microdollars().notNull(),
    input_tokens: bigint({ mode: 'number' }).notNull().default(0),
    output_tokens: bigint({ mode: 'number' }).notNull().default(0),
    cache_write_tokens: bigint({ mode: 'number' }).notNull().default(0),
    cache_hit_tokens: bigint({ mode: 'number' }).notNull().default(0),
    cache_discount: microdollars(),
    has_error: boolean().notNull().default(false),
    created_at: timestamp({ withTimezone: true, mode: 'string' }).notNull().defaultNow(),
  },
  (t) => [
    index('idx_microdollar_usage_created_at').on(t.created_at),
    index('idx_microdollar_usage_kilo_user_id_created_at').on(t.kilo_user_id, t.created_at),
    index('idx_microdollar_usage_organization_id_created_at')
      .on(t.organization_id, t.created_at)
      .where(sql`${t.organization_id} is not null`),
  ],
);
