import { sql } from 'drizzle-orm';
import {
  bigint,
  boolean,
  index,
  pgTable,
  primaryKey,
  text,
  timestamp,
  uuid,
} from 'drizzle-orm/pg-core';
import { microdollars } from './columns.js';
import { kilocodeUsers } from './users.js';

/** `microdollars_used` is a counter; the exact value is the view `organization_balances`. */
export const organizations = pgTable('organizations', {
  id: uuid().primaryKey().defaultRandom(),
  name: text().notNull(),
  microdollars_used: microdollars().notNull().default(0),
  total_microdollars_acquired: microdollars().notNull().default(0),
  /** As for users. */
  opening_microdollars_used: microdollars().default(0),
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
  /** As for users. */
  is_elsewhere: boolean().notNull().default(false),
});

export const organizationMemberships = pgTable(
  'organization_memberships',
  {
    organization_id: uuid()
      .notNull()
      .references(() => organizations.id),
    kilo_user_id: text()
      .notNull()
      .references(() => kilocodeUsers.id),
    role: text().notNull().default('member'),
    created_at: timestamp({ withTimezone: true, mode: 'string' }).notNull().defaultNow(),
  },
  (t) => [
    primaryKey({ columns: [t.organization_id, t.kilo_user_id] }),
    index('idx_organization_memberships_kilo_user_id').on(t.kilo_user_id),
  ],
);
