import { sql } from 'drizzle-orm';
import {
  boolean,
  doublePrecision,
  index,
  integer,
  jsonb,
  pgTable,
  text,
  timestamp,
  uniqueIndex,
  uuid,
} from 'drizzle-orm/pg-core';
import { microdollars } from './columns.js';
import type { LookupName } from './lookups.js';

/** What is known of a request beyond its cost; same id as its usage row. */
export const microdollarUsageMetadata = pgTable(
  'microdollar_usage_metadata',
  {
    id: uuid().primaryKey(),
    kilo_user_id: text().notNull(),
    created_at: timestamp({ withTimezone: true, mode: 'string' }).notNull().defaultNow(),
    message_id: text(),
    upstream_id: text(),
    session_id: text(),
    /** The application's own user. */
    end_user: text(),
    /** Sorted, without repeats. */
    tags: text().array(),
    machine_id: text(),
    user_prompt_prefix: text(),
    system_prompt_length: integer(),
    max_tokens: integer(),
    status_code: integer(),
    /** Latency to the first token, ms. */
    latency: doublePrecision(),
    moderation_latency: doublePrecision(),
    /** First to last token, ms. */
    generation_time: doublePrecision(),
    reasoning_tokens: integer(),
    has_middle_out_transform: boolean(),
    has_tools: boolean(),
    is_byok: boolean(),
    is_user_byok: boolean(),
    is_free: boolean(),
    streamed: boolean(),
    cancelled: boolean(),
    /** The token counts or the cost are an estimate, and why. */
    estimated: text(),
    /** No price was known; `cost` is 0 until a signed row that names this one prices it. */
    unpriced: boolean(),
    price_source: text(),
    price_version: text(),
    market_cost: microdollars(),
    /** What the provider itself said that the request cost, also where that is not charged. */
    reported_cost: microdollars(),
    /**
     * `doubts`: why counts or cost are not sure. `price`: what a price depends on, where there was
     * none. `late_usage`: corrects an estimate. `stated_created_at`: the time by a clock that was
     * wrong.
     */
    usage_details: jsonb().$type<Record<string, unknown>>(),
    /** The usage row that this signed row corrects (refund, adjustment, late pricing). */
    adjusts_usage_id: uuid(),
    /** Of the corrections of that row the n-th: each is decided in the knowledge of all before. */
    correction_number: integer(),
    vercel_ip_latitude: doublePrecision(),
    vercel_ip_longitude: doublePrecision(),
    http_user_agent_id: integer(),
    http_ip_id: integer(),
    vercel_ip_city_id: integer(),
    vercel_ip_country_id: integer(),
    ja4_digest_id: integer(),
    system_prompt_prefix_id: integer(),
    finish_reason_id: integer(),
    editor_name_id: integer(),
    api_kind_id: integer(),
    feature_id: integer(),
    mode_id: integer(),
    auto_model_id: integer(),
    /**
     * Lookup values whose id could not be had without waiting (I4): another session holds an
     * uncommitted insert of the same value. Resolved to ids later, in the background.
     */
    lookup_values: jsonb().$type<Partial<Record<LookupName, string>>>(),
  },
  (t) => [
    index('idx_microdollar_usage_metadata_lookup_values')
      .on(t.id)
      .where(sql`${t.lookup_values} is not null`),
    index('idx_microdollar_usage_metadata_unpriced').on(t.created_at).where(sql`${t.unpriced}`),
    // Of two corrections that were decided at once, one is refused (src/record/corrections.ts).
    uniqueIndex('uq_microdollar_usage_metadata_correction')
      .on(t.adjusts_usage_id, t.correction_number)
      .where(sql`${t.adjusts_usage_id} is not null`),
  ],
);
