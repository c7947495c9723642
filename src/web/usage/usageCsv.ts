import { guardText } from '../../formulas.js';
import { formatUsd } from '../../money.js';
import { COLUMNS, noSums, type Sums } from './metrics.js';
import type { Group, UsageSeries } from './series.js';

const SUMS = COLUMNS.filter((name) => name !== 'cost_microdollars');

const NOTHING = noSums();

const SUM_COLUMNS = ['cost_microdollars', 'cost_usd', ...SUMS];

const cells = (sums: Sums) => [
  String(sums.cost_microdollars),
  formatUsd(sums.cost_microdollars),
  ...SUMS.map((name) => String(sums[name])),
];

/**
 * What chart and table show, as CSV (RFC 4180): a line a period and group, also of a period without
 * usage, and a last line with the total. Where the period before is compared, columns `previous_...` have
 * what it had; that is not known by group, so beside groups it stands in a line of its own. Each column
 * adds up to its total. Text that came from users cannot become a formula.
 */
export function toCsv(
  series: UsageSeries,
  names: { scope: string; nameOf(group: Group): string },
): string {
  const start = `start_${series.zone.toLowerCase().replaceAll(/[^a-z]+/g, '_')}`;
  const header = [start, 'scope', ...(series.by === null ? [] : [series.by])];
  const { by, previous: compared } = series;
  const columns = SUM_COLUMNS;
  const before = compared === null ? [] : columns.map((name) => `previous_${name}`);
  const lines = [[...header, ...columns, ...before].join(',')];
  const line = (first: string, group: string, sums: Sums, previous: Sums | undefined) =>
    lines.push(
      [
        first,
        textCell(names.scope),
        ...(by === null ? [] : [textCell(group)]),
        ...cells(sums),
        ...(compared === null ? [] : cells(previous ?? NOTHING)),
      ].join(','),
    );
  for (const { start, sums, groups, previous } of series.periods) {
    const isWhole = by === null || groups.every((each) => each === undefined);
    if (!isWhole) {
      for (const [index, each] of groups.entries()) {
        const group = series.groups[index];
        if (each === undefined || group === undefined) continue;
        line(start, names.nameOf(group), each, undefined);
      }
    }
    if (isWhole || previous !== undefined) line(start, '', isWhole ? sums : NOTHING, previous);
  }
  line('total', '', series.total, compared?.total);
  return `${lines.join('\r\n')}\r\n`;
}

/** Pairs of groups as their table shows them: a line each, and a last line with the total. */
export function toPairsCsv(
  by: readonly [string, string],
  rows: readonly { names: readonly [string, string]; sums: Sums }[],
  total: Sums,
): string {
  const lines = [
    [...by, ...SUM_COLUMNS],
    ...rows.map(({ names, sums }) => [...names.map(textCell), ...cells(sums)]),
    ['total', '', ...cells(total)],
  ];
  return lines.map((line) => `${line.join(',')}\r\n`).join('');
}

/** As a spreadsheet shows it, not runs it. */
export function textCell(text: string): string {
  const safe = guardText(text);
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

/** microdollar-usage_2026-08-22_2026-11-22_day_model.csv */
export function csvFileName({ range, grain, by }: UsageSeries): string {
  return `microdollar-usage_${range.from}_${range.until}_${grain}${by === null ? '' : `_${by}`}.csv`;
}
