import { addDays } from '../../days.js';
import type { Query } from '../../db/query.js';
import { isInvalidParameter, toLedgerError } from '../../db/sqlstate.js';
import type { Metrics } from '../../metrics.js';
import { toExactInteger } from '../../money.js';
import { METRIC_NAMES, type MetricName } from '../../schema/dimensionRollups.js';
import type { AnswerSource } from '../types.js';
import {
  GROUPS,
  type Grain,
  type Group,
  invalid,
  readReportQuery,
  type UsageReportQuery,
  type ValidReportQuery,
} from './query.js';
import type { ReportSource } from './sources.sql.js';
import { type ReportedRow, usageReportStatement } from './usageReport.sql.js';

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

export interface UsageReport {
  from: string;
  until: string;
  zone: string;
  grain: Grain;
  by: Group[];
  rows: UsageReportRow[];
  /** Of everything, `other` included. */
  total: UsageSums;
  /** As many days before, where that was asked for. */
  previous?: { from: string; until: string; total: UsageSums };
  source: AnswerSource;
}

/** What is asked, the cheapest first. */
const SOURCES: Record<Grain, readonly ReportSource[]> = {
  hour: ['quarters', 'raw'],
  day: ['days', 'quarters', 'raw'],
  week: ['days', 'quarters', 'raw'],
  month: ['days', 'quarters', 'raw'],
};

/** Usage of one payer by period and dimension, exact at every instant. */
export class UsageReports {
  readonly #query: Query;
  readonly #metrics: Metrics;

  constructor(query: Query, metrics: Metrics) {
    this.#query = query;
    this.#metrics = metrics;
  }

  /** @throws LedgerError `invalid_request` naming the field; `unavailable` */
  async report(query: UsageReportQuery): Promise<UsageReport> {
    const valid = readReportQuery(query);
    try {
      // A rollup that does not answer for the range says so: then the next.
      for (const source of SOURCES[valid.grain]) {
        const mode = source === 'raw' ? 'raw' : 'rollup';
        const stop = this.#metrics.readLatency.startTimer({ query: 'usageReport', source: mode });
        const rows = await this.#query<ReportedRow>(usageReportStatement(valid, source)).finally(
          () => stop(),
        );
        if (rows.every(({ kind }) => kind !== 'unproven')) return toReport(valid, mode, rows);
      }
      throw new Error('raw usage needs no proof');
    } catch (error) {
      if (isInvalidParameter(error)) {
        throw invalid('zone', 'is not known to the database');
      }
      throw toLedgerError(error);
    }
  }
}

function toReport(
  query: ValidReportQuery,
  mode: AnswerSource['mode'],
  rows: readonly ReportedRow[],
): UsageReport {
  const { from, until, zone, grain, by } = query;
  const sumsOf = (kind: ReportedRow['kind']) => {
    const row = rows.find((each) => each.kind === kind);
    return toSums(row as ReportedRow);
  };
  const [first] = rows;
  return {
    from,
    until,
    zone,
    grain,
    by,
    rows: rows.filter(({ kind }) => kind === 'row').map((row) => toRow(query, row)),
    total: sumsOf('total'),
    ...(query.compare
      ? {
          previous: {
            from: addDays(from, -query.days),
            until: addDays(from, -1),
            total: sumsOf('previous'),
          },
        }
      : {}),
    source: {
      mode,
      server: first?.is_replica ? 'replica' : 'primary',
      asOf: first?.as_of ?? '',
    },
  };
}

function toRow({ grain, by }: ValidReportQuery, row: ReportedRow): UsageReportRow {
  const local = row.local_start ?? '';
  const groups = by.map((group, index) => [GROUPS[group], index === 0 ? row.group_1 : row.group_2]);
  return {
    start:
      grain === 'hour' ? `${local}${formatOffset(row.offset_minutes ?? 0)}` : local.slice(0, 10),
    ...(row.is_other ? { other: true } : Object.fromEntries(groups)),
    ...toSums(row),
  };
}

function toSums(row: ReportedRow): UsageSums {
  return Object.fromEntries(
    METRIC_NAMES.map((name) => [name, toExactInteger(row[name])]),
  ) as UsageSums;
}

function formatOffset(minutes: number): string {
  const size = Math.abs(minutes);
  const two = (value: number) => String(value).padStart(2, '0');
  return `${minutes < 0 ? '-' : '+'}${two(Math.floor(size / 60))}:${two(size % 60)}`;
}
