import type { Query } from '../db/query.js';
import { withRetry } from '../db/retry.js';
import { classifyFailure, sqlStateOf, toLedgerError } from '../db/sqlstate.js';
import { LedgerError } from '../errors.js';
import type { Metrics } from '../metrics.js';
import { toSafeInteger } from '../money.js';
import { appendUsageStatement } from './appendUsage.sql.js';
import { BalanceReader, payerKey } from './balanceReader.js';
import { ContendedPayers } from './contendedPayers.js';
import type { ValidEvent } from './event.js';
import type { LookupCache } from './lookups.js';
import type { MetadataRow } from './metadataRow.js';
import { toRecordResult } from './outcome.js';
import { type BatchRow, recordBatchStatement } from './recordBatch.sql.js';
import { type RecordedRow, recordUsageStatement } from './recordUsage.sql.js';
import type { RecordResult } from './types.js';

const LOCK_NOT_AVAILABLE = '55P03';

export type Outcome = { result: RecordResult } | { error: Error };

/**
 * Writes events and tells what became of each. Owns the policy for failures:
 * - connection, serialization, deadlock, shutdown: send the same statement again, with bounds
 *   and jitter; the ids make that safe, whether or not the first one committed (I3)
 * - lock or statement timeout, or a value that PostgreSQL refuses, in a batch: split it, so that
 *   one event held up by its twin, or one bad event, does not harm its neighbours
 * - everything else: the error goes to the caller
 */
export class Recorder {
  readonly #query: Query;
  readonly #lookups: LookupCache;
  readonly #metrics: Metrics;
  readonly #inPlace: boolean;
  readonly #balances: BalanceReader;
  readonly #contended = new ContendedPayers();

  constructor(query: Query, lookups: LookupCache, metrics: Metrics, inPlace: boolean) {
    this.#query = query;
    this.#lookups = lookups;
    this.#metrics = metrics;
    this.#inPlace = inPlace;
    this.#balances = new BalanceReader(query);
  }

  /** One outcome per event, in order. Ids must be unique within `events`. Never rejects. */
  write(events: readonly ValidEvent[]): Promise<Outcome[]> {
    this.#metrics.groupCommitSize.observe(events.length);
    return this.#writePart(events);
  }

