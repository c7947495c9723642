import { payerId, scopeOf } from '../counter/payer.js';
import { Settler } from '../counter/settler.js';
import type { Query } from '../db/query.js';
import { isOfName, isSerializationFailure, isStalePlan } from '../db/sqlstate.js';
import type { Statement } from '../db/statement.js';
import { toExactInteger } from '../money.js';
import { type AppendedRow, appendUsageStatement, TWIN_WAIT_MS } from './appendUsage.sql.js';
import { ContendedPayers } from './contendedPayers.js';
import type { ValidEvent } from './event.js';
import { type ExplainedRow, explainUsageStatement } from './explainUsage.sql.js';
import { recordInPlaceStatement, type WrittenInPlaceRow } from './inPlace.sql.js';
import { formatMicros } from './instants.sql.js';
import { LookupCache } from './lookups.js';
import type { MetadataRow } from './metadataRow.js';
import { toExplained } from './outcome.js';
import { type HostClient, ReadCommitted } from './readCommitted.js';
import { isHeld } from './twins.js';
import type { RecordedEvent, RecordResult } from './types.js';

export interface Queryable {
  query(config: { name?: string; text: string; values: unknown[] }): Promise<{ rows: unknown[] }>;
}

/** Unsettled rows beside a write in place from which on the writer settles them too. */
const SETTLE_DEPTH = 32;
/** Without names each statement is planned anew. */
const UNNAMED_MS = 60_000;

/** Statements on an executor of a host's own. */
export function queryOn(client: Queryable, isNamed: () => boolean): Query {
  return async <Row>({ name, text, values }: Statement) => {
    const result = await client.query(isNamed() ? { name, text, values } : { text, values });
    return result.rows as Row[];
  };
}

/**
 * Writes on a pool of a host's own, each in a transaction of its own: in place where payer and daily
 * row are free, else appended and settled by a statement that the callers of a moment share. So no
 * ledger and no service has to run beside it, and no tail grows.
 */
export class HostPool {
  readonly #query: Query;
  readonly #statements: ReadCommitted;
  readonly #lookups = new LookupCache();
  readonly #contended = new ContendedPayers();
  readonly #settler: Settler;
  /** A named statement met what the same without a name does not: until when they go without. */
  #unnamedUntilMs = 0;
  /** Makes names new after tables were altered: sessions keep what they prepared by the old ones. */
  #alterations = 0;

  constructor(client: Queryable) {
    this.#statements = new ReadCommitted(client as HostClient);
    this.#query = (statement) => {
      const name =
        this.#alterations === 0 ? statement.name : `${statement.name}_${this.#alterations}`;
      const isNamed = performance.now() >= this.#unnamedUntilMs;
      return this.#statements.run({ ...statement, name }, isNamed);
    };
    this.#settler = new Settler({ query: this.#query });
  }

  async write(event: ValidEvent): Promise<RecordResult> {
    try {
      return await this.#write(event);
    } catch (error) {
      if (isOfName(error)) this.#goUnnamed(error);
      // The level of isolation is another one than it was.
      else if (isSerializationFailure(error)) this.#statements.forget();
      else throw error;
      return await this.#write(event);
    }
  }

  /** Behind a pooler for good; after a change of tables for a while, for a pooler may keep plans as well. */
  #goUnnamed(error: unknown): void {
    if (isStalePlan(error)) {
      this.#alterations++;
      this.#unnamedUntilMs = Math.max(this.#unnamedUntilMs, performance.now() + UNNAMED_MS);
    } else {
      this.#unnamedUntilMs = Number.POSITIVE_INFINITY;
    }
  }

  async #write(event: ValidEvent): Promise<RecordResult> {
    const cached = this.#lookups.cachedMetadata(event);
    const metadata =
      cached === undefined
        ? ((await this.#lookups.resolve(this.#query, [event]))[0] ?? null)
        : cached;
    const correct = this.#lookups.confirm(this.#query);
    const result = await this.#writeRow(event, metadata);
    await correct?.([event.id]);
    return result;
  }

  async #writeRow(event: ValidEvent, metadata: MetadataRow | null): Promise<RecordResult> {
    const written = this.#contended.has(event) ? null : await this.#inPlace(event, metadata);
    if (written && written.balance !== null && written.is_whole) {
      if (Number(written.depth) >= SETTLE_DEPTH) {
        await this.#settler.settle(scopeOf(event), [payerId(event)]);
      }
      return {
        ...toRecorded(event, written.created_micros),
        new_microdollars_used: toExactInteger(written.balance),
      };
    }
    return await this.#answer(
      event,
      written ? toRecorded(event, written.created_micros) : await this.#append(event, metadata),
    );
  }

  /** Null: nothing was written. */
  async #inPlace(
    event: ValidEvent,
    metadata: MetadataRow | null,
  ): Promise<WrittenInPlaceRow | null> {
    try {
      const statement = recordInPlaceStatement(event, metadata);
      const [row] = await this.#query<WrittenInPlaceRow>(statement);
      if (row && row.balance === null && event.cost !== 0) this.#contended.add(event);
      return row ?? null;
    } catch (error) {
      if (!isHeld(error)) throw error;
      return null;
    }
  }

  async #append(event: ValidEvent, metadata: MetadataRow | null): Promise<RecordedEvent> {
    const [row] = await this.#query<AppendedRow>(
      appendUsageStatement(event, { metadata, isKnown: false, boundsWaitMs: TWIN_WAIT_MS }),
    );
    if (row?.created_micros) return toRecorded(event, row.created_micros);
    return await explain(this.#query, event);
  }

  async #answer(event: ValidEvent, recorded: RecordedEvent): Promise<RecordResult> {
    if (recorded.status === 'recorded' && event.cost !== 0) this.#settler.appended(event);
    const balance = await this.#settler.balance(event);
    return {
      ...recorded,
      new_microdollars_used: balance === null ? null : toExactInteger(balance),
    };
  }
}

export function toRecorded(event: ValidEvent, createdMicros: string): RecordedEvent {
  const createdAt = event.created_at ?? formatMicros(createdMicros);
  return { id: event.id, created_at: createdAt, status: 'recorded' };
}

/** Why the event was not inserted. @throws LedgerError unless it was recorded before */
export async function explain(query: Query, event: ValidEvent): Promise<RecordedEvent> {
  const [row] = await query<ExplainedRow>(explainUsageStatement([event]));
  return toExplained(event, row ?? { status: 'absent', created_micros: null });
}
