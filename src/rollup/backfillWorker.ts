import { randomUUID } from 'node:crypto';
import type { Query } from '../db/query.js';
import type { BackfillJob, BackfillOptions } from './backfillTypes.js';
import { ChunkSizer } from './chunkSizer.js';
import { type ChunkFinding, type ComparedChunk, compareNext } from './compare.js';
import {
  buildEmptyPeriodsStatement,
  CLAIM_SECONDS,
  type ClaimedRow,
  claimPeriodStatement,
  releasePeriodStatement,
  renewClaimStatement,
  saveProgressStatement,
  unfinishedStatement,
} from './coverage.sql.js';
import { pause, type RollupDatabase, tellWaiting, whileAway } from './database.js';
import { openCounter } from './openCounter.js';
import { describeFailure, isOfPeriod } from './periodFailure.js';
import { type Rebuilt, rebuildCounters, rebuildInSlices } from './rebuild.js';
import type { Throttle } from './throttle.js';
import { PAUSED, whilePaused } from './whilePaused.js';

const RENEW_CLAIM_MS = (CLAIM_SECONDS * 1_000) / 3;
/** Another worker ends its last period in a moment; a killed one's claim has to run out. */
const MIN_CLAIM_POLL_MS = 10;
const MAX_CLAIM_POLL_MS = 1_000;
/** Rounds over the locked rows of a chunk before its period is given back. */
const LOCKED_ROUNDS = 5;

/** A claimed period, and how far it is. */
interface Place extends ClaimedRow {
  /** Users up to this one are done; null: none. */
  userAfter: string | null;
  isFirst: boolean;
  corrected: number;
  /** Keys that stay wrong. */
  left: number;
  /** As of the last chunk; before the first it is looked at. */
  isPaused: boolean;
}

/** Claims one period after the other and builds, or checks, it chunk by chunk. */
export class BackfillWorker {
  readonly #id = randomUUID();
  readonly #database: RollupDatabase;
  readonly #options: BackfillOptions;
  readonly #job: BackfillJob;
  readonly #throttle: Throttle;
  readonly #signal: AbortSignal;
  readonly #alone: ChunkSizer;
  readonly #besideWriters: ChunkSizer;

  constructor(
    database: RollupDatabase,
    options: BackfillOptions,
    job: BackfillJob,
    throttle: Throttle,
    signal: AbortSignal,
  ) {
    this.#database = database;
    this.#options = options;
    this.#job = job;
    this.#throttle = throttle;
    this.#signal = signal;
    this.#alone = new ChunkSizer(options.limits);
    this.#besideWriters = ChunkSizer.besideWriters(options.limits, () => throttle.chunkMs);
  }

  async run(): Promise<void> {
    for (let pollMs = MIN_CLAIM_POLL_MS; !this.#signal.aborted; ) {
      // Claimed in turn: who waits for the turn holds nothing back.
      const hasWorked = await this.#throttle.turn(async () => {
        const claimed = await this.#claim();
        if (claimed) await this.#buildPeriod(claimed);
        return claimed !== undefined;
      });
      if (hasWorked) continue;
      // Nothing to claim. A period that another worker holds may come back: wait for it.
      if ((await this.#countLeft()) === 0) return;
      await pause(pollMs, this.#signal);
      pollMs = Math.min(MAX_CLAIM_POLL_MS, pollMs * 2);
    }
  }

  async #claim(): Promise<ClaimedRow | undefined> {
    const { rollup } = this.#options;
    for (;;) {
      const [row] = await this.#patiently(() =>
        this.#database.query<ClaimedRow>(
          claimPeriodStatement(rollup, this.#id, this.#job, [...this.#job.givenUp]),
        ),
      );
      if (!row || !this.#job.givenUp.has(row.period)) return row;
      // Given up while this statement was under way: it would be done, and counted, twice.
      await this.#release(row, true);
    }
  }

