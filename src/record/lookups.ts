import { setTimeout as sleep } from 'node:timers/promises';
import type { Query } from '../db/query.js';
import { isUniqueViolation } from '../db/sqlstate.js';
import type { ValidEvent } from './event.js';
import { findLookupsStatement, resolveLookupsStatement } from './lookups.sql.js';
import { type MetadataRow, toCompleteRow, toMetadataRow } from './metadataRow.js';

/** Values kept per process; past that the oldest are forgotten, and looked up again. */
const CACHE_ENTRIES = 100_000;

/**
 * Ids of lookup values, cached after the commit that created them (R12), so that a warm
 * write touches no lookup table. A value that another session is inserting right now gets no
 * id; its event carries the value itself, and the fold resolves it later (I4).
 */
export class LookupCache {
  readonly #ids = new Map<string, number>();
  readonly #inFlight = new Map<string, Promise<void>>();

  /** Metadata of an event, without a query; undefined when ids are missing. */
  cachedMetadata(event: ValidEvent): MetadataRow | null | undefined {
    return toCompleteRow(event, (name, value) => this.#ids.get(cacheKey(name, value)));
  }

  /** Metadata of events, after looking up, and creating, what is missing. */
  async resolve(query: Query, events: readonly ValidEvent[]): Promise<(MetadataRow | null)[]> {
    const missing = new Map<string, [name: string, value: string]>();
    const waits = new Set<Promise<void>>();
    for (const [key, pair] of lookupPairs(events)) {
      if (this.#ids.has(key)) continue;
      const inFlight = this.#inFlight.get(key);
      if (inFlight) waits.add(inFlight);
      else missing.set(key, pair);
    }
    if (missing.size > 0) waits.add(this.#create(query, missing));
    await Promise.all(waits);
    return events.map((event) => toRow(event, this.#ids));
  }

  async #create(query: Query, missing: Map<string, [string, string]>): Promise<void> {
    const work = (async () => {
      let left = missing;
      // A rival that creates the same value needs a moment; a foreign transaction may need long.
      for (let attempt = 0; attempt < 2 && left.size > 0; attempt++) {
        if (attempt > 0) await sleep(5);
        left = await this.#createOnce(query, left);
      }
    })();
    for (const key of missing.keys()) this.#inFlight.set(key, work);
    try {
      await work;
    } finally {
      for (const key of missing.keys()) this.#inFlight.delete(key);
    }
  }

  async #createOnce(
    query: Query,
    missing: Map<string, [string, string]>,
  ): Promise<Map<string, [string, string]>> {
    const entries = [...missing];
    let rows: { place: number; id: number | null }[];
    try {
      rows = await query(
        resolveLookupsStatement(
          entries.map(([, [name]]) => name),
          entries.map(([, [, value]]) => value),
        ),
      );
    } catch (error) {
      // Another value, created at this moment, was given the same id: whoever tries again sees that.
      if (!isUniqueViolation(error)) throw error;
      return missing;
    }
    const left = new Map<string, [string, string]>();
    for (const row of rows) {
      const entry = entries[row.place - 1];
      if (!entry) continue;
      if (row.id === null) left.set(entry[0], entry[1]);
      else this.#remember(entry[0], row.id);
    }
    return left;
  }

  /** After a failover rows may be lost, and their ids given to other values. */
  clear(): void {
    this.#ids.clear();
  }

  #remember(key: string, id: number): void {
    if (this.#ids.size >= CACHE_ENTRIES) {
      const oldest = this.#ids.keys().next().value;
      if (oldest !== undefined) this.#ids.delete(oldest);
    }
    this.#ids.set(key, id);
  }

  /**
   * Inside a transaction of the caller's: only ids that exist, nothing created, and nothing
   * cached, for the transaction may have created them itself and roll back.
   */
  async findOnly(query: Query, event: ValidEvent): Promise<MetadataRow | null> {
    if (event.metadata === null) return null;
    const entries = [...lookupPairs([event])];
    const found = new Map<string, number>();
    const missing = entries.filter(([key]) => !this.#ids.has(key));
    for (const [key] of entries) {
      const id = this.#ids.get(key);
      if (id !== undefined) found.set(key, id);
    }
    if (missing.length > 0) {
      const rows = await query<{ place: number; id: number | null }>(
        findLookupsStatement(
          missing.map(([, [name]]) => name),
          missing.map(([, [, value]]) => value),
        ),
      );
      for (const row of rows) {
        const entry = missing[row.place - 1];
        if (entry && row.id !== null) found.set(entry[0], row.id);
      }
    }
    return toRow(event, found);
  }
}

function toRow(event: ValidEvent, ids: ReadonlyMap<string, number>): MetadataRow | null {
  return toMetadataRow(event, (name, value) => ids.get(cacheKey(name, value)));
}

function lookupPairs(events: readonly ValidEvent[]): Map<string, [name: string, value: string]> {
  const pairs = new Map<string, [string, string]>();
  for (const event of events) {
    for (const [name, value] of Object.entries(event.lookups)) {
      pairs.set(cacheKey(name, value), [name, value]);
    }
  }
  return pairs;
}

/** No lookup name contains a colon. */
function cacheKey(name: string, value: string): string {
  return `${name}:${value}`;
}
