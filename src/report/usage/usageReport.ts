import { addDays } from '../../days.js';
import type { InSnapshot, Query } from '../../db/query.js';
import { isInvalidParameter, toLedgerError } from '../../db/sqlstate.js';
import type { Metrics } from '../../metrics.js';
import type { AnswerSource } from '../types.js';
import { type Form, formOf, MAX_COUNTED, MAX_SERIES } from './groups.sql.js';
import {
  type Grain,
  type Group,
  invalid,
  pairsQueryOf,
  readReportQuery,
  type UsageReportQuery,
  type ValidReportQuery,
} from './query.js';
import {
  isSeries,
  toPairs,
  toRows,
  type UsagePairs,
  type UsageReportRow,
  type UsageSums,
} from './reportRows.js';
import type { ReportSource } from './sources.sql.js';
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
  /** With `and_by`, of the same snapshot. */
  pairs?: UsagePairs;
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
  readonly #inSnapshot: InSnapshot;
  readonly #metrics: Metrics;
  /** Payers whose rows, or groups, are too many for the client, by source. */
  readonly #large = new Set<string>();

  constructor(query: Query, inSnapshot: InSnapshot, metrics: Metrics) {
    this.#query = query;
    this.#inSnapshot = inSnapshot;
    this.#metrics = metrics;
  }

  /** @throws LedgerError `invalid_request` naming the field; `unavailable` */
  async report(query: UsageReportQuery): Promise<UsageReport> {
    const valid = readReportQuery(query);
    const { andBy } = valid;
    try {
      if (andBy === null) return await this.#report(valid, this.#query);
      return await this.#inSnapshot(async (read) => {
        const report = await this.#report(valid, read);
        const pairs = pairsQueryOf(valid, andBy);
        const { rows } = await this.#read(pairs, read);
        return { ...report, pairs: toPairs(pairs, rows.filter(isSeries)) };
      });
    } catch (error) {
      if (isInvalidParameter(error)) {
        throw invalid('zone', 'is not known to the database');
      }
      throw toLedgerError(error);
    }
  }

  async #report(query: ValidReportQuery, read: Query): Promise<UsageReport> {
    const { mode, rows } = await this.#read(query, read);
    return toReport(query, mode, rows);
  }

  /** A rollup that does not answer for the range says so: then the next. */
  async #read(
    query: ValidReportQuery,
    read: Query,
  ): Promise<{ mode: AnswerSource['mode']; rows: ReportedRow[] }> {
    for (const source of SOURCES[query.grain]) {
      const mode = source === 'raw' ? 'raw' : 'rollup';
      const stop = this.#metrics.readLatency.startTimer({ query: 'usageReport', source: mode });
      const rows = await this.#readFrom(source, query, read).finally(() => stop());
      if (rows[0]?.is_proven) return { mode, rows };
    }
    throw new Error('raw usage needs no proof');
  }

  /** A payer who has too many rows for the client is one who will have more. */
  async #readFrom(
    source: ReportSource,
    query: ValidReportQuery,
    read: Query,
  ): Promise<ReportedRow[]> {
    const by = (form: Form) => read<ReportedRow>(usageReportStatement(query, source, form));
    const payer = `${source} ${query.payer.kind} ${query.payer.id}`;
    const form = this.#large.has(payer) ? 'sums' : formOf(query);
    const rows = await by(form);
    const counted = rows.reduce((sum, row) => sum + Number(row.counted ?? 0), 0);
    const isWhole = counted <= MAX_COUNTED && rows.length <= MAX_SERIES;
    if (form === 'sums' || isWhole) return rows;
    if (this.#large.size >= MAX_LARGE) this.#large.clear();
    this.#large.add(payer);
    return await by('sums');
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
