/**
 * A rollup: a counter table that must equal the sum of a source table by (user, organization,
 * period). Declared once: batches and appends of the write path, reads, backfill, verify, repair
 * and archive are built from this. The functions of drizzle/ spell the period out, because a
 * migration is never edited; test/integration/rollups.test.ts holds them to it.
 */
export interface Rollup {
  /** Counter table. */
  name: 'microdollar_usage_daily' | 'exa_monthly_usage';
  /** Raw rows: kilo_user_id, organization_id, cost, created_at. */
  source: 'microdollar_usage' | 'exa_usage_log';
  grain: 'day' | 'month';
  /** Column of the counter table that holds the first day of the period. */
  periodColumn: 'usage_date' | 'month';
  /** Column of the pending table that holds it. */
  pendingColumn: 'usage_date' | 'exa_month';
  /** Cost of raw rows that were archived and deleted; an SQL expression on counter `c`. */
  archivedCost: string;
  /** The counter also counts requests with a cost. */
  countsRequests: boolean;
}

export const DAILY_ROLLUP: Rollup = {
  name: 'microdollar_usage_daily',
  source: 'microdollar_usage',
  grain: 'day',
  periodColumn: 'usage_date',
  pendingColumn: 'usage_date',
  archivedCost: 'c.archived_cost_microdollars',
  countsRequests: false,
};

export const EXA_ROLLUP: Rollup = {
  name: 'exa_monthly_usage',
  source: 'exa_usage_log',
  grain: 'month',
  periodColumn: 'month',
  pendingColumn: 'exa_month',
  archivedCost: '0::bigint',
  countsRequests: true,
};

export const ROLLUPS: readonly Rollup[] = [DAILY_ROLLUP, EXA_ROLLUP];

/** The period of an instant: UTC in the expression itself, whatever the session says (I7). */
export function periodOf(rollup: Rollup, instantSql: string): string {
  return rollup.grain === 'day'
    ? `(${instantSql} at time zone 'UTC')::date`
    : `date_trunc('month', ${instantSql} at time zone 'UTC')::date`;
}

/** Instants of the period that begins on the day `periodSql`: half open, by index on created_at. */
export function withinPeriod(rollup: Rollup, instantSql: string, periodSql: string): string {
  return `${instantSql} >= ${periodSql}::timestamp at time zone 'UTC'
    and ${instantSql} < (${periodSql} + interval '1 ${rollup.grain}') at time zone 'UTC'`;
}
