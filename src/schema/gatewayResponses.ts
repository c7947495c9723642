import { sql } from 'drizzle-orm';
import {
  index,
  integer,
  jsonb,
  pgTable,
  primaryKey,
  text,
  timestamp,
  uuid,
} from 'drizzle-orm/pg-core';
import { requestColumns } from './columns.js';

/**
 * Responses that a provider makes in the background: their usage is known only when they have ended,
 * and whoever serves then asks for it. In place of the intent, from the answer that named the
 * response. Kept for a while after: which key may ask for it.
 */
export const gatewayResponses = pgTable(
  'gateway_responses',
  {
    /** Id of the usage row to come. */
    usage_id: uuid().primaryKey(),
    /** The provider's. */
    response_id: text().notNull(),
    /** The gateway's name for the provider. */
    upstream: text().notNull(),
    /** Of these, the key alone may ask for it. */
    ...requestColumns(),
    /** Metadata of the row to come; nothing personal. */
    details: jsonb().$type<Record<string, unknown>>().notNull(),
    /** How often the provider was asked. */
    looks: integer().notNull().default(0),
    look_at: timestamp({ withTimezone: true, mode: 'string' }).notNull().defaultNow(),
    /** Its usage is recorded. */
    settled_at: timestamp({ withTimezone: true, mode: 'string' }),
  },
  (t) => [
    index('idx_gateway_responses_response_id').on(t.response_id),
    index('idx_gateway_responses_look_at').on(t.look_at).where(sql`${t.settled_at} is null`),
  ],
);

/**
 * Items of responses that their provider keeps (messages, reasoning, images), by its names: a request may
 * name one in place of its content. For as long as the response.
 */
export const gatewayResponseItems = pgTable(
  'gateway_response_items',
  {
    item_id: text().notNull(),
    /** Of the response, in `gateway_responses`. */
    usage_id: uuid().notNull(),
    kilo_user_id: text().notNull(),
  },
  (t) => [
    primaryKey({ columns: [t.item_id, t.usage_id] }),
    index('idx_gateway_response_items_usage_id').on(t.usage_id),
  ],
);
