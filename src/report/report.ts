import type { Query } from '../db/query.js';
import { toLedgerError } from '../db/sqlstate.js';
import { LedgerError } from '../errors.js';
import type { AnswerSource, DailyUsage, Ledger, ReadMode } from '../ledgerTypes.js';
import type { Metrics } from '../metrics.js';
import { toSafeInteger, toUsdCents } from '../money.js';
import { parseInstant } from '../record/instant.js';
import {
  type DailyRow,
  dailyUsageStatement,
  type TotalRow,
  threeMonthTotalStatement,
  type UsageSource,
} from './report.sql.js';

const DAY = /^\d{4}-\d{2}-\d{2}$/;

/** The read path. `mode` is the one seam between raw usage and the rollup. */
export class Reports
  implements Pick<Ledger, 'getAverageMonthlyUsageLast3Months' | 'getDailyUsage'>
{
  readonly #query: Query;
  readonly #mode: () => ReadMode;
  readonly #metrics: Metrics;

  constructor(query: Query, mode: () => ReadMode, metrics: Metrics) {
    this.#query = query;
    this.#mode = mode;
    this.#metrics = metrics;
  }

  async getAverageMonthlyUsageLast3Months(query: {
    kilo_user_id: string;
    asOf?: string | Date;
  }): Promise<{ averageMonthlyUsageUsd: number; source: AnswerSource }> {
    const asOf = readAsOf(query.asOf);
    const source = this.#source();
    const [row] = await this.#timed('averageMonthlyUsageLast3Months', source, () =>
      this.#query<TotalRow>(threeMonthTotalStatement(source, query.kilo_user_id, asOf)),
    );
    return {
      averageMonthlyUsageUsd: toUsdCents(BigInt(row?.total_cost_microdollars ?? 0), 3n),
      source: {
        mode: source,
        server: row?.is_replica ? 'replica' : 'primary',
        asOf: row?.as_of ?? '',
      },
    };
  }

  async getDailyUsage(query: {
    kilo_user_id: string;
    organization_id?: string | null;
    from: string;
    until: string;
  }): Promise<DailyUsage[]> {
    const from = readDay('from', query.from);
    const until = readDay('until', query.until);
    if (from > until) {
      throw new LedgerError('invalid_request', 'from lies after until; swap them', {
        details: { field: 'from' },
      });
    }
    const source = this.#source();
    const rows = await this.#timed('dailyUsage', source, () =>
      this.#query<DailyRow>(
        dailyUsageStatement(source, {
          kiloUserId: query.kilo_user_id,
          organizationId: query.organization_id ?? null,
          from,
          until,
        }),
      ),
    );
    return rows.map((row) => ({
      usage_date: row.usage_date,
      total_cost_microdollars: toSafeInteger(row.total_cost_microdollars),
    }));
  }

  #source(): UsageSource {
    return this.#mode() === 'rollup' ? 'rollup' : 'raw';
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

/** A UTC calendar day. @throws LedgerError `invalid_request` naming the field */
export function readDay(field: string, value: string): string {
  const parsed = DAY.test(value) ? parseInstant(`${value}T00:00:00Z`) : null;
  if (parsed === null) {
    throw new LedgerError('invalid_request', `${field} must be a UTC day like 2026-11-22`, {
      details: { field },
    });
  }
  return value;
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
