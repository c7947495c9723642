import { addSums, type Metric, metricOf, noSums, readSums, type Sums } from './metrics.js';
import { compare, groupIn, type Report } from './series.js';

/** What two groups have together over the whole range, or everything beyond the largest pairs. */
export interface Pair {
  /** Null: usage that names none. */
  ids: readonly [string | null, string | null];
  isOther: boolean;
  sums: Sums;
}

/** Pairs of a report by two groups, the largest by the metric first, the rest last. */
export function toPairs(report: Report, metric: Metric): Pair[] {
  const [first = null, second = null] = report.by;
  const pairs = new Map<string, Pair>();
  for (const row of report.rows) {
    const isOther = row.other === true;
    const ids = [groupIn(row, first), groupIn(row, second)] as const;
    const key = JSON.stringify([isOther, ...ids]);
    const pair = pairs.get(key) ?? { ids, isOther, sums: noSums() };
    addSums(pair.sums, readSums(row));
    pairs.set(key, pair);
  }
  return [...pairs.values()].sort(
    (a, b) =>
      Number(a.isOther) - Number(b.isOther) ||
      compare(metricOf(b.sums, metric), metricOf(a.sums, metric)),
  );
}
