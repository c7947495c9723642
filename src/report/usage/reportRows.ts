import { toExactInteger } from '../../money.js';
import { METRIC_NAMES, type MetricName } from '../../schema/dimensionRollups.js';
import { DAY_SECONDS, numbersOf, type PeriodOf } from './periods.js';
import { GROUPS, type Group, type TopMetric, type ValidReportQuery } from './query.js';
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

/** Two groups together. */
export type UsagePair = Omit<UsageReportRow, 'start'>;

/** The largest by the metric first, what is beyond them last. */
export interface UsagePairs {
  by: [Group, Group];
  rows: UsagePair[];
}

type Series = ReportedSeries & ReportedZone;

/** Series as rows, in order of time, of groups within a period; and their totals. */
export function toRows(
  query: ValidReportQuery,
  series: readonly Series[],
  periodOf: PeriodOf,
): { rows: UsageReportRow[]; total: UsageSums } {
  const format = remembering(query.grain === 'hour' ? formatHours(series[0]) : formatDay);
  const periods = new Map<number, UsageReportRow[]>();
  const groups = tellApart(query, series, periodOf, format);
  for (const { rows: ofGroup } of groups) {
    for (const [second, row] of ofGroup) {
      const rows = periods.get(second);
      if (rows === undefined) periods.set(second, [row]);
      else rows.push(row);
    }
  }
  const rows: UsageReportRow[] = [];
  for (const second of Float64Array.from(periods.keys()).sort()) {
    for (const row of periods.get(second) ?? []) rows.push(row);
  }
  return { rows, total: addSums(groups.map(({ total }) => total)) };
}

/** Series as pairs of the range. */
export function toPairs(
  query: ValidReportQuery,
  series: readonly Series[],
  periodOf: PeriodOf,
): UsagePairs {
  const groups = tellApart(query, series, periodOf, () => '').sort(bySize(query.metric));
  return {
    by: query.by as [Group, Group],
    rows: groups.map(({ of, total }) => {
      const { start: _, ...pair } = rowsOf(groupOf(query, of), () => '')(0);
      return { ...pair, ...total };
    }),
  };
}

type Formatter = (second: number) => string;

/** A group, its rows by the second that a period starts at, and what these are together. */
interface Told {
  of: Series;
  list: string;
  rows: Map<number, UsageReportRow>;
  total: UsageSums;
}

/** The largest groups in the order of their names, and what is beyond them. */
function tellApart(
  query: ValidReportQuery,
  series: readonly Series[],
  periodOf: PeriodOf,
  format: Formatter,
): Told[] {
  const sum = (list: string, of: Series) =>
    sumList(list, periodOf, rowsOf(groupOf(query, of), format));
  const lists = new Map<string, { of: Series; list: string }>();
  for (const of of series) {
    const key = JSON.stringify([of.is_other, of.group_1, of.group_2]);
    const list = lists.get(key)?.list;
    lists.set(key, { of, list: list === undefined ? of.list : `${list},${of.list}` });
  }
  const told = [...lists.values()]
    .map((each): Told => ({ ...each, ...sum(each.list, each.of) }))
    // Of which all was taken off again.
    .filter(({ rows }) => rows.size > 0);
  const named = told.filter(({ of }) => !of.is_other);
  const beyond = named.sort(bySize(query.metric)).splice(query.by.length === 0 ? 1 : query.top);
  const rest = [...beyond, ...told.filter(({ of }) => of.is_other)];
  named.sort((a, b) => compareNames(a.of, b.of));
  const [first] = rest;
  if (first === undefined) return named;
  const of = { ...first.of, is_other: true };
  const list = rest.map((each) => each.list).join(',');
  return [...named, { of, list, ...sum(list, of) }];
}

const bySize = (metric: TopMetric) => (a: Told, b: Told) => {
  const [x, y] = [sizeOf(a.total, metric), sizeOf(b.total, metric)];
  if (a.of.is_other !== b.of.is_other) return a.of.is_other ? 1 : -1;
  return x === y ? compareNames(a.of, b.of) : x > y ? -1 : 1;
};

function sizeOf(sums: UsageSums, metric: TopMetric): bigint {
  if (metric === 'tokens') return BigInt(sums.input_tokens) + BigInt(sums.output_tokens);
  return BigInt(metric === 'cost' ? sums.cost_microdollars : sums.requests);
}

const compareNames = (a: Series, b: Series): number =>
  compareTexts(a.group_1, b.group_1) || compareTexts(a.group_2, b.group_2);

/** By bytes, as the server does; null last. */
function compareTexts(a: string | null, b: string | null): number {
  if (a === null || b === null) return Number(a === null) - Number(b === null);
  return a === b ? 0 : Buffer.compare(Buffer.from(a), Buffer.from(b));
}

type Sums = Pick<Told, 'rows' | 'total'>;

/** A start, and as many sums. */
const WIDTH = 1 + METRIC_NAMES.length;

/**
 * Of a list of periods, in any order and each as often as it likes: a row each, and their total. Read digit
 * by digit: there may be some hundred thousand numbers, and an array of them costs as much as to add them up.
 */
