import { LedgerError } from '../../errors.js';
import { planBackfill, runBackfill } from '../../rollup/backfill.js';
import type { BackfillProgress, BackfillReport } from '../../rollup/backfillTypes.js';
import { DAILY_ROLLUP } from '../../schema/rollups.js';
import { toErrorBody } from '../errors.js';
import type { JobDatabase } from './jobDatabase.js';

export interface BackfillRequest {
  /** UTC days, inclusive; absent: from the first raw row to today. */
  from?: string | undefined;
  until?: string | undefined;
  workers?: number | undefined;
}

/** The backfill that this process runs, or ran last. */
export interface BackfillJobState {
  isRunning: boolean;
  /** ISO 8601. */
  startedAt: string | null;
  finishedAt: string | null;
  progress: BackfillProgress | null;
  report: BackfillReport | null;
  /** What it said last, such as that it waits for the database. */
  notice: string | null;
  error: { code: string; message: string } | null;
}

const IDLE: BackfillJobState = {
  isRunning: false,
  startedAt: null,
  finishedAt: null,
  progress: null,
  report: null,
  notice: null,
  error: null,
};

/** Runs a backfill of the daily rollup in the background of the server. */
export class BackfillJob {
  readonly #database: JobDatabase;
  readonly #abort = new AbortController();
  #state = IDLE;
  #running: Promise<void> = Promise.resolve();

  constructor(database: JobDatabase) {
    this.#database = database;
  }

  get state(): BackfillJobState {
    return this.#state;
  }

  plan(request: BackfillRequest) {
    return planBackfill({ ...this.#database, rollup: DAILY_ROLLUP, ...request });
  }

  /** Plans first, so that a request that cannot work is refused to the caller. */
  async start(request: BackfillRequest) {
    this.#refuseSecond();
    const plan = await this.plan(request);
    this.#refuseSecond();
    this.#state = { ...IDLE, isRunning: true, startedAt: new Date().toISOString() };
    this.#running = this.#run(request);
    return plan;
  }

  /** Workers stop between two chunks; what they did is kept. */
  async close(): Promise<void> {
    this.#abort.abort();
    await this.#running;
  }

  #refuseSecond(): void {
    if (!this.#state.isRunning) return;
    throw new LedgerError('already_exists', 'this server runs a backfill already');
  }

  async #run(request: BackfillRequest): Promise<void> {
    try {
      const report = await runBackfill({
        ...this.#database,
        rollup: DAILY_ROLLUP,
        ...request,
        signal: this.#abort.signal,
        onProgress: (progress) => this.#update({ progress }),
        onNotice: (notice) => this.#update({ notice }),
      });
      this.#update({ report });
    } catch (error) {
      const { code, message } = toErrorBody(error);
      this.#update({ error: { code, message } });
    } finally {
      this.#update({ isRunning: false, finishedAt: new Date().toISOString() });
    }
  }

  #update(change: Partial<BackfillJobState>): void {
    this.#state = { ...this.#state, ...change };
  }
}
