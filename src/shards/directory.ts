import type { Query } from '../db/query.js';
import { toLedgerError } from '../db/sqlstate.js';
import { LedgerError } from '../errors.js';
import { type DirectoryRow, READ_DIRECTORY, type StoredException } from './directory.sql.js';
import { bucketOf, type PayerKey, placeBuckets } from './placement.js';

/** How long the directory is believed without another look; then it is looked at beside, nobody waits. */
const LEASE_MS = 5_000;
const MAX_BUCKETS_CACHED = 200_000;

/** Where a payer is. */
export interface Place {
  shard: string;
  /** On its way: where it is it takes nothing any more, and where it goes nothing yet. */
  isFenced: boolean;
}

export interface DirectoryOptions {
  /** On home; it alone has the directory. */
  query: () => Promise<Query>;
  onError: (error: unknown) => void;
}

/**
 * Which shard a payer is on: the payer's exception, else its bucket's, else the rule. All of it is held here;
 * what is old is harmless, for a shard refuses who is not there, and then it is looked at again.
 */
export class Directory {
  readonly #options: DirectoryOptions;
  readonly #buckets = new Map<PayerKey, number>();
  #rule: string[] = [];
  #placing = '';
  #ofBucket = new Map<number, Place>();
  #ofPayer = new Map<string, Place>();
  /** When the reading that is believed began; null before the first. */
  #readAtMs: number | null = null;
  #reading: Promise<void> | null = null;
  #next: Promise<void> | null = null;

  constructor(options: DirectoryOptions) {
    this.#options = options;
  }

  /** At once, from memory. @throws LedgerError `unavailable` before the first reading */
  find(key: PayerKey): Place {
    if (this.#readAtMs === null) {
      throw new LedgerError('unavailable', 'the directory of shards has not been read yet');
    }
    if (performance.now() - this.#readAtMs > LEASE_MS && this.#reading === null) {
      void this.refresh().catch(this.#options.onError);
    }
    const exception = this.#ofPayer.get(key);
    if (exception !== undefined) return exception;
    const bucket = this.#bucketOf(key);
    return this.#ofBucket.get(bucket) ?? { shard: this.#rule[bucket] ?? '', isFenced: false };
  }

  /**
   * A reading that begins after this call; any number of callers share one. What was known stays where it
   * fails.
   * @throws LedgerError `unavailable`
   */
  async refresh(): Promise<void> {
    if (this.#reading === null) return await this.#begin();
    this.#next ??= this.#reading
      .catch(() => {})
      .then(() => {
        this.#next = null;
        return this.#begin();
      });
    await this.#next;
  }

  #begin(): Promise<void> {
    this.#reading = this.#read().finally(() => {
      this.#reading = null;
    });
    return this.#reading;
  }

  async #read(): Promise<void> {
    const startedAtMs = performance.now();
    try {
      const query = await this.#options.query();
      const [row] = await query<DirectoryRow>(READ_DIRECTORY);
      if (row !== undefined) this.#take(row);
    } catch (error) {
      // Not asked again by every call while home is away.
      if (this.#readAtMs !== null) this.#readAtMs = startedAtMs;
      throw toLedgerError(error);
    }
    this.#readAtMs = startedAtMs;
  }

  #take({ placing, exceptions }: DirectoryRow): void {
    if (placing.join() !== this.#placing) {
      this.#rule = placing.length === 0 ? [] : placeBuckets(placing);
      this.#placing = placing.join();
    }
    const ofBucket = new Map<number, Place>();
    const ofPayer = new Map<string, Place>();
    for (const exception of exceptions) {
      const place = placeOf(exception);
      if (exception.bucket !== null) ofBucket.set(exception.bucket, place);
      else ofPayer.set(`${exception.payer_scope}:${exception.payer_id}`, place);
    }
    this.#ofBucket = ofBucket;
    this.#ofPayer = ofPayer;
  }

  #bucketOf(key: PayerKey): number {
    let bucket = this.#buckets.get(key);
    if (bucket === undefined) {
      bucket = bucketOf(key);
      if (this.#buckets.size >= MAX_BUCKETS_CACHED) this.#buckets.clear();
      this.#buckets.set(key, bucket);
    }
    return bucket;
  }
}

const placeOf = ({ shard, step }: StoredException): Place => ({
  shard,
  isFenced: step === 'fenced',
});
