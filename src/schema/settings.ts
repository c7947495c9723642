import { sql } from 'drizzle-orm';
import { check, integer, pgTable, text, timestamp } from 'drizzle-orm/pg-core';

/** One row: what every process of this ledger must agree on. Rarely written, never locked by writes. */
export const ledgerSettings = pgTable(
  'ledger_settings',
  {
    id: integer().primaryKey().default(1),
    /** Events created before this instant are refused (`archived_period`); null = none. */
    archive_horizon: timestamp({ withTimezone: true, mode: 'string' }),
    /** raw | shadow | rollup */
    read_mode: text().notNull().default('rollup'),
    updated_at: timestamp({ withTimezone: true, mode: 'string' }).notNull().defaultNow(),
  },
  (t) => [
    check('ledger_settings_one_row', sql`${t.id} = 1`),
    check('ledger_settings_read_mode', sql`${t.read_mode} in ('raw', 'shadow', 'rollup')`),
  ],
);
