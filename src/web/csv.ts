import { formatUsd } from '../money.js';
import type { DailySeries } from './dailySeries.js';

const HEADER = ['date_utc', 'scope', 'cost_microdollars', 'cost_usd'];

/**
 * Daily spend as CSV (RFC 4180), ending in a total line: the same days and the same total as the
 * chart. Text that came from users cannot become a formula in a spreadsheet.
 */
export function toCsv(series: DailySeries, scope: string): string {
  const scopeCell = textCell(scope);
  const lines = [
    HEADER.join(','),
    ...series.days.map(({ day, microdollars }) =>
      [day, scopeCell, String(microdollars), formatUsd(microdollars)].join(','),
    ),
    [
      'total',
      scopeCell,
      String(series.totalMicrodollars),
      formatUsd(series.totalMicrodollars),
    ].join(','),
  ];
  return `${lines.join('\r\n')}\r\n`;
}

/** A leading =, +, -, @, tab or line end makes a spreadsheet evaluate a cell: an apostrophe stops it. */
export function textCell(text: string): string {
  const safe = /^[=+\-@\t\r\n]/.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

/** microdollar-usage_2026-08-22_2026-11-22.csv */
export function csvFileName(series: DailySeries): string {
  return `microdollar-usage_${series.from}_${series.until}.csv`;
}
