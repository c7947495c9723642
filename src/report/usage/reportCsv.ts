import { stringify } from 'csv-stringify/sync';
import { guardText } from '../../formulas.js';
import { METRIC_NAMES } from '../../schema/dimensionRollups.js';
import { GROUPS } from './query.js';
import type { UsageReportRow, UsageSums } from './reportRows.js';
import type { UsageReport } from './usageReport.js';

/**
 * A header, a line a period and group, and a last line `total`. Where the period before is compared,
 * columns `previous_...` have what it had; beside groups, of which it is not known, in a line of its own.
 * Each column adds up to its total.
 */
export function toCsv(report: UsageReport): string {
  const { rows, total, previous } = report;
  const groups = report.by.map((group) => GROUPS[group]);
  const isGrouped = groups.length > 0;
  const cells = (sums: UsageSums | null) => METRIC_NAMES.map((name) => String(sums?.[name] ?? 0));
  const before = new Map(previous?.rows.map((row) => [row.start, row]));
  const line = (row: UsageReportRow | null, first: string, sums: UsageSums | null) => [
    first,
    ...groups.map((name) => guardText(row?.[name] ?? '')),
    ...(isGrouped ? [row?.other ? 'true' : ''] : []),
    ...cells(row),
    ...(previous === undefined ? [] : cells(sums)),
  ];
  const lines = rows.map((row) => {
    if (isGrouped) return line(row, row.start, null);
    const sums = before.get(row.start) ?? null;
    before.delete(row.start);
    return line(row, row.start, sums);
  });
  const rest = [...before].map(([start, sums]) => line(null, start, sums));
  return stringify([
    [
      'start',
      ...groups,
      ...(isGrouped ? ['other'] : []),
      ...METRIC_NAMES,
      ...(previous === undefined ? [] : METRIC_NAMES.map((name) => `previous_${name}`)),
    ],
    ...inOrder([...lines, ...rest]),
    line({ start: 'total', ...total }, 'total', previous?.total ?? null),
  ]);
}

/** By the instant that a line begins with; groups of one keep their order. */
function inOrder(lines: readonly string[][]): string[][] {
  return lines.toSorted(([a = ''], [b = '']) => Date.parse(a) - Date.parse(b));
}
