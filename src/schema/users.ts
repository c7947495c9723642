import { sql } from 'drizzle-orm';
import { bigint, boolean, pgTable, text, timestamp } from 'drizzle-orm/pg-core';
import { microdollars, xid8 } from './columns.js';

/**
 * One row per person. `microdollars_used` is a fold of the log (src/counter): the balance at every
 * instant is the view `kilocode_user_balances`.
 * No table has a foreign key to this one: its key-share lock would wait for
 * `select ... for update` on the parent (I4).
 */
export const kilocodeUsers = pgTable('kilocode_users', {
  id: text().primaryKey(),
  email: text(),
  name: text(),
  microdollars_used: microdollars().notNull().default(0),
  total_microdollars_acquired: microdollars().notNull().default(0),
  /**
   * What was used before the first usage row that is stored; a declared source of the balance
   * (I5). Null: adopted, and not yet derived by the backfill.
   */
  opening_microdollars_used: microdollars().default(0),
  kilo_pass_threshold: microdollars(),
  /**
   * The mark (src/counter): of the payer's usage rows, those with `position` below it are in the
   * counter rows, but for the exceptions. Only a settle moves it, under the row's lock.
   */
  settled_below: bigint({ mode: 'bigint' }).notNull().default(sql`0`),
  settled_except: bigint({ mode: 'bigint' }).array().notNull().default(sql`'{}'`),
  exa_settled_below: bigint({ mode: 'bigint' }).notNull().default(sql`0`),
  exa_settled_except: bigint({ mode: 'bigint' }).array().notNull().default(sql`'{}'`),
  created_at: timestamp({ withTimezone: true, mode: 'string' }).notNull().defaultNow(),
  updated_at: timestamp({ withTimezone: true, mode: 'string' }).notNull().defaultNow(),
  deleted_at: timestamp({ withTimezone: true, mode: 'string' }),
  /** Transactions below this may have missed the soft delete; null once scrubbed for good (I11). */
  scrub_after_xid: xid8(),
  /**
   * Money and usage live on another shard (src/shards): the row is here because the user acts here, or is
   * being moved away. Whatever they would pay for is refused as that of an unknown user.
   */
  is_elsewhere: boolean().notNull().default(false),
});
