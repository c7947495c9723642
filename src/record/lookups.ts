import { setTimeout as sleep } from 'node:timers/promises';
import type { Query } from '../db/query.js';
import { isUniqueViolation } from '../db/sqlstate.js';
import type { LookupName } from '../schema/lookupNames.js';
import type { ValidEvent } from './event.js';
import {
  correctLookupStatement,
  findLookupsStatement,
  lostLookupsStatement,
  resolveLookupsStatement,
} from './lookups.sql.js';
import { type MetadataRow, toCompleteRow, toMetadataRow } from './metadataRow.js';

/** Values kept per process; past that the oldest are forgotten, and looked up again. */
const CACHE_ENTRIES = 100_000;
/** How long a row that was there is taken to be there still. Also the least time between two looks. */
const CONFIRMED_MS = 5;
/** Looks take at most a tenth of one connection's time: under load they are slower, and rarer. */
const REST_RATIO = 10;
/** How long answers wait for a look: it may stand behind a lock of somebody's on a lookup table. */
const MAX_LOOK_MS = 100;

interface Known {
  name: LookupName;
  value: string;
  id: number;
  /** When its row was seen last, ms of `performance.now()`. */
  confirmedMs: number;
}

/** Another row has the id that a value had. */
interface Moved {
  before: Known;
  id: number;
}

/**
 * Ids of lookup values, cached after the commit that created them (R12), so that a warm write
 * touches no lookup table. A value that another session is inserting right now gets no id; its event
 * carries the value itself, and the fold resolves it later (I4).
 *
 * Rows can be lost under a cache (a failover, a restore, a truncate), also behind a pooler that hides
 * it. So a statement beside the writes of a moment, shared by them, looks whether the rows that they
 * name are there (`confirm`): what is not is created again, with its id, which is made of its value,
 * before a write is answered that comes when no look was made lately; others are not held up for the
 * next look. Only one whose id came from a sequence can find it taken by another value meanwhile: then
 * metadata of these writes is corrected.
 */
export class LookupCache {
  readonly #known = new Map<string, Known>();
  readonly #inFlight = new Map<string, Promise<void>>();
  /** Named by writes since the last look. */
  #named = new Map<string, Known>();
  #next: Promise<Moved[]> | null = null;
  #last: Promise<unknown> = Promise.resolve();
  /** From then on the next may be made, ms of `performance.now()`. */
  #nextMs = Number.NEGATIVE_INFINITY;
  readonly #onError: (error: unknown) => void;

  /** @param onError metadata could not be corrected */
  constructor(onError: (error: unknown) => void = () => {}) {
    this.#onError = onError;
  }

