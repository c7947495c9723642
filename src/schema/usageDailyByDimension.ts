import { sql } from 'drizzle-orm';
import { pgTable, pgView } from 'drizzle-orm/pg-core';
import {
  allDimensions,
  counterIndexes,
  counterKey,
  counterSums,
  exactKey,
  exactSums,
} from './dimensionColumns.js';
import { DAILY_BY_DIMENSION, exactRows } from './dimensionRollups.js';

/**
 * Usage by payer, user, UTC day, provider, model, key and project (dimensionRollups.ts): what reports
 * by day, week and month read. `id` follows from the key.
 */
export const microdollarUsageDailyByDimension = pgTable(
  'microdollar_usage_daily_by_dimension',
  { ...counterKey(), ...allDimensions(), ...counterSums() },
  counterIndexes('microdollar_usage_daily_by_dimension'),
);

/** Reported sums (I2): counter rows and tails, in one statement, so in one snapshot. */
export const microdollarUsageDailyByDimensionExact = pgView(
  'microdollar_usage_daily_by_dimension_exact',
  { ...exactKey(), ...allDimensions(), ...exactSums() },
).as(sql.raw(`\n  ${exactRows(DAILY_BY_DIMENSION)}`));
