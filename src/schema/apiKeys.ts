import { sql } from 'drizzle-orm';
import { pgTable, text, timestamp, uuid } from 'drizzle-orm/pg-core';

/**
 * API keys, stored as SHA-256 of a 256-bit random secret (a slow hash adds nothing to
 * that much entropy). No user = a service key.
 */
export const apiKeys = pgTable('api_keys', {
  id: uuid().primaryKey().defaultRandom(),
  key_hash: text().notNull().unique(),
  /** First characters of the key, to recognize it in a list. */
  key_prefix: text().notNull(),
  /** What its maker calls it. */
  name: text(),
  kilo_user_id: text(),
  organization_id: uuid(),
  scopes: text().array().notNull().default(sql`'{}'::text[]`),
  created_at: timestamp({ withTimezone: true, mode: 'string' }).notNull().defaultNow(),
  /** Of the last request with it, to about a minute; null = never, or before this was kept. */
  last_used_at: timestamp({ withTimezone: true, mode: 'string' }),
  revoked_at: timestamp({ withTimezone: true, mode: 'string' }),
});
