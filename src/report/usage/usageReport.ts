import { addDays } from '../../days.js';
import type { InSnapshot, Query } from '../../db/query.js';
import { isInvalidParameter, toLedgerError } from '../../db/sqlstate.js';
import type { Metrics } from '../../metrics.js';
import type { AnswerSource } from '../types.js';
import { type Form, formOf, MAX_COUNTED, MAX_SERIES } from './groups.sql.js';
import { type Listed, periodsOf } from './periods.js';
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
import { type ReportSource, sourcesOf } from './sources.sql.js';
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
        const answer = await this.#read(pairs, read);
        const periodOf = periodsOf(pairs, answer, false);
        return { ...report, pairs: toPairs(pairs, answer.rows.filter(isSeries), periodOf) };
      });
    } catch (error) {
      if (isInvalidParameter(error)) {
        throw invalid('zone', 'is not known to the database');
      }
      throw toLedgerError(error);
    }
  }

  async #report(query: ValidReportQuery, read: Query): Promise<UsageReport> {
    return toReport(query, await this.#read(query, read));
  }

  /** A rollup that does not answer for the range says so: then the next. */
  async #read(query: ValidReportQuery, read: Query): Promise<Answer> {
    for (const source of sourcesOf(query)) {
      const mode = modeOf(source);
      const stop = this.#metrics.readLatency.startTimer({ query: 'usageReport', source: mode });
      const answer = await this.#readFrom(source, query, read).finally(() => stop());
      if (answer.rows[0]?.is_proven) return answer;
    }
    throw new Error('raw usage needs no proof');
  }

  /** A payer who has too many rows for the client is one who will have more. */
  async #readFrom(source: ReportSource, query: ValidReportQuery, read: Query): Promise<Answer> {
    const by = async (form: Form): Promise<Answer> => {
      const rows = await read<ReportedRow>(usageReportStatement(query, source, form));
      return { source, form, rows };
    };
    const payer = `${source} ${query.payer.kind} ${query.payer.id}`;
    const answer = await by(this.#large.has(payer) ? 'sums' : formOf(query));
    const counted = answer.rows.reduce((sum, row) => sum + Number(row.counted ?? 0), 0);
    const isWhole = counted <= MAX_COUNTED && answer.rows.length <= MAX_SERIES;
    if (answer.form === 'sums' || isWhole) return answer;
    if (this.#large.size >= MAX_LARGE) this.#large.clear();
    this.#large.add(payer);
    return await by('sums');
  }
}

interface Answer extends Listed {
  rows: readonly ReportedRow[];
}

const modeOf = (source: ReportSource): AnswerSource['mode'] =>
  source === 'raw' ? 'raw' : 'rollup';

/** Rows of the range, or of the days before it. */
function rowsOf(query: ValidReportQuery, answer: Answer, isPrevious: boolean) {
  const series = answer.rows.filter(isSeries);
  return toRows(
    query,
    series.filter(({ is_previous }) => is_previous === isPrevious),
    periodsOf(query, answer, isPrevious),
  );
}

function toReport(query: ValidReportQuery, answer: Answer): UsageReport {
  const { from, until, zone, grain, by, days, compare } = query;
  const [first] = answer.rows;
  return {
    from,
    until,
    zone,
    grain,
    by,
    ...rowsOf(query, answer, false),
    ...(compare
      ? {
          previous: {
            from: addDays(from, -days),
            until: addDays(from, -1),
            ...rowsOf(query, answer, true),
          },
        }
      : {}),
    source: {
      mode: modeOf(answer.source),
      server: first?.is_replica ? 'replica' : 'primary',
      asOf: first?.as_of ?? '',
    },
  };
}
