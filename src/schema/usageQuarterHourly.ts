import { sql } from 'drizzle-orm';
import { bigint, pgTable, pgView, primaryKey, text } from 'drizzle-orm/pg-core';
import { instant } from './columns.js';
import {
  allDimensions,
  counterIndexes,
  counterKey,
  counterSums,
  exactKey,
  exactSums,
} from './dimensionColumns.js';
import { exactRows, QUARTER_HOURLY } from './dimensionRollups.js';

/**
 * Usage by payer, user, quarter of an hour, provider, model, key and project (dimensionRollups.ts).
 * `id` follows from the key.
 */
export const microdollarUsageQuarterHourly = pgTable(
  'microdollar_usage_quarter_hourly',
  { ...counterKey(), ...allDimensions(), ...counterSums() },
  counterIndexes('microdollar_usage_quarter_hourly'),
);

/** Reported sums (I2): counter rows and tails, in one statement, so in one snapshot. */
export const microdollarUsageQuarterHourlyExact = pgView('microdollar_usage_quarter_hourly_exact', {
  ...exactKey(),
  ...allDimensions(),
  ...exactSums(),
}).as(sql.raw(`\n  ${exactRows(QUARTER_HOURLY)}`));

/** How far a payer's rows are in the counter rows of a rollup; the lock of all of them. */
export const rollupMarks = pgTable(
  'rollup_marks',
  {
    rollup: text().notNull(),
    /** `user` or `organization`. */
    payer_scope: text().notNull(),
    payer_id: text().notNull(),
    settled_below: bigint({ mode: 'bigint' }).notNull(),
    settled_except: bigint({ mode: 'bigint' }).array().notNull().default(sql`'{}'`),
  },
  (t) => [primaryKey({ columns: [t.rollup, t.payer_scope, t.payer_id] })],
);

/** From which position on a rollup is folded from the log; what is older is built. */
export const rollupStarts = pgTable('rollup_starts', {
  rollup: text().primaryKey(),
  position: bigint({ mode: 'bigint' }).notNull(),
  /** Before its first usage: `-infinity`. */
  started_at: instant().notNull(),
});
