import { readDay } from '../days.js';
import type { Query } from '../db/query.js';
import { toLedgerError } from '../db/sqlstate.js';
import { LedgerError } from '../errors.js';
import { isUuid } from '../ids.js';
import { parseInstant } from '../instant.js';
import type { Metrics } from '../metrics.js';
import { toExactInteger, toUsdCents } from '../money.js';
import type { ReadMode } from '../schema/settings.js';
import {
  type DailyRow,
  dailyUsageStatement,
  type TotalRow,
  threeMonthTotalStatement,
  type UsageSource,
} from './report.sql.js';
import type { ComparedRange } from './shadow.sql.js';
import type { AnswerSource, DailyUsage, DailyUsageQuery } from './types.js';

/** What became of a read, for shadow comparisons; off the request's path. */
type OnRead = (mode: ReadMode, range: ComparedRange) => void;

/** The read path. `mode` is the one seam between raw usage and the rollup. */
export class Reports {
  readonly #query: Query;
  readonly #mode: () => ReadMode;
  readonly #onRead: OnRead;
  readonly #metrics: Metrics;

  constructor(query: Query, mode: () => ReadMode, onRead: OnRead, metrics: Metrics) {
    this.#query = query;
    this.#mode = mode;
    this.#onRead = onRead;
    this.#metrics = metrics;
  }

  async getAverageMonthlyUsageLast3Months(query: {
    kilo_user_id: string;
    asOf?: string | Date;
  }): Promise<{ averageMonthlyUsageUsd: number; source: AnswerSource }> {
    const kiloUserId = readUserId(query.kilo_user_id);
    const asOf = readAsOf(query.asOf);
    const mode = this.#mode();
    const source = sourceOf(mode);
    const [row] = await this.#timed('averageMonthlyUsageLast3Months', source, () =>
      this.#query<TotalRow>(threeMonthTotalStatement(source, kiloUserId, asOf)),
    );
    this.#onRead(mode, {
      kiloUserId,
      organizationId: null,
      from: null,
      until: null,
      asOf,
    });
    return {
      averageMonthlyUsageUsd: toUsdCents(BigInt(row?.total_cost_microdollars ?? 0), 3n),
      source: describeSource(source, row),
    };
  }

  async getDailyUsage(
    query: DailyUsageQuery,
  ): Promise<{ days: DailyUsage[]; source: AnswerSource }> {
    const from = readDay('from', query.from);
    const until = readDay('until', query.until);
    if (from > until) {
      throw new LedgerError('invalid_request', 'from lies after until; swap them', {
        details: { field: 'from' },
      });
    }
    const range = {
      kiloUserId: readUserId(query.kilo_user_id),
      organizationId: readOrganizationId(query.organization_id),
      from,
      until,
    };
    const mode = this.#mode();
    const source = sourceOf(mode);
    const rows = await this.#timed('dailyUsage', source, () =>
      this.#query<DailyRow>(dailyUsageStatement(source, range)),
    );
    this.#onRead(mode, { ...range, asOf: null });
    const [first] = rows;
    const days = rows.flatMap((row) =>
      row.usage_date === null
        ? []
        : {
            usage_date: row.usage_date,
            total_cost_microdollars: toExactInteger(row.total_cost_microdollars ?? 0),
          },
    );
    return { days, source: describeSource(source, first) };
  }

  async #timed<T>(name: string, source: UsageSource, run: () => Promise<T>): Promise<T> {
    const stop = this.#metrics.readLatency.startTimer({ query: name, source });
    try {
      return await run();
    } catch (error) {
      throw toLedgerError(error);
    } finally {
      stop();
    }
  }
}

function sourceOf(mode: ReadMode): UsageSource {
  return mode === 'rollup' ? 'rollup' : 'raw';
}

function describeSource(
  mode: UsageSource,
  row: { is_replica: boolean; as_of: string } | undefined,
): AnswerSource {
  return { mode, server: row?.is_replica ? 'replica' : 'primary', asOf: row?.as_of ?? '' };
}

function readUserId(value: string): string {
  if (typeof value === 'string' && value !== '' && !value.includes('\0')) return value;
  throw new LedgerError('invalid_request', 'kilo_user_id must be a non-empty string', {
    details: { field: 'kilo_user_id' },
  });
}

function readOrganizationId(value: string | null | undefined): string | null {
  if (value === undefined || value === null) return null;
  if (isUuid(value)) return value;
  throw new LedgerError('invalid_request', 'organization_id must be a UUID', {
    details: { field: 'organization_id' },
  });
}

function readAsOf(asOf: string | Date | undefined): string | null {
  if (asOf === undefined) return null;
  const instant = parseInstant(asOf);
  if (instant === null) {
    throw new LedgerError('invalid_request', 'asOf must be an ISO 8601 instant with an offset', {
      details: { field: 'asOf' },
    });
  }
  return instant.text;
}
