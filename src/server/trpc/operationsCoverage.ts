import { z } from 'zod';
import { toJsonInteger, toSafeInteger } from '../../money.js';
import { type CoverageRow, coverageStatement } from '../../rollup/coverage.sql.js';
import { todayStatement } from '../../rollup/periods.sql.js';
import { DAILY_ROLLUP } from '../../schema/rollups.js';
import { countedPeriodsStatement } from '../queries/countedPeriods.sql.js';
import { readRows } from '../queries/rows.js';
import { checkDayRange, day, inputOf, MAX_DAYS } from '../validation.js';
import { procedureFor } from './procedure.js';
import { shardInput, shardOf } from './shardOf.js';

const input = z
  .strictObject({
    /** UTC days, inclusive. Default: from the first day that counts to today, three years at most. */
    from: day.optional(),
    until: day.optional(),
    ...shardInput,
  })
  .optional();

const DAY_MS = 86_400_000;

export const readCoverage = procedureFor(
  'admin',
  'What is known of each UTC day of the daily rollup, oldest first; `empty`: it has no ' +
    'usage, and was not built.',
)
  .input(inputOf(input))
  .query(async ({ ctx, input: query }) => {
    const { part } = await shardOf(ctx, query?.shard);
    const { pool } = part;
    const [periods, [now]] = await Promise.all([
      readRows<{ period: string }>(pool, countedPeriodsStatement(DAILY_ROLLUP)),
      readRows<{ today: string }>(pool, todayStatement()),
    ]);
    const today = now?.today ?? new Date().toISOString().slice(0, 10);
    const until = query?.until ?? today;
    const earliest = new Date(Date.parse(until) - (MAX_DAYS - 1) * DAY_MS)
      .toISOString()
      .slice(0, 10);
    const first = periods[0]?.period ?? today;
    const known = new Set(periods.map(({ period }) => period));
    const from = query?.from ?? [earliest, [first, until].sort()[0] ?? until].sort()[1] ?? until;
    checkDayRange(from, until);
    const rows = await readRows<CoverageRow>(pool, coverageStatement(DAILY_ROLLUP, from, until));
    return {
      from,
      until,
      today,
      /** Days before `from` exist and are not shown. */
      isCut: query?.from === undefined && first < earliest,
      days: rows.map((row) => ({
        day: row.period,
        state: known.has(row.period) ? row.state : ('empty' as const),
        rawRows: row.raw_rows === null ? null : toSafeInteger(row.raw_rows),
        rawCostMicrodollars:
          row.raw_cost_microdollars === null ? null : toJsonInteger(row.raw_cost_microdollars),
        driftKeys: row.drift_keys,
        driftMicrodollars: toJsonInteger(row.drift_microdollars),
        builtAt: row.built_at,
        verifiedAt: row.verified_at,
      })),
    };
  });
