import type { Query } from '../db/query.js';
import { withRetry } from '../db/retry.js';
import { classifyFailure, STATEMENT_STATES, toLedgerError } from '../db/sqlstate.js';
import type { Metrics } from '../metrics.js';
import { failSpan, type Tracing } from '../tracing.js';
import { type AppendedBatchRow, appendBatchStatement } from './appendBatch.sql.js';
import { type AppendedRow, appendUsageStatement } from './appendUsage.sql.js';
import type { ValidEvent } from './event.js';
import { type ExplainedRow, explainUsageStatement } from './explainUsage.sql.js';
import { formatMicros } from './instants.sql.js';
import { KnownPayers } from './knownPayers.js';
import { IS_TABLE_LOCKED_STATEMENT } from './lockedTable.sql.js';
import type { LookupCache } from './lookups.js';
import type { MetadataRow } from './metadataRow.js';
import { toExplained } from './outcome.js';
import { Turns } from './turns.js';
import { isHeld, StillHeld, type Twins } from './twins.js';
import type { RecordedEvent } from './types.js';

export type Outcome = { result: RecordedEvent } | { error: Error };

/** A promise: the event waits aside for its twin, its neighbours do not. Never rejects. */
export type Written = Outcome | Promise<Outcome>;

/** Connections that append. Their lock timeout is short: nothing but a twin is ever waited for. */
export interface Lane {
  query: Query;
  /** Where connections carry no settings, behind a pooler, the statement does, ms. */
  boundsWaitMs: number | null;
}

export interface RecorderOptions {
  lane: Lane;
  /** Beside it, for what met a twin. */
  aside: Lane;
  twins: Twins;
  lookups: LookupCache;
  /** Beside both: looks whether the lookup rows that a write names are there. */
  look: Query;
  metrics: Metrics;
  /** A ledger that is a shard: its payers may be moved away, so each statement looks. Default: it is none. */
  isShard?: () => boolean;
  /** Default: no spans are wanted. */
  tracing?: Tracing | null;
  /** A payer has a new row in the log. */
  onAppended: (event: ValidEvent) => void;
}

/** Parts of a batch that met a twin: small enough that finding it is quick, few enough to be few. */
const PARTS = 16;
/** Of these, and of their events, at once: of the connections aside some are left for twins. */
const PARTS_AT_ONCE = 3;

/**
 * Appends events to the log and tells what became of each. Owns the policy for failures:
 * - connection, serialization, deadlock, shutdown: send the same statement again, with bounds
 *   and jitter; the ids make that safe, whether or not the first one committed (I3)
 * - a lock: an id of the statement is in flight elsewhere. Its events leave the lane at once (R11):
 *   in parts, on connections of their own, each answered when its part is, and what stands alone
 *   and is held still waits there. Only where the table itself is locked does everybody wait
 * - a statement timeout, or a value that PostgreSQL refuses: split, so that the bad one stands alone
 * - everything else: the error goes to the caller
 */
export class Recorder {
  readonly #options: RecorderOptions;
  readonly #known = new KnownPayers();
  readonly #turns = new Turns(PARTS_AT_ONCE);

  constructor(options: RecorderOptions) {
    this.#options = options;
  }

  /** Ids that are known to be in flight elsewhere must not enter a batch. */
  standsAside(event: ValidEvent): boolean {
    return this.#options.twins.isExpected(event.id);
  }

  /** One outcome per event, in order. Ids must be unique within `events`. Never rejects. */
  write(events: readonly ValidEvent[]): Promise<Written[]> {
    this.#options.metrics.groupCommitSize.observe(events.length);
    const { tracing, lookups, look } = this.#options;
    const written = tracing ? this.#writeTraced(events, tracing) : this.#writePart(events);
    // It has taken from the cache what it found there; the look goes beside the statement.
    const correct = lookups.confirm(look);
    return correct
      ? written.then((outcomes) => this.#whenCorrect(correct, events, outcomes))
      : written;
  }

  /** The lane is free meanwhile. What failed there is told at once. */
  #whenCorrect(
    correct: (ids: readonly string[]) => Promise<void>,
    events: readonly ValidEvent[],
    outcomes: readonly Written[],
  ): Written[] {
    const corrected = correct(events.map(({ id }) => id));
    return outcomes.map((outcome) =>
      'error' in outcome ? outcome : corrected.then(() => outcome),
    );
  }

