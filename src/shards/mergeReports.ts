import { toExactInteger } from '../money.js';
import type { AnswerSource } from '../report/types.js';
import { MAX_TOP, type UsageReportQuery } from '../report/usage/query.js';
import type {
  UsagePair,
  UsagePairs,
  UsageReportRow,
  UsageSums,
} from '../report/usage/reportRows.js';
import type { UsageReport } from '../report/usage/usageReport.js';
import { METRIC_NAMES } from '../schema/dimensionRollups.js';

const GROUP_FIELDS = ['model', 'provider', 'api_key_id', 'project_id', 'kilo_user_id'] as const;

/** As many groups as a part may tell apart, so that few are hidden in what is `other` of it. */
export function forParts(query: UsageReportQuery): UsageReportQuery {
  return (query.by?.length ?? 0) === 0 ? query : { ...query, top: MAX_TOP };
}

/**
 * One report of the parts of a payer's usage, each exact in its snapshot. Sums and totals are those of all
 * parts. A group is told apart where every part tells it, or has nothing hidden; else its rows are `other`.
 */
export function mergeReports(
  { top, metric }: Pick<UsageReportQuery, 'top' | 'metric'>,
  reports: readonly [UsageReport, ...UsageReport[]],
): UsageReport {
  const [first] = reports;
  if (reports.length === 1) return first;
  const told = groupsTold(
    reports.map(({ rows }) => rows),
    metric ?? 'cost',
  ).slice(0, top ?? 10);
  const toShown = first.by.length === 0 ? (row: UsageReportRow) => row : intoOther(told);
  const previous = reports.flatMap((report) => report.previous ?? []);
  const pairs = reports.flatMap((report) => report.pairs ?? []);
  return {
    ...first,
    rows: mergeRows(
      reports.flatMap(({ rows }) => rows.map(toShown)),
      told,
    ),
    total: sumsOf(reports.map(({ total }) => total)),
    ...(first.previous === undefined
      ? {}
      : {
          previous: {
            ...first.previous,
            rows: mergeRows(
              previous.flatMap(({ rows }) => rows),
              [],
            ),
            total: sumsOf(previous.map(({ total }) => total)),
          },
        }),
    ...(first.pairs === undefined
      ? {}
      : { pairs: { ...first.pairs, rows: mergePairs(pairs, metric ?? 'cost', top ?? 10) } }),
    source: mergeSources(reports.map(({ source }) => source)),
  };
}

/** As rows of one period. */
function mergePairs(
  parts: readonly UsagePairs[],
  metric: NonNullable<UsageReportQuery['metric']>,
  top: number,
): UsagePair[] {
  const lists = parts.map(({ rows }) => rows.map((row) => ({ ...row, start: '' })));
  const told = groupsTold(lists, metric).slice(0, top);
  return mergeRows(lists.flat().map(intoOther(told)), told).map(({ start: _, ...pair }) => pair);
}

/** Rows as they are, or of what is beyond those that are told apart. */
function intoOther(told: readonly string[]): (row: UsageReportRow) => UsageReportRow {
  const shown = new Set(told);
  return (row) =>
    shown.has(groupOf(row)) ? row : { start: row.start, other: true, ...sumsOf([row]) };
}

/** As fresh as the oldest of them, and as well founded as the worst. */
function mergeSources(sources: readonly AnswerSource[]): AnswerSource {
  return {
    mode: sources.some(({ mode }) => mode === 'raw') ? 'raw' : 'rollup',
    server: sources.some(({ server }) => server === 'replica') ? 'replica' : 'primary',
    asOf: sources.map(({ asOf }) => asOf).sort()[0] ?? '',
  };
}

/** Groups whose sums are known, the largest first. */
function groupsTold(
  parts: readonly (readonly UsageReportRow[])[],
  metric: NonNullable<UsageReportQuery['metric']>,
): string[] {
  const sizes = new Map<string, bigint>();
  const telling = parts.map((rows) => {
    const groups = new Set<string>();
    for (const row of rows) {
      if (row.other) continue;
      groups.add(groupOf(row));
      sizes.set(groupOf(row), (sizes.get(groupOf(row)) ?? 0n) + sizeOf(row, metric));
    }
    return { groups, isWhole: !rows.some(({ other }) => other) };
  });
  return [...sizes]
    .filter(([group]) => telling.every(({ groups, isWhole }) => isWhole || groups.has(group)))
    .sort(([a, x], [b, y]) => (x === y ? (a < b ? -1 : 1) : x > y ? -1 : 1))
    .map(([group]) => group);
}

function sizeOf(row: UsageSums, metric: NonNullable<UsageReportQuery['metric']>): bigint {
  if (metric === 'tokens') return BigInt(row.input_tokens) + BigInt(row.output_tokens);
  return BigInt(metric === 'cost' ? row.cost_microdollars : row.requests);
}

const groupOf = (row: Partial<UsageReportRow>): string =>
  JSON.stringify([row.other ?? false, ...GROUP_FIELDS.map((field) => row[field] ?? null)]);

/** Rows of one period and group as one, in the order of time, within it of `order`, the rest last. */
function mergeRows<Row extends UsageSums & { start: string }>(
  rows: readonly Row[],
  order: readonly string[],
): Row[] {
  const merged = new Map<string, Row[]>();
  for (const row of rows) {
    const key = `${row.start} ${groupOf(row)}`;
    const same = merged.get(key);
    if (same === undefined) merged.set(key, [row]);
    else same.push(row);
  }
  const places = new Map(order.map((group, index) => [group, index]));
  const placeOf = (row: Row) => places.get(groupOf(row)) ?? order.length;
  return [...merged.values()]
    .map((same) => ({ ...(same[0] as Row), ...sumsOf(same) }))
    .sort((a, b) => Date.parse(a.start) - Date.parse(b.start) || placeOf(a) - placeOf(b));
}

function sumsOf(rows: readonly UsageSums[]): UsageSums {
  return Object.fromEntries(
    METRIC_NAMES.map((name) => [
      name,
      toExactInteger(rows.reduce((sum, row) => sum + BigInt(row[name]), 0n)),
    ]),
  ) as UsageSums;
}
