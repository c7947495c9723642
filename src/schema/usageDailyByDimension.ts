import { sql } from 'drizzle-orm';
import { index, pgTable, pgView } from 'drizzle-orm/pg-core';
import { dimensionCounterColumns, dimensionSumColumns } from './dimensionColumns.js';
import { DAILY_BY_DIMENSION, exactRows } from './dimensionRollups.js';

/**
 * Usage by payer, user, UTC day, provider, model, key and project (dimensionRollups.ts): what reports
 * by day, week and month read. `id` follows from the key.
 */
export const microdollarUsageDailyByDimension = pgTable(
  'microdollar_usage_daily_by_dimension',
  dimensionCounterColumns(),
  (t) => [
    index('idx_microdollar_usage_daily_by_dimension_personal')
      .on(t.kilo_user_id, t.period_start)
      .where(sql`${t.organization_id} is null`),
    index('idx_microdollar_usage_daily_by_dimension_organization')
      .on(t.organization_id, t.period_start)
      .where(sql`${t.organization_id} is not null`),
    // A day at a time: verification, and the days that there are.
    index('idx_microdollar_usage_daily_by_dimension_period_start').on(t.period_start),
  ],
);

/** Reported sums (I2): counter rows and tails, in one statement, so in one snapshot. */
export const microdollarUsageDailyByDimensionExact = pgView(
  'microdollar_usage_daily_by_dimension_exact',
  dimensionSumColumns(),
).as(sql.raw(`\n  ${exactRows(DAILY_BY_DIMENSION)}`));