function sumList(list: string, periodOf: PeriodOf, newRow: NewRow): Sums {
  const rows = new Map<number, UsageReportRow>();
  const entry = new Float64Array(WIDTH);
  let size = 0;
  let field = 0;
  let value = 0;
  let isNegative = false;
  for (let at = 0; at <= list.length; at++) {
    const code = at < list.length ? list.charCodeAt(at) : COMMA;
    if (code >= ZERO) {
      value = value * 10 + (code - ZERO);
    } else if (code === MINUS) {
      isNegative = true;
    } else {
      size += value;
      entry[field++] = isNegative ? -value : value;
      value = 0;
      isNegative = false;
      if (field === WIDTH) {
        field = 0;
        const second = periodOf(entry[0] as number);
        let row = rows.get(second);
        if (row === undefined) {
          row = newRow(second);
          rows.set(second, row);
        }
        addEntry(entry, row as NumberRow);
      }
    }
  }
  // No sum of some of them is larger.
  if (!Number.isSafeInteger(size)) return sumExactly(list.split(','), periodOf, newRow);
  const total = noSums();
  for (const [second, row] of rows) {
    if (row.requests === 0) rows.delete(second);
    addRow(row as NumberRow, total);
  }
  return { rows, total };
}

const COMMA = 44;
const MINUS = 45;
const ZERO = 48;

/** Spelled out. */
function addEntry(entry: Float64Array, to: NumberSums): void {
  to.cost_microdollars += entry[1] as number;
  to.requests += entry[2] as number;
  to.errors += entry[3] as number;
  to.input_tokens += entry[4] as number;
  to.output_tokens += entry[5] as number;
  to.cache_hit_tokens += entry[6] as number;
  to.cache_write_tokens += entry[7] as number;
}

function addRow(row: NumberRow, to: NumberSums): void {
  to.cost_microdollars += row.cost_microdollars;
  to.requests += row.requests;
  to.errors += row.errors;
  to.input_tokens += row.input_tokens;
  to.output_tokens += row.output_tokens;
  to.cache_hit_tokens += row.cache_hit_tokens;
  to.cache_write_tokens += row.cache_write_tokens;
}

/** The same of numbers of any size. */
function sumExactly(texts: readonly string[], periodOf: PeriodOf, newRow: NewRow): Sums {
  const rows = new Map<number, UsageReportRow>();
  const parts: UsageSums[] = [];
  for (let at = 0; at < texts.length; at += WIDTH) {
    const second = periodOf(Number(texts[at]));
    const row = rows.get(second) ?? newRow(second);
    rows.set(second, row);
    const part = sumsFrom((_, metric) => toExactInteger(texts[at + 1 + metric] ?? '0'));
    Object.assign(row, addSums([row, part]));
    parts.push(part);
  }
  for (const [second, row] of rows) {
    if (row.requests === 0) rows.delete(second);
  }
  return { rows, total: addSums(parts) };
}

type NumberSums = Record<MetricName, number>;
type NumberRow = NumberSums & { start: string };

const noSums = (): NumberSums => ({
  cost_microdollars: 0,
  requests: 0,
  errors: 0,
  input_tokens: 0,
  output_tokens: 0,
  cache_hit_tokens: 0,
  cache_write_tokens: 0,
});

/** Makes rows of a group, of the period that starts at a second. */
type NewRow = (second: number) => UsageReportRow;

/** Each row is a copy of one: to name the fields of a group one by one takes longer than all else of it. */
function rowsOf([name, value, secondName, secondValue]: GroupOfRow, format: Formatter): NewRow {
  const first: Record<string, unknown> = { start: '' };
  if (name !== undefined) first[name] = value;
  if (secondName !== undefined) first[secondName] = secondValue;
  Object.assign(first, noSums());
  return (second) => {
    const row = { ...first } as UsageReportRow;
    row.start = format(second);
    return row;
  };
}

const sumsFrom = (sum: (name: MetricName, index: number) => number | bigint) =>
  Object.fromEntries(METRIC_NAMES.map((name, index) => [name, sum(name, index)])) as UsageSums;

const addSums = (parts: readonly UsageSums[]): UsageSums =>
  sumsFrom((name) => toExactInteger(parts.reduce((sum, part) => sum + BigInt(part[name]), 0n)));

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
  const changes = numbersOf(row?.changes ?? null);
  const offsets = numbersOf(row?.offsets ?? null);
  const texts = offsets.map(formatOffset);
  // Each date and each time of a day once.
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

/** 05:30:00 */
const formatTime: Formatter = (second) => new Date(second * 1_000).toISOString().slice(11, 19);

const twoDigits = (number: number) => String(number).padStart(2, '0');

/** +05:30 */
function formatOffset(minutes: number): string {
  const size = Math.abs(minutes);
  const parts = [Math.floor(size / 60), size % 60].map(twoDigits);
  return `${minutes < 0 ? '-' : '+'}${parts.join(':')}`;
}

export function isSeries(row: ReportedRow): row is ReportedRow & ReportedSeries {
  return row.list !== null;
}
