import { sql } from 'drizzle-orm';
import {
  date,
  index,
  integer,
  pgTable,
  primaryKey,
  text,
  timestamp,
  uuid,
} from 'drizzle-orm/pg-core';
import { microdollars, xid8 } from './columns.js';

/**
 * Deltas that are not yet in their counter rows. Insert-only for writers; rows are deleted
 * only under the row lock of their payer (the user, or the organization of an organization
 * event), by the fold. A row is one of
 * - a usage delta (`usage_date`): belongs to a daily row and to the payer's balance;
 * - an Exa delta (`exa_month`): belongs to a monthly row; what it charges follows from that.
 */
export const microdollarUsagePending = pgTable(
  'microdollar_usage_pending',
  {
    /** Writer's transaction; orders the log, and lets readers skip what was drained. */
    xid: xid8().notNull().default(sql`pg_current_xact_id()`),
    id: uuid().notNull().defaultRandom(),
    kilo_user_id: text().notNull(),
    organization_id: uuid(),
    usage_date: date({ mode: 'string' }),
    exa_month: date({ mode: 'string' }),
    cost_microdollars: microdollars().notNull(),
    request_count: integer().notNull().default(0),
    free_allowance_microdollars: microdollars(),
    created_at: timestamp({ withTimezone: true, mode: 'string' }).notNull().defaultNow(),
  },
  (t) => [
    primaryKey({ columns: [t.xid, t.id] }),
    index('idx_microdollar_usage_pending_user').on(t.kilo_user_id, t.xid),
    index('idx_microdollar_usage_pending_organization')
      .on(t.organization_id, t.xid)
      .where(sql`${t.organization_id} is not null`),
  ],
);
