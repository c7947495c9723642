import type { Query } from '../db/query.js';
import { lastInstantOf, type Rollup } from '../schema/rollups.js';

/**
 * The planner's estimate of raw rows in a range of periods, both inclusive, null = unbounded: an
 * index range, so good and nearly free. Days as the database prints them.
 */
export async function expectRows(
  query: Query,
  rollup: Rollup,
  { from, until }: { from: string | null; until: string | null },
): Promise<number> {
  const conditions = [
    ...(from === null
      ? []
      : [`s.created_at >= date '${asDay(from)}'::timestamp at time zone 'UTC'`]),
    ...(until === null
      ? []
      : [`s.created_at <= ${lastInstantOf(rollup, `date '${asDay(until)}'`)}`]),
  ];
  const where = conditions.length === 0 ? '' : `where ${conditions.join('\n  and ')}`;
  // Explained, so parameters cannot be given.
  const [row] = await query<{ 'QUERY PLAN': { Plan: { 'Plan Rows': number } }[] }>({
    name: 'microdollar_expect_rows',
    text: `explain (format json)
select from ${rollup.source} as s
${where}`,
    values: [],
  });
  return row?.['QUERY PLAN'][0]?.Plan['Plan Rows'] ?? 0;
}

/** Text of a date: digits, and words such as `infinity` and `BC`. */
function asDay(day: string): string {
  if (/^[-\d]*[\w ]*$/.test(day)) return day;
  throw new TypeError('not a day');
}
