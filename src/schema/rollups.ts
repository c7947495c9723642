import { EXA_LOG, type Log, USAGE_LOG } from './unsettled.js';

/** What coverage is noted of: a counter table, by periods. */
export interface ProvenRollup {
  name: string;
  grain: 'day' | 'month';
}

/**
 * A rollup: a counter table that must equal the sum of a log by (user, organization, period).
 * Declared once: reads, backfill, verify, repair and archive are built from this. The functions of
 * drizzle/ spell the period out; test/integration/rollups.test.ts holds them to it.
 */
export interface Rollup extends ProvenRollup {
  /** Counter table. */
  name: 'microdollar_usage_daily' | 'exa_monthly_usage';
  /** Raw rows: kilo_user_id, organization_id, cost, created_at, position. */
  source: Log['table'];
  /** The same log, with the payer's mark in it. */
  log: Log;
  grain: 'day' | 'month';
  /** Column of the counter table that holds the first day of the period. */
  periodColumn: 'usage_date' | 'month';
  /** Cost of raw rows that were archived and deleted; an SQL expression on counter `c`. */
  archivedCost: string;
  /** The counter also counts requests with a cost. */
  countsRequests: boolean;
}

export const DAILY_ROLLUP: Rollup = {
  name: 'microdollar_usage_daily',
  source: 'microdollar_usage',
  log: USAGE_LOG,
  grain: 'day',
  periodColumn: 'usage_date',
  archivedCost: 'c.archived_cost_microdollars',
  countsRequests: false,
};

export const EXA_ROLLUP: Rollup = {
  name: 'exa_monthly_usage',
  source: 'exa_usage_log',
  log: EXA_LOG,
  grain: 'month',
  periodColumn: 'month',
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

/**
 * The last instant of the period that begins on the day `periodSql`: instants have microseconds.
 * Right for `infinity` and `-infinity` too, which are periods of their own.
 */
export function lastInstantOf(rollup: Rollup, periodSql: string): string {
  return `((${periodSql} + interval '1 ${rollup.grain}' - interval '1 microsecond')
      at time zone 'UTC')`;
}

/** Instants of the period that begins on the day `periodSql`: by index on created_at. */
export function withinPeriod(rollup: Rollup, instantSql: string, periodSql: string): string {
  return `${instantSql} >= ${periodSql}::timestamp at time zone 'UTC'
    and ${instantSql} <= ${lastInstantOf(rollup, periodSql)}`;
}

/**
 * The window of "the last three months" at an instant, as UTC days, both inclusive: from the day
 * three calendar months before (PostgreSQL's month arithmetic: 31 May -> 28 or 29 February). The one
 * declaration: what reads use is what the gate proves (I10).
 */
export function threeMonthWindow(instantSql = 'now()'): { from: string; until: string } {
  const until = `(${instantSql} at time zone 'UTC')::date`;
  return { from: `(${until} - interval '3 months')::date`, until };
}