  /** Metadata of an event, without a query; undefined when ids are missing. */
  cachedMetadata(event: ValidEvent): MetadataRow | null | undefined {
    const nowMs = performance.now();
    return toCompleteRow(event, (name, value) => this.#idOf(cacheKey(name, value), nowMs));
  }

  /**
   * Whether the rows are there that `cachedMetadata` has named, and what is not is there again. Call it
   * when writes have begun, and what it returns with their ids when they have ended, before they are
   * answered: that waits for at most `MAX_LOOK_MS`, and not at all for a look that others have put off.
   * Null: nothing to look for. Never rejects.
   */
  confirm(query: Query): ((ids: readonly string[]) => Promise<void>) | null {
    if (this.#named.size === 0) return null;
    const isAtOnce = performance.now() >= this.#nextMs;
    this.#next ??= this.#lookSoon(query);
    const looked = this.#next;
    return async (ids) => {
      const corrected = this.#correct(query, looked, ids);
      if (isAtOnce) await Promise.race([corrected, sleep(MAX_LOOK_MS, undefined, { ref: false })]);
    };
  }

  async #correct(query: Query, looked: Promise<Moved[]>, ids: readonly string[]): Promise<void> {
    for (const { before, id } of await looked) {
      const statement = correctLookupStatement(before.name, before.id, id, ids);
      await query(statement).catch(this.#onError);
    }
  }

  /** One at a time, with rests between them: who comes meanwhile shares the next. */
  #lookSoon(query: Query): Promise<Moved[]> {
    const last = this.#last;
    const look = (async () => {
      await last;
      const waitMs = this.#nextMs - performance.now();
      if (waitMs > 0) await sleep(waitMs);
      const named = [...this.#named.values()];
      this.#named = new Map();
      this.#next = null;
      const beganMs = performance.now();
      // Until it has ended nobody else begins one.
      this.#nextMs = Number.POSITIVE_INFINITY;
      try {
        return await this.#lookFor(query, named, beganMs);
      } catch {
        // Not known then: the next write that names the values looks again.
        return [];
      } finally {
        const restMs = REST_RATIO * (performance.now() - beganMs);
        this.#nextMs = beganMs + Math.min(MAX_LOOK_MS, Math.max(CONFIRMED_MS, restMs));
      }
    })();
    this.#last = look;
    return look;
  }

  async #lookFor(query: Query, named: readonly Known[], nowMs: number): Promise<Moved[]> {
    const lost = await query<{ name: LookupName; value: string }>(lostLookupsStatement(named));
    const keys = new Set(lost.map(({ name, value }) => cacheKey(name, value)));
    const missing = new Map<string, [string, string]>();
    const before: [key: string, Known][] = [];
    for (const known of named) {
      const key = cacheKey(known.name, known.value);
      if (!keys.has(key)) {
        known.confirmedMs = nowMs;
        continue;
      }
      before.push([key, known]);
      missing.set(key, [known.name, known.value]);
      if (this.#known.get(key) === known) this.#known.delete(key);
    }
    if (missing.size > 0) await this.#create(query, missing);
    return before.flatMap(([key, known]) => {
      const id = this.#known.get(key)?.id;
      return id === undefined || id === known.id ? [] : [{ before: known, id }];
    });
  }

  /** Metadata of events, after looking up, and creating, what is missing. */
  async resolve(query: Query, events: readonly ValidEvent[]): Promise<(MetadataRow | null)[]> {
    const missing = new Map<string, [name: string, value: string]>();
    const waits = new Set<Promise<void>>();
    for (const [key, pair] of lookupPairs(events)) {
      if (this.#known.has(key)) continue;
      const inFlight = this.#inFlight.get(key);
      if (inFlight) waits.add(inFlight);
      else missing.set(key, pair);
    }
    if (missing.size > 0) waits.add(this.#create(query, missing));
    await Promise.all(waits);
    const nowMs = performance.now();
    return events.map((event) => toRow(event, (key) => this.#idOf(key, nowMs)));
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
      else this.#remember(...entry, row.id);
    }
    return left;
  }

  /** After a failover rows may be lost, and their ids given to other values. */
  clear(): void {
    this.#known.clear();
  }

  #idOf(key: string, nowMs: number): number | undefined {
    const known = this.#known.get(key);
    if (known && nowMs - known.confirmedMs >= CONFIRMED_MS) this.#named.set(key, known);
    return known?.id;
  }

  #remember(key: string, [name, value]: [string, string], id: number): void {
    if (this.#known.size >= CACHE_ENTRIES) {
      const oldest = this.#known.keys().next().value;
      if (oldest !== undefined) this.#known.delete(oldest);
    }
    const known = { name: name as LookupName, value, id, confirmedMs: performance.now() };
    this.#known.set(key, known);
  }
}

/**
 * Metadata inside a transaction of the caller's: only ids that exist, nothing created, and nothing
 * cached, for the transaction may have created them itself and roll back.
 */
export async function findMetadata(query: Query, event: ValidEvent): Promise<MetadataRow | null> {
  if (event.metadata === null) return null;
  const pairs = [...lookupPairs([event])];
  const found = new Map<string, number>();
  if (pairs.length > 0) {
    const rows = await query<{ place: number; id: number | null }>(
      findLookupsStatement(
        pairs.map(([, [name]]) => name),
        pairs.map(([, [, value]]) => value),
      ),
    );
    for (const { place, id } of rows) {
      const pair = pairs[place - 1];
      if (pair && id !== null) found.set(pair[0], id);
    }
  }
  return toRow(event, (key) => found.get(key));
}

function toRow(event: ValidEvent, idOf: (key: string) => number | undefined): MetadataRow | null {
  return toMetadataRow(event, (name, value) => idOf(cacheKey(name, value)));
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
