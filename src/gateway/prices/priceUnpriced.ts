import type { Query } from '../../db/query.js';
import { toLedgerError } from '../../db/sqlstate.js';
import { LedgerError } from '../../errors.js';
import type { Ledger } from '../../ledgerTypes.js';
import { isNumberTaken } from '../../record/corrections.js';
import type { UsageEvent } from '../../record/types.js';
import { isPermanent } from '../durable/failures.js';
import { toWireFormat } from '../processUsage/apiKinds.js';
import type { WireFormat } from '../processUsage/types.js';
import {
  findUnpricedStatement,
  type LateKind,
  type UnpricedPosition,
  type UnpricedRow,
} from './findUnpriced.sql.js';
import type { Pricer } from './pricer.js';
import { repriceUnpriced } from './repriceUnpriced.js';

export interface PriceUnpricedOptions {
  query: Query;
  ledger: Pick<Ledger, 'recordUsageBatch'>;
  pricer: Pricer;
  /** Default `unpriced`. `incomplete` reads the whole table of metadata for each page. */
  kind?: LateKind;
  /** Host of the provider that answers a format. Default: unknown. */
  upstreamHost?: (format: WireFormat) => string | null;
  /** Rows of one statement, and of one batch. Default 200. */
  pageSize?: number;
  /** Rows looked at in one call. Default 100,000. */
  maxRows?: number;
  /** Where the call before ended. Default: at the oldest. */
  after?: UnpricedPosition | null;
  /** Ends it after a page. */
  signal?: AbortSignal;
}

export interface PriceUnpricedReport {
  seen: number;
  /** Recorded now. */
  priced: number;
  /** Recorded meanwhile by someone else. */
  alreadyPriced: number;
  /** Still without a price, or without one of every part. */
  stillUnpriced: number;
  /** Refused for good: archived period, unknown user, ... */
  rejected: number;
  /** Of what was recorded now, microdollars. */
  costMicrodollars: number;
  /** Where the next call goes on; null: there is nothing more, so it begins at the oldest again. */
  next: UnpricedPosition | null;
}

/** Every loss means that another correction was recorded. */
const MAX_ATTEMPTS = 20;
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
    next: null,
  };
  let after = options.after ?? START;
  while (report.seen < maxRows && !options.signal?.aborted) {
    const limit = Math.min(pageSize, maxRows - report.seen);
    const from = after;
    const rows = await readPage(options, from, limit);
    report.seen += rows.length;
    await recordPage(options, rows, report, (lost) => readAgain(options, from, limit, lost));
    const last = rows.at(-1);
    if (last === undefined || rows.length < limit) return report;
    after = last;
  }
  report.next = after;
  return report;
}

async function readPage(
  { query, kind = 'unpriced' }: PriceUnpricedOptions,
  after: UnpricedPosition,
  limit: number,
): Promise<UnpricedRow[]> {
  try {
    return await query<UnpricedRow>(findUnpricedStatement(kind, after, limit));
  } catch (error) {
    throw toLedgerError(error);
  }
}

/** Those of a page that are still open, as they are now. */
async function readAgain(
  options: PriceUnpricedOptions,
  after: UnpricedPosition,
  limit: number,
  lost: ReadonlySet<string>,
): Promise<UnpricedRow[]> {
  return (await readPage(options, after, limit)).filter((row) => lost.has(row.id));
}

async function recordPage(
  options: PriceUnpricedOptions,
  page: readonly UnpricedRow[],
  report: PriceUnpricedReport,
  readAgain: (lost: ReadonlySet<string>) => Promise<UnpricedRow[]>,
): Promise<void> {
  let rows = page;
  for (let attempt = 1; ; attempt++) {
    const lost = await recordRows(options, rows, report);
    if (lost.size === 0) return;
    if (attempt === MAX_ATTEMPTS) throw taken();
    rows = await readAgain(lost);
  }
}

/** @returns the rows of which another correction, such as a refund, took the number */
async function recordRows(
  { ledger, pricer, upstreamHost, kind = 'unpriced' }: PriceUnpricedOptions,
  rows: readonly UnpricedRow[],
  report: PriceUnpricedReport,
): Promise<Set<string>> {
  const events: { usageId: string; originalId: string; event: UsageEvent }[] = [];
  const lost = new Set<string>();
  for (const row of rows) {
    const format = toWireFormat(row.api_kind) ?? DEFAULT_FORMAT;
    const context = { format, upstreamHost: upstreamHost?.(format) ?? null };
    const event = repriceUnpriced(pricer, toUsage(row), context);
    if ('unpriced' in event || isStillIncomplete(kind, event)) report.stillUnpriced++;
    else events.push({ usageId: row.id, originalId: row.original_id, event });
  }
  if (events.length === 0) return lost;
  const results = await ledger.recordUsageBatch(
    events.map(({ event }) => event),
    { balance: false },
  );
  for (const [index, result] of results.entries()) {
    const { usageId, originalId, event } = events[index] as (typeof events)[number];
    if (result.status === 'rejected') {
      const { error } = result;
      if (isConflict(error)) report.alreadyPriced++;
      else if (isNumberTaken(originalId, event, error)) lost.add(usageId);
      else if (isPermanent(error)) report.rejected++;
      else throw error;
    } else if (result.status === 'duplicate') report.alreadyPriced++;
    else {
      report.priced++;
      report.costMicrodollars += event.cost;
    }
  }
  return lost;
}

/** Priced again only once every part has a price: so it is priced once. */
function isStillIncomplete(kind: LateKind, { metadata }: UsageEvent): boolean {
  return kind === 'incomplete' && metadata?.estimated === 'incomplete';
}

function taken(): LedgerError {
  return new LedgerError('unavailable', 'usage is corrected all the time; try again');
}

/** Someone else priced it meanwhile, at a price that has changed since. */
function isConflict(error: Error): boolean {
  return error instanceof LedgerError && error.code === 'idempotency_conflict';
}

function toUsage(row: UnpricedRow) {
  const { api_kind: _, ...usage } = row;
  return {
    ...usage,
    charged: Number(row.charged),
    input_tokens: Number(row.input_tokens),
    output_tokens: Number(row.output_tokens),
    cache_write_tokens: Number(row.cache_write_tokens),
    cache_hit_tokens: Number(row.cache_hit_tokens),
  };
}
