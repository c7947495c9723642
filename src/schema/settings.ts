import { sql } from 'drizzle-orm';
import {
  bigint,
  boolean,
  check,
  integer,
  pgTable,
  text,
  timestamp,
  uuid,
} from 'drizzle-orm/pg-core';
import { xid8 } from './columns.js';

/** Where reads come from; `shadow` answers from raw usage and compares with the rollup. */
export type ReadMode = 'raw' | 'shadow' | 'rollup';

/** One row: what every process of this ledger must agree on. Rarely written, never locked by writes. */
export const ledgerSettings = pgTable(
  'ledger_settings',
  {
    id: integer().primaryKey().default(1),
    /** Events created before this instant are refused (`archived_period`); null = none. */
    archive_horizon: timestamp({ withTimezone: true, mode: 'string' }),
    /** raw | shadow | rollup */
    read_mode: text().notNull().default('rollup'),
    /**
     * There was no usage when the ledger was installed, and no foreign program wrote any since, as
     * far as is known: every day is right by construction.
     */
    installed_empty: boolean().notNull().default(false),
    /** Why the mode is what it is, e.g. what made it fall back. */
    read_mode_reason: text(),
    /** Shadow comparisons and mismatches since the mode became `shadow`. */
    shadow_comparisons: bigint({ mode: 'number' }).notNull().default(0),
    shadow_mismatches: bigint({ mode: 'number' }).notNull().default(0),
    shadow_since: timestamp({ withTimezone: true, mode: 'string' }),
    /**
     * The cluster whose transaction ids positions are made of, and their generation: raised by
     * `migrate` when ids could begin anew (R6). `position_seen` was reached here: a lower one tells
     * a cluster that was copied, and took in a dump.
     */
    system_identifier: text(),
    generation: bigint({ mode: 'number' }).notNull().default(1),
    position_seen: bigint({ mode: 'bigint' }).notNull().default(sql`0`),
    /**
     * The transaction that raised the generation, until the rows that were written before, above
     * every mark, have positions of the new one; else null.
     */
    generation_raised_xid: xid8(),
    /** Every row with a lower position is settled; kept by the sweep, so that proofs skip history. */
    settled_everywhere_below: bigint({ mode: 'bigint' }).notNull().default(sql`0`),
    swept_at: timestamp({ withTimezone: true, mode: 'string' }),
    /** Exa: free per payer's user and month; what a month's row was made with stays. */
    exa_free_allowance_microdollars: bigint({ mode: 'number' }).notNull().default(10_000_000),
    /**
     * Migrations that a program which does not know them must not work beside. Each adds its
     * own name (src/db/migrate/README.md).
     */
    breaking_migrations: text().array().notNull().default(sql`'{}'`),
    /** Of a shard, set once: the installation that it is a part of, and its name there. Null: it is none. */
    installation_id: uuid(),
    shard_name: text(),
    updated_at: timestamp({ withTimezone: true, mode: 'string' }).notNull().defaultNow(),
  },
  (t) => [
    check('ledger_settings_one_row', sql`${t.id} = 1`),
    check('ledger_settings_read_mode', sql`${t.read_mode} in ('raw', 'shadow', 'rollup')`),
    check('ledger_settings_shard', sql`(installation_id is null) = (shard_name is null)`),
  ],
);
