import { index, pgTable, text, timestamp, uuid } from 'drizzle-orm/pg-core';
import { microdollars } from './columns.js';

/** Top-ups: the sources of `total_microdollars_acquired`. Exactly one of user, organization. */
export const creditTransactions = pgTable(
  'credit_transactions',
  {
    id: uuid().primaryKey().defaultRandom(),
    kilo_user_id: text(),
    organization_id: uuid(),
    amount_microdollars: microdollars().notNull(),
    description: text(),
    created_at: timestamp({ withTimezone: true, mode: 'string' }).notNull().defaultNow(),
  },
  (t) => [
    index('idx_credit_transactions_kilo_user_id').on(t.kilo_user_id),
    index('idx_credit_transactions_organization_id').on(t.organization_id),
  ],
);
