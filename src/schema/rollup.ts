import { sql } from 'drizzle-orm';
import {
  bigint,
  boolean,
  check,
  date,
  index,
  integer,
  pgTable,
  primaryKey,
  text,
  uuid,
} from 'drizzle-orm/pg-core';
import { instant, microdollarSum } from './columns.js';

/**
 * What is known of each period (UTC day or month) of a rollup, periods without usage too. No live
 * write touches it: it would be a hot row. A missing row means `unbuilt`.
 */
export const rollupCoverage = pgTable(
  'rollup_coverage',
  {
    /** The counter table. */
    rollup: text().notNull(),
    /** First day of the period. */
    period: date({ mode: 'string' }).notNull(),
    state: text().notNull().default('unbuilt'),
    /** Raw rows and their cost as of the last check. */
    raw_rows: bigint({ mode: 'number' }),
    raw_cost_microdollars: microdollarSum(),
    /** Keys found wrong by the last check, and the sum of their absolute drift. */
    drift_keys: integer().notNull().default(0),
    drift_microdollars: microdollarSum().notNull().default(0),
    /** Backfill progress within the period: users up to this one are done. */
    done_until_user: text(),
    claimed_by: uuid(),
    claimed_until: instant(),
    built_at: instant(),
    verified_at: instant(),
  },
  (t) => [
    primaryKey({ columns: [t.rollup, t.period] }),
    check(
      'rollup_coverage_state',
      sql`${t.state} in ('unbuilt', 'building', 'built', 'verified', 'archived')`,
    ),
  ],
);

/** One row per rollup: the backfill that was asked for, its pause switch, and its pulse. */
export const rollupBackfill = pgTable('rollup_backfill', {
  rollup: text().primaryKey(),
  is_paused: boolean().notNull().default(false),
  paused_at: instant(),
  started_at: instant(),
  heartbeat_at: instant(),
  finished_at: instant(),
  rows_done: bigint({ mode: 'number' }).notNull().default(0),
  rows_expected: bigint({ mode: 'number' }).notNull().default(0),
});

/** Every correction of a counter: what it was, what it became, and why. */
export const rollupRepairs = pgTable(
  'rollup_repairs',
  {
    id: uuid().primaryKey().defaultRandom(),
    /** The counter table, `kilocode_users` or `organizations`. */
    counter: text().notNull(),
    kilo_user_id: text(),
    organization_id: uuid(),
    period: date({ mode: 'string' }),
    /** Reported amounts: row and unsettled rows. */
    before_microdollars: microdollarSum().notNull(),
    after_microdollars: microdollarSum().notNull(),
    cause: text().notNull(),
    repaired_at: instant().notNull().defaultNow(),
  },
  (t) => [index('idx_rollup_repairs_repaired_at').on(t.repaired_at)],
);

/** Progress of a proof of balances: payers up to `done_until` are checked. */
export const balanceChecks = pgTable('balance_checks', {
  /** `kilocode_users` or `organizations`. */
  scope: text().primaryKey(),
  done_until: text(),
  checked: bigint({ mode: 'number' }).notNull().default(0),
  drifted: bigint({ mode: 'number' }).notNull().default(0),
  started_at: instant(),
  finished_at: instant(),
});
