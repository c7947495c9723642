import { toExactInteger } from '../../money.js';
import { METRIC_NAMES, type MetricName } from '../../schema/dimensionRollups.js';
import { GROUPS, type ValidReportQuery } from './query.js';
import type { ReportedRow, ReportedSeries } from './usageReport.sql.js';

/** Exact: a bigint past 2^53. `requests` counts usage rows, so corrections too. */
export type UsageSums = Record<MetricName, number | bigint>;

export type UsageReportRow = UsageSums & {
  /** First instant of the period: a day of the zone, by hour a time with the zone's offset then. */
  start: string;
  model?: string | null;
  provider?: string | null;
  api_key_id?: string | null;
  project_id?: string | null;
  kilo_user_id?: string | null;
  /** What is beyond the largest groups. */
  other?: true;
};

/** Series as rows, in order of time, of groups within a period; and their totals. */
export function toRows(
  query: ValidReportQuery,
  series: readonly ReportedSeries[],
): { rows: UsageReportRow[]; total: UsageSums } {
  const periods = new Map<number, UsageReportRow[]>();
  const total = new Map<MetricName, bigint>(METRIC_NAMES.map((name) => [name, 0n]));
  for (const each of series) {
    addSeries(query, each, periods);
    for (const [index, sum] of numbersOf(each.totals).entries()) {
      const name = METRIC_NAMES[index] as MetricName;
      total.set(name, (total.get(name) ?? 0n) + BigInt(sum));
    }
  }
  const sorted = [...periods].sort(([a], [b]) => a - b);
  return {
    rows: sorted.flatMap(([, rows]) => rows),
    total: Object.fromEntries(
      METRIC_NAMES.map((name) => [name, toExactInteger(total.get(name) ?? 0n)]),
    ) as UsageSums,
  };
}

function addSeries(
  query: ValidReportQuery,
  series: ReportedSeries,
  periods: Map<number, UsageReportRow[]>,
): void {
  const groups = groupsOf(query, series);
  const offsets = series.offsets === null ? null : numbersOf(series.offsets);
  const cost = numbersOf(series.cost_microdollars);
  const requests = numbersOf(series.requests);
  const errors = numbersOf(series.errors);
  const input = numbersOf(series.input_tokens);
  const output = numbersOf(series.output_tokens);
  const hits = numbersOf(series.cache_hit_tokens);
  const writes = numbersOf(series.cache_write_tokens);
  for (const [index, start] of numbersOf(series.starts).entries()) {
    const second = Number(start);
    let rows = periods.get(second);
    if (rows === undefined) {
      rows = [];
      periods.set(second, rows);
    }
    // Spelled out: thousands of rows are made here.
    rows.push({
      start: rows[0]?.start ?? formatStart(query, second, Number(offsets?.[index] ?? 0)),
      ...groups,
      cost_microdollars: cost[index] ?? 0,
      requests: requests[index] ?? 0,
      errors: errors[index] ?? 0,
      input_tokens: input[index] ?? 0,
      output_tokens: output[index] ?? 0,
      cache_hit_tokens: hits[index] ?? 0,
      cache_write_tokens: writes[index] ?? 0,
    });
  }
}

function groupsOf({ by }: ValidReportQuery, series: ReportedSeries): Partial<UsageReportRow> {
  const { is_previous, is_other, group_1, group_2 } = series;
  if (is_previous) return {};
  if (is_other) return { other: true };
  return Object.fromEntries(
    by.map((group, index) => [GROUPS[group], index === 0 ? group_1 : group_2]),
  );
}

/** A day, or by hour a time with its offset. */
function formatStart({ grain }: ValidReportQuery, second: number, offsetMinutes: number): string {
  const local = new Date((second + offsetMinutes * 60) * 1_000).toISOString();
  if (grain !== 'hour') return local.slice(0, 10);
  const size = Math.abs(offsetMinutes);
  const two = (value: number) => String(value).padStart(2, '0');
  const offset = `${two(Math.floor(size / 60))}:${two(size % 60)}`;
  return `${local.slice(0, 19)}${offsetMinutes < 0 ? '-' : '+'}${offset}`;
}

/** An array of whole numbers as PostgreSQL prints it; exact: a bigint past 2^53. */
function numbersOf(text: string): (number | bigint)[] {
  const list = text.slice(1, -1);
  const numbers: number[] = JSON.parse(`[${list}]`);
  return numbers.every(Number.isSafeInteger) ? numbers : list.split(',').map(toExactInteger);
}

export function isSeries(row: ReportedRow): row is ReportedRow & ReportedSeries {
  return row.starts !== null;
}
