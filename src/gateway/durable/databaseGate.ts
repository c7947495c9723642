import { isDatabaseAway } from '../../db/sqlstate.js';
import { LedgerError } from '../../errors.js';
import { isOfShard } from './failures.js';

export interface DatabaseGateOptions {
  /**
   * The ledger is of shards, and this the database of one: time that payers take says nothing of it.
   * Default false.
   */
  isOfShards?: boolean;
  /** Proves that the primary takes writes; rejects when it does not. */
  probe: () => Promise<unknown>;
  /** For one piece of work; then it is given up here, though it may still commit. */
  timeoutMs: number;
  onChange: (isAvailable: boolean) => void;
}

/** Work in a row that ran out of time before the database counts as away. */
const MAX_TIMEOUTS = 3;
const FIRST_PROBE_MS = 100;
const MAX_PROBE_MS = 2_000;

/**
 * A circuit breaker: nobody waits for a database that is known to be away, and one probe at a
 * time asks whether it is back.
 *
 *   available --connection lost, or 3 timeouts in a row--> away --probe succeeds--> available
 */
export class DatabaseGate {
  readonly #options: DatabaseGateOptions;
  #isAvailable = true;
  #timeouts = 0;
  #probeTimer: NodeJS.Timeout | null = null;
  #isClosed = false;

  constructor(options: DatabaseGateOptions) {
    this.#options = options;
  }

  get isAvailable(): boolean {
    return this.#isAvailable;
  }

  /**
   * Runs work within the time limit, unless the database is away.
   * @param longMs another limit, for work that may wait for its like: that it does says nothing of the
   *   database
   * @throws the work's error; LedgerError `unavailable` when away or out of time
   */
  async run<T>(work: () => Promise<T>, longMs?: number): Promise<T> {
    const counts = longMs === undefined;
    return await this.#run(work, {
      timeoutMs: longMs ?? this.#options.timeoutMs,
      counts,
      tells: true,
    });
  }

  /** The same for work on a payer's ledger, which of shards may be in another database. */
  async runOnLedger<T>(work: () => Promise<T>): Promise<T> {
    const { timeoutMs, isOfShards = false } = this.#options;
    return await this.#run(work, { timeoutMs, counts: !isOfShards, tells: !isOfShards });
  }

  /** Whether its timeouts count, and whether its success tells that the database is there. */
  async #run<T>(
    work: () => Promise<T>,
    { timeoutMs, counts, tells }: { timeoutMs: number; counts: boolean; tells: boolean },
  ): Promise<T> {
    if (!this.#isAvailable) throw new LedgerError('unavailable', 'the database is away');
    let timer: NodeJS.Timeout | undefined;
    let late: NodeJS.Immediate | undefined;
    const limit = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        // A process that stood still itself has the answers in its sockets: they are read first.
        late = setImmediate(() => {
          if (counts && ++this.#timeouts >= MAX_TIMEOUTS) this.#close();
          reject(new LedgerError('unavailable', `the database took over ${timeoutMs} ms`));
        });
      }, timeoutMs);
    });
    const result = work();
    // Given up: its failure is nobody's any more.
    result.catch(() => {});
    try {
      const value = await Promise.race([result, limit]);
      if (tells) this.#timeouts = 0;
      return value;
    } catch (error) {
      this.report(error);
      throw error;
    } finally {
      clearTimeout(timer);
      clearImmediate(late);
    }
  }

  /** A failure seen elsewhere. Of one shard it says nothing of the others. */
  report(error: unknown): void {
    if (isDatabaseAway(error) && !isOfShard(error)) this.#close();
  }

  stop(): void {
    this.#isClosed = true;
    if (this.#probeTimer !== null) clearTimeout(this.#probeTimer);
  }

  #close(): void {
    if (!this.#isAvailable || this.#isClosed) return;
    this.#isAvailable = false;
    this.#options.onChange(false);
    this.#probeAfter(FIRST_PROBE_MS);
  }

  #probeAfter(delayMs: number): void {
    if (this.#isClosed) return;
    this.#probeTimer = setTimeout(async () => {
      try {
        await this.#options.probe();
      } catch {
        this.#probeAfter(Math.min(delayMs * 2, MAX_PROBE_MS));
        return;
      }
      if (this.#isClosed) return;
      this.#isAvailable = true;
      this.#timeouts = 0;
      this.#options.onChange(true);
    }, delayMs);
    this.#probeTimer.unref();
  }
}
