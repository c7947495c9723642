import { sql } from 'drizzle-orm';
import { bigint, boolean, index, pgTable, text, timestamp, uuid } from 'drizzle-orm/pg-core';
import { microdollars } from './columns.js';
import { payerKeySql } from './unsettled.js';

/**
 * The log: one row per request. `id` is the idempotency key (I3); rows are never updated. Counter
 * rows are folds of it (src/counter).
 */
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
    /** Of `api_keys`: the key that paid. Null: the admin key, or not known. */
    api_key_id: uuid(),
    created_at: timestamp({ withTimezone: true, mode: 'string' }).notNull().defaultNow(),
    /**
     * Null: in the counter rows, or from a program that knows no position. Else generation and
     * transaction id of the writer, negative where it is in the base counters from the start; see
     * unsettled.ts. No default (R7).
     */
    position: bigint({ mode: 'bigint' }),
  },
  (t) => [
    index('idx_microdollar_usage_unsettled')
      .on(sql.raw(`(${payerKeySql()})`), t.position)
      .where(sql`${t.position} is not null`),
    index('idx_microdollar_usage_created_at').on(t.created_at),
    index('idx_microdollar_usage_kilo_user_id_created_at').on(t.kilo_user_id, t.created_at),
    index('idx_microdollar_usage_organization_id_created_at')
      .on(t.organization_id, t.created_at)
      .where(sql`${t.organization_id} is not null`),
  ],
);
