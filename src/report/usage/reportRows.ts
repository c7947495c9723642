import { toExactInteger } from '../../money.js';
import { METRIC_NAMES, type MetricName } from '../../schema/dimensionRollups.js';
import { GROUPS, type ValidReportQuery } from './query.js';
import type { ReportedRow, ReportedSeries, ReportedZone } from './usageReport.sql.js';

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
  series: readonly (ReportedSeries & ReportedZone)[],
): { rows: UsageReportRow[]; total: UsageSums } {
  const format = query.grain === 'hour' ? formatHours(series[0]) : formatDay;
  const periods = new Map<number, UsageReportRow[]>();
  const totals = new Map<MetricName, bigint>(METRIC_NAMES.map((name) => [name, 0n]));
  for (const each of series) {
    const lists = {} as Record<MetricName, Whole[]>;
    for (const name of METRIC_NAMES) {
      lists[name] = numbersOf(each[name]);
      totals.set(name, (totals.get(name) ?? 0n) + sumOf(lists[name]));
    }
    addSeries(groupOf(query, each), numbersOf(each.starts).map(Number), lists, format, periods);
  }
  const rows: UsageReportRow[] = [];
  for (const second of Float64Array.from(periods.keys()).sort()) {
    for (const row of periods.get(second) ?? []) rows.push(row);
  }
  return {
    rows,
    total: Object.fromEntries(
      [...totals].map(([name, sum]) => [name, toExactInteger(sum)]),
    ) as UsageSums,
  };
}

type Whole = number | bigint;
type Formatter = (second: number) => string;

/** Spelled out: thousands of rows are made here. */
function addSeries(
  [name, value, secondName, secondValue]: GroupOfRow,
  starts: readonly number[],
  lists: Record<MetricName, readonly Whole[]>,
  format: Formatter,
  periods: Map<number, UsageReportRow[]>,
): void {
  const cost = lists.cost_microdollars;
  const { requests, errors } = lists;
  const { input_tokens: input, output_tokens: output } = lists;
  const { cache_hit_tokens: hits, cache_write_tokens: writes } = lists;
  let index = -1;
  for (const second of starts) {
    index++;
    let rows = periods.get(second);
    if (rows === undefined) {
      rows = [];
      periods.set(second, rows);
    }
    const row = { start: rows[0]?.start ?? format(second) } as UsageReportRow;
    if (name !== undefined) row[name] = value as never;
    if (secondName !== undefined) row[secondName] = secondValue as never;
    row.cost_microdollars = cost[index] ?? 0;
    row.requests = requests[index] ?? 0;
    row.errors = errors[index] ?? 0;
    row.input_tokens = input[index] ?? 0;
    row.output_tokens = output[index] ?? 0;
    row.cache_hit_tokens = hits[index] ?? 0;
    row.cache_write_tokens = writes[index] ?? 0;
    rows.push(row);
  }
}

type Name = 'other' | (typeof GROUPS)[keyof typeof GROUPS];
/** Names and values of the fields that tell the group of a row. */
type GroupOfRow = [name?: Name, value?: string | null | true, second?: Name, value?: string | null];

function groupOf({ by }: ValidReportQuery, series: ReportedSeries): GroupOfRow {
  if (series.is_previous) return [];
  if (series.is_other) return ['other', true];
  const values = [series.group_1, series.group_2];
  return by.flatMap((group, index) => [GROUPS[group], values[index] ?? null]) as GroupOfRow;
}

const formatDay: Formatter = (second) => new Date(second * 1_000).toISOString().slice(0, 10);

/** A time with its offset, by the changes of the zone's offset. */
function formatHours(row: ReportedZone | undefined): Formatter {
  const changes = numbersOf(row?.changes ?? '{}').map(Number);
  const offsets = numbersOf(row?.offsets ?? '{}').map(Number);
  const texts = offsets.map(formatOffset);
  // Each date and each time of a day once: thousands of hours are told.
  const dates = remembering(formatDay);
  const times = remembering(formatTime);
  return (second) => {
    let at = changes.length - 1;
    while (at > 0 && (changes[at] ?? 0) > second) at--;
    const local = second + (offsets[at] ?? 0) * 60;
    const time = local % DAY_SECONDS;
    return `${dates(local - time)}T${times(time)}${texts[at] ?? '+00:00'}`;
  };
}

function remembering(format: Formatter): Formatter {
  const texts = new Map<number, string>();
  return (second) => {
    const known = texts.get(second);
    if (known !== undefined) return known;
    const text = format(second);
    texts.set(second, text);
    return text;
  };
}

const DAY_SECONDS = 86_400;

/** 05:30:00 */
const formatTime: Formatter = (second) => new Date(second * 1_000).toISOString().slice(11, 19);

const twoDigits = (number: number) => String(number).padStart(2, '0');

/** +05:30 */
function formatOffset(minutes: number): string {
  const size = Math.abs(minutes);
  const parts = [Math.floor(size / 60), size % 60].map(twoDigits);
  return `${minutes < 0 ? '-' : '+'}${parts.join(':')}`;
}

/** Exact: by numbers while these are. */
function sumOf(list: readonly Whole[]): bigint {
  let sum = 0;
  let size = 0;
  for (const value of list) {
    if (typeof value === 'bigint') return sumExactly(list);
    sum += value;
    size += Math.abs(value);
  }
  return Number.isSafeInteger(size) ? BigInt(sum) : sumExactly(list);
}

function sumExactly(list: readonly Whole[]): bigint {
  return list.reduce<bigint>((sum, value) => sum + BigInt(value), 0n);
}

/** An array of whole numbers as PostgreSQL prints it; exact: a bigint past 2^53. */
function numbersOf(text: string): Whole[] {
  const list = text.slice(1, -1);
  const numbers: number[] = JSON.parse(`[${list}]`);
  return numbers.every(Number.isSafeInteger) ? numbers : list.split(',').map(toExactInteger);
}

export function isSeries(row: ReportedRow): row is ReportedRow & ReportedSeries {
  return row.starts !== null;
}
