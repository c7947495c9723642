import { stringify } from 'csv-stringify/sync';
import { METRIC_NAMES } from '../../schema/dimensionRollups.js';
import { GROUPS } from './query.js';
import type { UsageReport } from './usageReport.js';

/** Spreadsheets run text that begins like this as a formula (OWASP, CSV injection). */
const FORMULA_START = /^[=+\-@\t\r]/;

/** Text that a spreadsheet shows as it is. */
export function guardText(text: string): string {
  return FORMULA_START.test(text) ? `'${text}` : text;
}

/** A header, a line a period and group, and a last line `total`. */
export function toCsv(report: UsageReport): string {
  const groups = report.by.map((group) => GROUPS[group]);
  const lines = report.rows.map((row) => [
    row.start,
    ...groups.map((name) => guardText(row[name] ?? '')),
    ...(groups.length > 0 ? [row.other ? 'true' : ''] : []),
    ...METRIC_NAMES.map((name) => String(row[name])),
  ]);
  const blanks = groups.length > 0 ? [...groups.map(() => ''), ''] : [];
  return stringify([
    ['start', ...groups, ...(groups.length > 0 ? ['other'] : []), ...METRIC_NAMES],
    ...lines,
    ['total', ...blanks, ...METRIC_NAMES.map((name) => String(report.total[name]))],
  ]);
}
