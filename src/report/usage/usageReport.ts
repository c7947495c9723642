import { addDays } from '../../days.js';
import type { Query } from '../../db/query.js';
import { isInvalidParameter, isOutOfRange, toLedgerError } from '../../db/sqlstate.js';
import type { Metrics } from '../../metrics.js';
import type { AnswerSource } from '../types.js';
import { sumTypeOf } from './groups.sql.js';
import {
  type Grain,
  type Group,
  invalid,
  readReportQuery,
  type UsageReportQuery,
  type ValidReportQuery,
} from './query.js';
import { isSeries, toRows, type UsageReportRow, type UsageSums } from './reportRows.js';
import type { ReportSource, SumType } from './sources.sql.js';
import { type ReportedRow, usageReportStatement } from './usageReport.sql.js';

export interface UsageReport {
  from: string;
  until: string;
  zone: string;
  grain: Grain;
  by: Group[];
  rows: UsageReportRow[];
  /** Of everything, `other` included. */
  total: UsageSums;
  /**
   * As many days before, where that was asked for: by period of the report, each day beside the one
   * that comes as many days later, at the same local time.
   */
  previous?: {
    from: string;
    until: string;
    rows: (UsageSums & { start: string })[];
    total: UsageSums;
  };
  source: AnswerSource;
}

/** What is asked, the cheapest first. */
const SOURCES: Record<Grain, readonly ReportSource[]> = {
  hour: ['quarters', 'raw'],
  day: ['days', 'quarters', 'raw'],
  week: ['days', 'quarters', 'raw'],
  month: ['days', 'quarters', 'raw'],
};

const MAX_LARGE = 1_000;

/** Usage of one payer by period and dimension, exact at every instant. */
export class UsageReports {
  readonly #query: Query;
  readonly #metrics: Metrics;
  /** Payers with a counter row that needs numerics. */
  readonly #large = new Set<string>();

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
        const rows = await this.#read(valid, source).finally(() => stop());
        if (rows[0]?.is_proven) return toReport(valid, mode, rows);
      }
      throw new Error('raw usage needs no proof');
    } catch (error) {
      if (isInvalidParameter(error)) {
        throw invalid('zone', 'is not known to the database');
      }
      throw toLedgerError(error);
    }
  }

  /** A counter row that is too large for the faster sums is of a payer who will have more of them. */
  async #read(query: ValidReportQuery, source: ReportSource): Promise<ReportedRow[]> {
    const read = (sumType: SumType) =>
      this.#query<ReportedRow>(usageReportStatement(query, source, sumType));
    const payer = `${query.payer.kind} ${query.payer.id}`;
    const sumType = this.#large.has(payer) ? 'numeric' : sumTypeOf(query);
    try {
      return await read(sumType);
    } catch (error) {
      if (sumType === 'numeric' || !isOutOfRange(error)) throw error;
      if (this.#large.size >= MAX_LARGE) this.#large.clear();
      this.#large.add(payer);
      return await read('numeric');
    }
  }
}

function toReport(
  query: ValidReportQuery,
  mode: AnswerSource['mode'],
  rows: readonly ReportedRow[],
): UsageReport {
  const { from, until, zone, grain, by } = query;
  const [first] = rows;
  const series = rows.filter(isSeries);
  const of = (isPrevious: boolean) =>
    toRows(
      query,
      series.filter(({ is_previous }) => is_previous === isPrevious),
    );
  return {
    from,
    until,
    zone,
    grain,
    by,
    ...of(false),
    ...(query.compare
      ? {
          previous: {
            from: addDays(from, -query.days),
            until: addDays(from, -1),
            ...of(true),
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
