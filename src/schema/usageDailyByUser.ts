import { sql } from 'drizzle-orm';
import { pgTable, pgView } from 'drizzle-orm/pg-core';
import {
  counterIndexes,
  counterKey,
  counterSums,
  exactKey,
  exactSums,
} from './dimensionColumns.js';
import { DAILY_BY_USER, exactRows } from './dimensionRollups.js';

/**
 * Usage by payer, user and UTC day (dimensionRollups.ts): what reports by day, week and month read that are
 * of no groups, or of members. `id` follows from the key.
 */
export const microdollarUsageDailyByUser = pgTable(
  'microdollar_usage_daily_by_user',
  { ...counterKey(), ...counterSums() },
  counterIndexes('microdollar_usage_daily_by_user'),
);

/** Reported sums (I2): counter rows and tails, in one statement, so in one snapshot. */
export const microdollarUsageDailyByUserExact = pgView('microdollar_usage_daily_by_user_exact', {
  ...exactKey(),
  ...exactSums(),
}).as(sql.raw(`\n  ${exactRows(DAILY_BY_USER)}`));
