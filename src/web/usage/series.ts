import type { Outputs } from '../api.js';
import { addSums, noSums, readSums, type Sums } from './metrics.js';
import { listPeriods, periodOf } from './periods.js';
import type { DayRange, Grain } from './ranges.js';

export type Report = Outputs['usage']['report'];

/** What a report is grouped by, and the field that it is. */
const FIELDS = {
  model: 'model',
  provider: 'provider',
  key: 'api_key_id',
  project: 'project_id',
  member: 'kilo_user_id',
} as const;

export interface Group {
  /** Null: usage that names none. */
  id: string | null;
  /** All groups beyond the largest. */
  isOther: boolean;
  /** Over the whole range. */
  sums: Sums;
}

export interface Period {
  start: string;
  sums: Sums;
  /** As `groups`; absent where a group has nothing. */
  groups: (Sums | undefined)[];
  /** As many days before; absent where that is not compared, or had nothing. */
  previous: Sums | undefined;
  /** Now is in it. */
  isUnfinished: boolean;
}

/** A report with the periods it leaves out: chart, table, lists and CSV all use this. */
export interface UsageSeries {
  range: DayRange;
  zone: string;
  grain: Grain;
  by: Report['by'][number] | null;
  /** In order of time, each of the range. */
  periods: Period[];
  /** The largest by the metric first, `other` last. */
  groups: Group[];
  total: Sums;
  previous: { range: DayRange; total: Sums } | null;
  source: Report['source'];
}

/** `isLarger` orders groups; the report itself orders by time. */
export function toSeries(
  report: Report,
  nowMs: number,
  metricOf: (sums: Sums) => bigint,
): UsageSeries {
  const [by = null] = report.by;
  const groups = new Map<string, Group & { rows: [start: string, sums: Sums][] }>();
  for (const row of report.rows) {
    const isOther = row.other === true;
    const id = groupIn(row, by);
    const key = keyOf({ id, isOther });
    let group = groups.get(key);
    if (group === undefined) {
      group = { id, isOther, sums: noSums(), rows: [] };
      groups.set(key, group);
    }
    const sums = readSums(row);
    addSums(group.sums, sums);
    group.rows.push([row.start, sums]);
  }
  const ordered = [...groups.values()].sort((a, b) =>
    a.isOther !== b.isOther ? (a.isOther ? 1 : -1) : compare(metricOf(b.sums), metricOf(a.sums)),
  );
  return {
    range: { from: report.from, until: report.until },
    zone: report.zone,
    grain: report.grain,
    by,
    periods: toPeriods(report, nowMs, ordered),
    groups: ordered.map(({ id, isOther, sums }) => ({ id, isOther, sums })),
    total: readSums(report.total),
    previous:
      report.previous === undefined
        ? null
        : {
            range: { from: report.previous.from, until: report.previous.until },
            total: readSums(report.previous.total),
          },
    source: report.source,
  };
}

function toPeriods(
  { grain, zone, ...report }: Report,
  nowMs: number,
  groups: readonly { rows: [start: string, sums: Sums][] }[],
): Period[] {
  const now = periodOf(nowMs, grain, zone);
  const made = new Map<string, Period>();
  const periodAt = (start: string) => {
    let period = made.get(start);
    if (period === undefined) {
      period = {
        start,
        sums: noSums(),
        groups: groups.map(() => undefined),
        previous: undefined,
        isUnfinished: start === now,
      };
      made.set(start, period);
    }
    return period;
  };
  for (const start of listPeriods(report, grain, zone)) periodAt(start);
  for (const [index, { rows }] of groups.entries()) {
    for (const [start, sums] of rows) {
      const period = periodAt(start);
      period.groups[index] = sums;
      addSums(period.sums, sums);
    }
  }
  for (const row of report.previous?.rows ?? []) periodAt(row.start).previous = readSums(row);
  // Any that the server knows and this browser's calendar does not stand where they belong.
  return [...made.values()].sort((a, b) => Date.parse(a.start) - Date.parse(b.start));
}

/** No name, and no lack of one, is taken for another: a model may be called `null`, or `Other`. */
export function keyOf({ id, isOther }: Pick<Group, 'id' | 'isOther'>): string {
  return JSON.stringify([id, isOther]);
}

/** Null: usage that names none, and what is beyond the largest. */
export function groupIn(
  row: Omit<Report['rows'][number], 'start'>,
  by: Report['by'][number] | null,
): string | null {
  return by === null ? null : (row[FIELDS[by]] ?? null);
}

export function compare(a: bigint, b: bigint): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