  async #writePart(events: readonly ValidEvent[]): Promise<Outcome[]> {
    const [only] = events;
    if (!only) return [];
    try {
      if (events.length === 1) return [await this.#withRetry(() => this.#writeOne(only), false)];
      return await this.#withRetry(() => this.#writeMany(events), true);
    } catch (error) {
      const kind = classifyFailure(error);
      if (events.length > 1 && (kind === 'contended' || kind === 'data')) {
        // Each level of a lock timeout is a wait for the neighbours: few levels, many parts.
        const parts = splitEvents(events, sqlStateOf(error) === LOCK_NOT_AVAILABLE ? 8 : 2);
        return (await Promise.all(parts.map((part) => this.#writePart(part)))).flat();
      }
      const ledgerError = toLedgerError(error);
      return events.map(() => ({ error: ledgerError }));
    }
  }

  async #writeOne(event: ValidEvent): Promise<Outcome> {
    const cached = this.#lookups.cachedMetadata(event);
    const metadata =
      cached === undefined
        ? ((await this.#lookups.resolve(this.#query, [event]))[0] ?? null)
        : cached;
    if (!this.#inPlace || this.#contended.has(event)) return await this.#append(event, metadata);
    const row = await this.#record(event, metadata, true);
    if (row.appended) {
      this.#metrics.contendedAppends.inc();
      this.#contended.add(event);
    }
    return toOutcome(event, row);
  }

  /** For contended payers and in the always-append mode. */
  async #append(event: ValidEvent, metadata: MetadataRow | null): Promise<Outcome> {
    const [row] = await this.#query<{ created_at: string }>(appendUsageStatement(event, metadata));
    // A replay, or refused: the full statement tells which, and its answer.
    if (!row) return toOutcome(event, await this.#record(event, metadata, false));
    if (this.#inPlace) this.#metrics.contendedAppends.inc();
    try {
      const balance = await this.#balances.read(event);
      return {
        result: {
          id: event.id,
          created_at: row.created_at,
          status: 'recorded',
          new_microdollars_used: balance,
        },
      };
    } catch (error) {
      // The answer itself is refused: another send would not change it.
      if (error instanceof LedgerError) return { error };
      throw error;
    }
  }

  async #record(
    event: ValidEvent,
    metadata: MetadataRow | null,
    inPlace: boolean,
  ): Promise<RecordedRow> {
    const [row] = await this.#query<RecordedRow>(recordUsageStatement(event, metadata, inPlace));
    if (!row) throw new Error('microdollar_record_usage returned no row');
    return row;
  }

  async #writeMany(events: readonly ValidEvent[]): Promise<Outcome[]> {
    const metadata = events.every((event) => event.metadata === null)
      ? events.map(() => null)
      : await this.#lookups.resolve(this.#query, events);
    const rows = await this.#query<BatchRow>(recordBatchStatement(events, metadata, this.#inPlace));
    const answer = readBatchRows(rows);
    if (this.#inPlace) this.#metrics.contendedAppends.inc(answer.appendedPayers);
    const outcomes: Outcome[] = [];
    for (const event of events) {
      const createdAt = answer.createdAt.get(event.id);
      if (createdAt === undefined) {
        // Not inserted: a replay, or refused. A second statement tells (rule 6).
        outcomes.push((await this.#writePart([event]))[0] as Outcome);
        continue;
      }
      outcomes.push(readOutcome(event, createdAt, answer));
    }
    return outcomes;
  }

  #withRetry<T>(send: () => Promise<T>, splits: boolean): Promise<T> {
    return withRetry(send, { splits, onRetry: (cause) => this.#metrics.retries.inc({ cause }) });
  }
}

/** Parts of nearly equal size, in order; none is empty. */
function splitEvents(events: readonly ValidEvent[], parts: number): ValidEvent[][] {
  const size = Math.ceil(events.length / parts);
  return Array.from({ length: Math.ceil(events.length / size) }, (_, index) =>
    events.slice(index * size, (index + 1) * size),
  );
}

function toOutcome(event: ValidEvent, row: RecordedRow): Outcome {
  try {
    return { result: toRecordResult(event, row) };
  } catch (error) {
    return { error: error as Error };
  }
}

interface BatchAnswer {
  createdAt: Map<string, string>;
  balances: Map<string, number>;
  appendedPayers: number;
}

function readBatchRows(rows: readonly BatchRow[]): BatchAnswer {
  const createdAt = new Map<string, string>();
  const updated = new Map<string, bigint>();
  const snapshot = new Map<string, bigint>();
  const appended = new Map<string, bigint>();
  for (const row of rows) {
    if (row.kind === 'event') {
      createdAt.set(row.key, row.created_at ?? '');
      continue;
    }
    const [payer, part] = row.kind.split('_');
    const target = part === 'snapshot' ? snapshot : part === 'appended' ? appended : updated;
    target.set(`${payer}:${row.key}`, BigInt(row.amount ?? 0));
  }
  const balances = new Map<string, number>();
  for (const key of new Set([...updated.keys(), ...snapshot.keys()])) {
    const before = updated.get(key) ?? snapshot.get(key) ?? 0n;
    balances.set(key, Number(before + (appended.get(key) ?? 0n)));
  }
  return { createdAt, balances, appendedPayers: appended.size };
}

function readOutcome(event: ValidEvent, createdAt: string, answer: BatchAnswer): Outcome {
  try {
    return {
      result: {
        id: event.id,
        created_at: createdAt,
        status: 'recorded',
        new_microdollars_used: toSafeInteger(answer.balances.get(payerKey(event)) ?? 0),
      },
    };
  } catch (error) {
    return { error: error as Error };
  }
}
