import { readSums, type Sums } from './metrics.js';
import { groupIn, type Report } from './series.js';

/** What two groups have together over the whole range, or everything beyond the largest pairs. */
export interface Pair {
  /** Null: usage that names none. */
  ids: readonly [string | null, string | null];
  isOther: boolean;
  sums: Sums;
}

/** Pairs of a report in its order: the largest first, the rest last. */
export function toPairs({ by, rows }: NonNullable<Report['pairs']>): Pair[] {
  const [first, second] = by;
  return rows.map((row) => ({
    ids: [groupIn(row, first), groupIn(row, second)],
    isOther: row.other === true,
    sums: readSums(row),
  }));
}
