import { sql } from 'drizzle-orm';
import { pgTable, text, timestamp } from 'drizzle-orm/pg-core';
import { microdollars, xid8 } from './columns.js';

/**
 * One row per person. `microdollars_used` is a counter of the lock-or-append mechanism
 * (src/counter): the balance at every instant is the view `kilocode_user_balances`.
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
  /** Every pending row of this user's personal scope with a lower xid has been drained. */
  pending_floor: xid8().notNull().default(sql`'0'::xid8`),
  created_at: timestamp({ withTimezone: true, mode: 'string' }).notNull().defaultNow(),
  updated_at: timestamp({ withTimezone: true, mode: 'string' }).notNull().defaultNow(),
  deleted_at: timestamp({ withTimezone: true, mode: 'string' }),
  /** Transactions below this may have missed the soft delete; null once scrubbed for good (I11). */
  scrub_after_xid: xid8(),
});
