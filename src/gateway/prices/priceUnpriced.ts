import type { Query } from '../../db/query.js';
import { toLedgerError } from '../../db/sqlstate.js';
import { LedgerError } from '../../errors.js';
import type { Ledger } from '../../ledgerTypes.js';
import type { UsageEvent } from '../../record/types.js';
import { isPermanent } from '../durable/failures.js';
import type { WireFormat } from '../processUsage/types.js';
import {
  findUnpricedStatement,
  type UnpricedPosition,
  type UnpricedRow,
} from './findUnpriced.sql.js';
import { toWireFormat } from './priceIntent.js';
import type { Pricer } from './pricer.js';
import { repriceUnpriced } from './repriceUnpriced.js';

export interface PriceUnpricedOptions {
  query: Query;
  ledger: Pick<Ledger, 'recordUsageBatch'>;
  pricer: Pricer;
  /** Host of the provider that answers a format. Default: unknown. */
  upstreamHost?: (format: WireFormat) => string | null;
  /** Rows of one statement, and of one batch. Default 200. */
  pageSize?: number;
  /** Rows looked at in one call. Default 100,000. */
  maxRows?: number;
}

export interface PriceUnpricedReport {
  seen: number;
  /** Recorded now. */
  priced: number;
  /** Recorded meanwhile by someone else. */
  alreadyPriced: number;
  /** Still without a price. */
  stillUnpriced: number;
  /** Refused for good: archived period, unknown user, ... */
  rejected: number;
  /** Of what was recorded now, microdollars. */
  costMicrodollars: number;
  /** Rows were left for the next call. */
  hasMore: boolean;
}

const START: UnpricedPosition = {
  created_at: '-infinity',
  id: '00000000-0000-0000-0000-000000000000',
};
/** Rows from elsewhere do not say by which API they came; it decides only between price lists. */
const DEFAULT_FORMAT: WireFormat = 'openai-chat';

/**
 * Prices usage that was recorded without a price, at the prices of now for the time of then.
 * Exactly once per row, also when several do it at once or one is interrupted (I3).
 * @throws LedgerError `unavailable`: what was recorded until then stays
 */
export async function priceUnpriced(options: PriceUnpricedOptions): Promise<PriceUnpricedReport> {
  const { pageSize = 200, maxRows = 100_000 } = options;
  const report: PriceUnpricedReport = {
    seen: 0,
    priced: 0,
    alreadyPriced: 0,
    stillUnpriced: 0,
    rejected: 0,
    costMicrodollars: 0,
    hasMore: false,
  };
  let after = START;
  while (report.seen < maxRows) {
    const limit = Math.min(pageSize, maxRows - report.seen);
    const rows = await readPage(options.query, after, limit);
    report.seen += rows.length;
    await recordPage(options, rows, report);
    const last = rows.at(-1);
    if (last === undefined || rows.length < limit) return report;
    after = last;
  }
  report.hasMore = true;
  return report;
}

async function readPage(
  query: Query,
  after: UnpricedPosition,
  limit: number,
): Promise<UnpricedRow[]> {
  try {
    return await query<UnpricedRow>(findUnpricedStatement(after, limit));
  } catch (error) {
    throw toLedgerError(error);
  }
}

async function recordPage(
  { ledger, pricer, upstreamHost }: PriceUnpricedOptions,
  rows: readonly UnpricedRow[],
  report: PriceUnpricedReport,
): Promise<void> {
  const events: UsageEvent[] = [];
  for (const row of rows) {
    const format = toWireFormat(row.api_kind) ?? DEFAULT_FORMAT;
    const context = { format, upstreamHost: upstreamHost?.(format) ?? null };
    const event = repriceUnpriced(pricer, toUsage(row), context);
    if ('unpriced' in event) report.stillUnpriced++;
    else events.push(event);
  }
  if (events.length === 0) return;
  const results = await ledger.recordUsageBatch(events, { balance: false });
  for (const [index, result] of results.entries()) {
    if (result.status === 'rejected') {
      if (isConflict(result.error)) report.alreadyPriced++;
      else if (isPermanent(result.error)) report.rejected++;
      else throw result.error;
    } else if (result.status === 'duplicate') report.alreadyPriced++;
    else {
      report.priced++;
      report.costMicrodollars += events[index]?.cost ?? 0;
    }
  }
}

/** Someone else priced it meanwhile, at a price that has changed since. */
function isConflict(error: Error): boolean {
  return error instanceof LedgerError && error.code === 'idempotency_conflict';
}

function toUsage(row: UnpricedRow) {
  const { api_kind: _, ...usage } = row;
  return {
    ...usage,
    input_tokens: Number(row.input_tokens),
    output_tokens: Number(row.output_tokens),
    cache_write_tokens: Number(row.cache_write_tokens),
    cache_hit_tokens: Number(row.cache_hit_tokens),
  };
}
