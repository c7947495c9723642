import { formatUsd } from '../../money.js';
import { COLUMNS, type Sums } from './metrics.js';
import type { Group, UsageSeries } from './series.js';

const SUMS = COLUMNS.filter((name) => name !== 'cost_microdollars');

/**
 * What chart and table show, as CSV (RFC 4180): a line a period and group, also of a period without
 * usage, and a last line with the total. Text that came from users cannot become a formula.
 */
export function toCsv(
  series: UsageSeries,
  names: { scope: string; nameOf(group: Group): string },
): string {
  const start = `start_${series.zone.toLowerCase().replaceAll(/[^a-z]+/g, '_')}`;
  const header = [start, 'scope', ...(series.by === null ? [] : [series.by])];
  const lines = [[...header, 'cost_microdollars', 'cost_usd', ...SUMS].join(',')];
  const line = (first: string, group: string | null, sums: Sums) =>
    lines.push(
      [
        first,
        textCell(names.scope),
        ...(group === null ? [] : [textCell(group)]),
        String(sums.cost_microdollars),
        formatUsd(sums.cost_microdollars),
        ...SUMS.map((name) => String(sums[name])),
      ].join(','),
    );
  for (const period of series.periods) {
    if (series.by === null || period.groups.every((sums) => sums === undefined)) {
      line(period.start, series.by === null ? null : '', period.sums);
      continue;
    }
    for (const [index, sums] of period.groups.entries()) {
      const group = series.groups[index];
      if (sums !== undefined && group !== undefined) line(period.start, names.nameOf(group), sums);
    }
  }
  line('total', series.by === null ? null : '', series.total);
  return `${lines.join('\r\n')}\r\n`;
}

/** A leading =, +, -, @, tab or line end makes a spreadsheet evaluate a cell: an apostrophe stops it. */
export function textCell(text: string): string {
  const safe = /^[=+\-@\t\r\n]/.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

/** microdollar-usage_2026-08-22_2026-11-22_day_model.csv */
export function csvFileName({ range, grain, by }: UsageSeries): string {
  return `microdollar-usage_${range.from}_${range.until}_${grain}${by === null ? '' : `_${by}`}.csv`;
}