  async #countLeft(): Promise<number> {
    const [row] = await this.#patiently(() =>
      this.#database.query<{ to_build: string; to_check: string }>(
        unfinishedStatement(this.#options.rollup, this.#job, [...this.#job.givenUp]),
      ),
    );
    return Number(row?.to_build ?? 0) + Number(row?.to_check ?? 0);
  }

  /** A period that fails by itself is named and given back; the others go on. */
  async #buildPeriod(claimed: ClaimedRow): Promise<void> {
    const userAfter = claimed.done_until_user;
    const at = {
      ...claimed,
      userAfter,
      isFirst: userAfter === null,
      corrected: 0,
      left: 0,
      isPaused: true,
    };
    try {
      for (;;) {
        if (at.isPaused) await this.#whilePaused();
        if (this.#signal.aborted) return await this.#release(at, true);
        this.#job.emptyBuilt ??= this.#buildEmpty();
        await this.#job.emptyBuilt;
        const end = await this.#throttle.run(() => this.#holding(at, () => this.#buildChunk(at)));
        // Claim ran out: its new owner goes on.
        if (end !== 'more') return;
      }
    } catch (error) {
      if (!isOfPeriod(error)) throw error;
      this.#job.givenUp.add(at.period);
      this.#job.report.failures.push(describeFailure(at.period, error));
      await this.#release(at, false);
    }
  }

  async #buildEmpty(): Promise<void> {
    const { rollup } = this.#options;
    const built = await this.#patiently(() =>
      this.#database.query<{ is_check: boolean }>(buildEmptyPeriodsStatement(rollup, this.#job)),
    );
    const { report } = this.#job;
    for (const { is_check } of built) {
      if (is_check) report.checked++;
      else report.periods++;
    }
  }

  /** Renews the claim while work goes on that takes longer than it lasts: one user's huge day. */
  async #holding<T>(at: Place, work: () => Promise<T>): Promise<T> {
    const { rollup } = this.#options;
    const renew = () =>
      this.#database.query(renewClaimStatement(rollup, this.#id, at.period)).catch(() => {});
    const timer = setInterval(renew, RENEW_CLAIM_MS);
    try {
      return await work();
    } finally {
      clearInterval(timer);
    }
  }

  /** One chunk, and the commit of its progress; moves `at`. */
  async #buildChunk(at: Place): Promise<'more' | 'done' | 'lost'> {
    const { rollup } = this.#options;
    const { period, userAfter } = at;
    const sizer = this.#throttle.isBusy ? this.#besideWriters : this.#alone;
    const chunk = await this.#patiently(() =>
      compareNext(this.#database, rollup, sizer, { period, userAfter, build: true }),
    );
    const { report } = this.#job;
    report.longestTransactionMs = Math.max(report.longestTransactionMs, chunk.durationMs);
    report.created += chunk.inserted;
    const { corrected, left } = await this.#correct(period, chunk);
    at.corrected += corrected + chunk.inserted;
    // More was wrong than one answer holds, or a rival came first: the same chunk once more.
    const isAll = chunk.conflicts === 0 && chunk.wrong <= chunk.findings.length;
    const isNearer = corrected > 0 || chunk.conflicts > 0;
    if (!isAll && isNearer && left === 0 && !chunk.isBlocked) return 'more';
    at.left += left + chunk.conflicts + chunk.wrong - chunk.findings.length;
    return await this.#save(at, chunk);
  }

  async #save(at: Place, chunk: ComparedChunk): Promise<'more' | 'done' | 'lost'> {
    const { rollup } = this.#options;
    const { report } = this.#job;
    const isLast = chunk.userUntil === null;
    // Before it is free to be claimed.
    if (isLast && at.left > 0) this.#job.givenUp.add(at.period);
    const saved = await this.#patiently(() =>
      this.#database.query<{ period: string; is_paused: boolean }>(
        saveProgressStatement(rollup, this.#id, {
          period: at.period,
          isCheck: at.is_check,
          began: at.claimed_at,
          doneUntilUser: chunk.userUntil,
          rawRows: chunk.rawRows,
          rawCost: String(chunk.rawCost),
          isFirst: at.isFirst,
          isLast,
          leftKeys: at.left,
          correctedKeys: at.corrected,
        }),
      ),
    );
    report.rows += chunk.rawRows;
    report.keys += chunk.keys;
    const [state] = saved;
    if (state === undefined) return 'lost';
    at.isPaused = state.is_paused;
    at.userAfter = chunk.userUntil;
    at.isFirst = false;
    if (isLast) {
      report.left += at.left;
      if (at.left === 0 && at.is_check) report.checked++;
      else if (at.left === 0) report.periods++;
    }
    this.#progress(at.period, false);
    return isLast ? 'done' : 'more';
  }

  /** Sets right what a chunk found wrong. `left`: keys that stay as they are. */
  async #correct(
    period: string,
    chunk: ComparedChunk,
  ): Promise<{ corrected: number; left: number }> {
    const fitting = chunk.findings.filter((finding) => finding.fits);
    const unfit = chunk.findings.length - fitting.length;
    this.#job.report.unfit += unfit;
    const small = fitting.filter((finding) => !finding.isLarge);
    const done = await this.#untilFree(
      small.flatMap((finding) => finding.counter_id ?? []),
      (ids) => rebuildCounters(this.#database, this.#options.rollup, ids),
    );
    for (const finding of fitting.filter(({ isLarge }) => isLarge)) {
      const large = await this.#correctLarge(period, finding);
      done.corrected += large.corrected;
      done.left += large.left;
    }
    this.#job.report.corrected += done.corrected;
    return { corrected: done.corrected, left: done.left + unfit };
  }

  async #correctLarge(period: string, finding: ChunkFinding) {
    const { rollup, limits } = this.#options;
    const key = {
      kiloUserId: finding.kilo_user_id,
      organizationId: finding.organization_id,
      period,
    };
    const id =
      finding.counter_id ??
      (await this.#patiently(() => openCounter(this.#database.query, rollup, key)));
    if (id === null) return { corrected: 0, left: 1 };
    return await this.#untilFree([id], () =>
      rebuildInSlices(this.#database, rollup, id, undefined, limits?.rowsPerSlice),
    );
  }

  /** A few rounds, for rows that others hold. */
  async #untilFree(
    ids: readonly string[],
    rebuild: (ids: readonly string[]) => Promise<Rebuilt>,
  ): Promise<{ corrected: number; left: number }> {
    const done = { corrected: 0, left: 0 };
    if (ids.length === 0) return done;
    const { report } = this.#job;
    for (let round = 0; round < LOCKED_ROUNDS; round++) {
      const startedAt = performance.now();
      const rebuilt = await this.#patiently(() => rebuild(ids));
      const stepMs = (performance.now() - startedAt) / Math.max(1, Math.ceil(ids.length / 100));
      report.longestTransactionMs = Math.max(report.longestTransactionMs, stepMs);
      done.corrected += rebuilt.rows.length;
      done.left = rebuilt.locked;
      if (done.left === 0) break;
      await pause(50 * 2 ** round, this.#signal);
    }
    return done;
  }

  async #release(at: Pick<Place, 'period'>, keepsProgress: boolean): Promise<void> {
    const { rollup } = this.#options;
    await this.#patiently(() =>
      this.#database.query(releasePeriodStatement(rollup, this.#id, at.period, keepsProgress)),
    );
  }

  async #whilePaused(): Promise<void> {
    const query: Query = (statement) => this.#patiently(() => this.#database.query(statement));
    await whilePaused(query, this.#options.rollup, this.#signal, () => {
      this.#options.onNotice?.(PAUSED);
      this.#progress(null, true);
    });
  }

  #patiently<T>(run: () => Promise<T>): Promise<T> {
    return whileAway(run, tellWaiting(this.#options.onNotice), this.#signal);
  }

  #progress(period: string | null, isPaused: boolean): void {
    const { report, periodsTotal, rowsExpected, startedAtMs } = this.#job;
    const seconds = (performance.now() - startedAtMs) / 1000;
    const periodsDone = report.periods + report.checked;
    const share = periodsTotal === 0 ? 1 : Math.min(1, periodsDone / periodsTotal);
    this.#options.onProgress?.({
      periodsDone,
      periodsTotal,
      rowsDone: report.rows,
      rowsExpected,
      rowsPerSecond: Math.round(report.rows / Math.max(seconds, 0.001)),
      etaSeconds: share > 0 ? Math.round((seconds / share) * (1 - share)) : null,
      isPaused,
      period,
    });
  }
}