  /** A statement of many calls: its span is nobody's child, and linked to those that wait for it. */
  async #writeTraced(events: readonly ValidEvent[], tracing: Tracing): Promise<Written[]> {
    const span = tracing.start('microdollar.record', {
      attributes: { 'microdollar.events': events.length },
      links: tracing.linksOf(events),
    });
    const outcomes = await this.#writePart(events);
    const failed = outcomes.filter((outcome) => 'error' in outcome);
    const aside = outcomes.filter((outcome) => outcome instanceof Promise).length;
    if (aside > 0) span.setAttribute('microdollar.events.aside', aside);
    const [first] = failed;
    if (first !== undefined) {
      span.setAttribute('microdollar.events.failed', failed.length);
      failSpan(span, toLedgerError(first.error).code);
    }
    span.end();
    return outcomes;
  }

  /** The event alone, on a connection beside the lanes. */
  async writeAside(event: ValidEvent): Promise<Outcome> {
    try {
      const attempt = () => this.#append(this.#options.aside, event);
      return { result: await this.#options.twins.wait(event.id, attempt) };
    } catch (error) {
      return { error: toLedgerError(error) };
    }
  }

  /** Resolves when the lane is free; outcomes of events that are written aside come later. */
  async #writePart(events: readonly ValidEvent[]): Promise<Written[]> {
    if (events.length === 0) return [];
    try {
      return await this.#appendAll(this.#options.lane, events);
    } catch (error) {
      if (!isHeld(error)) return await this.#writeHalves(events, error);
      return await this.#writeHeld(events, error);
    }
  }

  async #writeHeld(events: readonly ValidEvent[], met: unknown): Promise<Written[]> {
    const attempt = () => this.#appendAll(this.#options.lane, events);
    const { twins } = this.#options;
    twins.suspect(events.map(({ id }) => id));
    try {
      return await twins.waitForTable(met, () => this.#isTableLocked(), attempt);
    } catch (error) {
      return isHeld(error) ? this.#writeAround(events) : await this.#writeHalves(events, error);
    }
  }

  async #writeHalves(events: readonly ValidEvent[], error: unknown): Promise<Written[]> {
    const kind = classifyFailure(error);
    if (events.length > 1 && (kind === 'contended' || kind === 'data')) {
      const halves = splitEvents(events, 2).map((part) => this.#writePart(part));
      return (await Promise.all(halves)).flat();
    }
    const ledgerError = toLedgerError(error);
    return events.map(() => ({ error: ledgerError }));
  }

  /** Events of which one or more are held, beside the lanes: nobody waits for another part. */
  #writeAround(events: readonly ValidEvent[]): Written[] {
    const [only] = events;
    if (only && events.length === 1) return [this.writeAside(only)];
    return splitEvents(events, PARTS).flatMap((part) => {
      const written = this.#inTurn(part, () => this.#appendAll(this.#options.aside, part)).catch(
        (error) => {
          if (error instanceof StillHeld) return part.map(() => ({ error }));
          if (isHeld(error)) return part.map((event) => this.#writeAlone(event, part));
          return this.#writePart(part);
        },
      );
      return part.map(async (_, index) => {
        const outcome = (await written)[index];
        return (await outcome) ?? { error: new Error('the write gave no outcome') };
      });
    });
  }

  /** Of a part that is held: most are not held themselves, so none stands in line with those that are. */
  async #writeAlone(event: ValidEvent, { length }: readonly ValidEvent[]): Promise<Outcome> {
    if (length === 1) return await this.writeAside(event);
    try {
      const append = () => this.#append(this.#options.aside, event);
      return { result: await this.#inTurn([event], append) };
    } catch (error) {
      return isHeld(error) ? await this.writeAside(event) : { error: toLedgerError(error) };
    }
  }

  /** @throws StillHeld without a try, where thousands of others were before it for too long */
  #inTurn<T>([first]: readonly ValidEvent[], write: () => Promise<T>): Promise<T> {
    const check = this.#options.twins.patience(first?.id ?? '');
    return this.#turns.take(() => {
      check();
      return write();
    });
  }

  /** On the lane's connection, which is free: those beside it may all be busy with what is held. */
  async #isTableLocked(): Promise<boolean> {
    try {
      const [row] = await this.#options.lane.query<{ is_locked: boolean }>(
        IS_TABLE_LOCKED_STATEMENT,
      );
      return row?.is_locked ?? false;
    } catch {
      // Whatever it is, the events meet it themselves.
      return false;
    }
  }

  async #appendAll(lane: Lane, events: readonly ValidEvent[]): Promise<Outcome[]> {
    const [only] = events;
    if (!only || events.length > 1) return await this.#appendBatch(lane, events);
    return [{ result: await this.#append(lane, only) }];
  }

  #areKnown(events: readonly ValidEvent[]): boolean {
    if (this.#options.isShard?.()) return false;
    return events.every((event) => this.#known.has(event));
  }

  /** What was believed of a database that may not be the same when it is back. */
  forget(): void {
    this.#known.clear();
    this.#options.lookups.clear();
  }

  async #append({ query, boundsWaitMs }: Lane, event: ValidEvent): Promise<RecordedEvent> {
    const row = await this.#withRetry(async () => {
      const metadata = await this.#metadataOf([event]);
      const [sent] = await query<AppendedRow>(
        appendUsageStatement(event, {
          metadata: metadata[0] ?? null,
          isKnown: this.#areKnown([event]),
          boundsWaitMs,
        }),
      );
      return sent;
    });
    const createdMicros = row?.created_micros ?? null;
    if (createdMicros === null) {
      return (await this.#explain(query, [event]))[0]?.() as RecordedEvent;
    }
    this.#note(event);
    return toRecorded(event, formatMicros(createdMicros));
  }

  async #appendBatch(
    { query, boundsWaitMs }: Lane,
    events: readonly ValidEvent[],
  ): Promise<Outcome[]> {
    const row = await this.#withRetry(async () => {
      const metadata = await this.#metadataOf(events);
      const [sent] = await query<AppendedBatchRow>(
        appendBatchStatement(events, metadata, this.#areKnown(events), boundsWaitMs),
      );
      return sent;
    });
    const inserted = row?.ids ? new Set(row.ids) : null;
    const now = formatMicros(row?.now_micros ?? '0');
    const isNew = (event: ValidEvent) =>
      inserted ? inserted.has(event.id) : row?.inserted === events.length;
    const others = events.filter((event) => !isNew(event));
    const explained = (await this.#explain(query, others))[Symbol.iterator]();
    return events.map((event) => {
      if (isNew(event)) {
        this.#note(event);
        return { result: toRecorded(event, now) };
      }
      try {
        return { result: explained.next().value?.() as RecordedEvent };
      } catch (error) {
        return { error: error as Error };
      }
    });
  }

  /** Built anew for each send: what the cache held may have been forgotten since. */
  async #metadataOf(events: readonly ValidEvent[]): Promise<(MetadataRow | null)[]> {
    const { lookups, lane } = this.#options;
    const rows: (MetadataRow | null)[] = [];
    for (const event of events) {
      const row = lookups.cachedMetadata(event);
      if (row === undefined) return await lookups.resolve(lane.query, events);
      rows.push(row);
    }
    return rows;
  }

  /** Why events were not inserted, each as a function that returns the answer or throws it. */
  async #explain(query: Query, events: readonly ValidEvent[]): Promise<(() => RecordedEvent)[]> {
    if (events.length === 0) return [];
    const rows = await this.#withRetry(() => query<ExplainedRow>(explainUsageStatement(events)));
    const byId = new Map(rows.map((row) => [row.id, row]));
    return events.map((event) => () => {
      const row = byId.get(event.id);
      return toExplained(event, row ?? { status: 'absent', created_micros: null });
    });
  }

  #note(event: ValidEvent): void {
    if (!this.#options.isShard?.()) this.#known.add(event);
    this.#options.onAppended(event);
  }

  #withRetry<T>(send: () => Promise<T>): Promise<T> {
    return withRetry(send, {
      splits: true,
      onRetry: (cause) => {
        this.#options.metrics.retries.inc({ cause });
        if (!STATEMENT_STATES.has(cause)) this.forget();
      },
    });
  }
}

/** @param now of the statement, for an event that gave no time */
function toRecorded(event: ValidEvent, now: string): RecordedEvent {
  return { id: event.id, created_at: event.created_at ?? now, status: 'recorded' };
}

/** Parts of nearly equal size, in order; none is empty. */
function splitEvents(events: readonly ValidEvent[], parts: number): ValidEvent[][] {
  const size = Math.ceil(events.length / parts);
  return Array.from({ length: Math.ceil(events.length / size) }, (_, index) =>
    events.slice(index * size, (index + 1) * size),
  );
}
