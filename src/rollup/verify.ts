import { isReadOnlyRefusal } from '../db/sqlstate.js';
import { LedgerError } from '../errors.js';
import type { ProvenRollup, Rollup } from '../schema/rollups.js';
import { type ChunkLimits, ChunkSizer } from './chunkSizer.js';
import { type ComparedChunk, compareNext, compareUser } from './compare.js';
import {
  type Began,
  beginVerifyStatement,
  saveEmptyVerifiedStatement,
  saveVerifiedStatement,
} from './coverage.sql.js';
import {
  openRollupDatabase,
  pause,
  type RollupDatabase,
  type RollupDatabaseOptions,
  tellWaiting,
  whileAway,
} from './database.js';
import { readRange } from './dayRange.js';
import { type Drift, explain } from './explain.js';
import { userExistsStatement } from './explain.sql.js';
import { describeFailure, isOfPeriod, type PeriodFailure } from './periodFailure.js';
import { type ListedPeriod, listPeriodsStatement, todayStatement } from './periods.sql.js';
import { fallBackToRaw } from './readMode.js';
import { JobEnd, runWorkers } from './runWorkers.js';

export type { Drift } from './explain.js';

/**
 * Proves, or disproves, that reported totals equal raw usage, in both directions, by period and
 * by chunk, each chunk in one snapshot, so that a live write is never mistaken for drift. Notes the
 * result in `rollup_coverage`. A period that cannot be verified is named, and the rest goes on
 * (I12); a failure that every period would meet ends the job.
 */
export interface VerifyOptions extends RollupDatabaseOptions {
  url: string;
  rollup: Rollup;
  /** UTC days, inclusive. Default: every period that has anything. */
  from?: string | undefined;
  until?: string | undefined;
  /** Only this user; coverage is not noted then. */
  kiloUserId?: string | undefined;
  /** Default 2. */
  workers?: number | undefined;
  signal?: AbortSignal | undefined;
  onPeriod?: ((period: string, done: number, total: number) => void) | undefined;
  onNotice?: ((message: string) => void) | undefined;
  /**
   * Once, as it starts on what was asked, never for a range or a user that is refused: the report
   * grows in place, so a job that fails is told as far as it came.
   */
  onReport?: ((report: VerifyReport) => void) | undefined;
  /** Rest between chunks, ms; for a low rate in the background. Default 0. */
  restMs?: number | undefined;
  /** For tests. */
  limits?: Partial<ChunkLimits> | undefined;
}

export interface VerifyReport {
  /** Counter table. */
  rollup: string;
  periods: number;
  rows: number;
  keys: number;
  driftKeys: number;
  /** Sum of absolute drift, microdollars. */
  driftMicrodollars: bigint;
  /** The first `MAX_DRIFTS`. */
  drifts: Drift[];
  /** Periods that could not be verified. */
  failures: PeriodFailure[];
  durationMs: number;
}

/** Drifts kept in memory and reported one by one; all are counted. */
export const MAX_DRIFTS = 1_000;

export async function verifyRollup(options: VerifyOptions): Promise<VerifyReport> {
  const workers = options.workers ?? 2;
  const database = openRollupDatabase(options.url, workers, options);
  try {
    return await verifyOn(database, options, workers);
  } finally {
    await database.close();
  }
}

export interface VerifyOnOptions extends Omit<VerifyOptions, 'url' | 'viaPooler'> {
  /** Instead of a range: first days as the database prints them, oldest first. */
  periods?: readonly string[] | undefined;
}

/** The same on connections that are open already. */
export async function verifyOn(
  database: RollupDatabase,
  options: VerifyOnOptions,
  workers: number,
): Promise<VerifyReport> {
  const startedAt = performance.now();
  const report: VerifyReport = {
    rollup: options.rollup.name,
    periods: 0,
    rows: 0,
    keys: 0,
    driftKeys: 0,
    driftMicrodollars: 0n,
    drifts: [],
    failures: [],
    durationMs: 0,
  };
  if (options.kiloUserId !== undefined) await requireUser(database, options.kiloUserId);
  const listed = options.periods ? [] : await listPeriods(database, options);
  options.onReport?.(report);
  const { empty, others } = await proveEmpty(database, options.rollup, listed, {
    isNoted: options.kiloUserId === undefined,
  });
  report.periods = empty.length;
  const queue = [...(options.periods ?? others)].reverse();
  const total = empty.length + queue.length;
  const newestEmpty = empty.at(-1);
  if (newestEmpty !== undefined) options.onPeriod?.(newestEmpty, empty.length, total);
  const end = new JobEnd(options.signal);
  await runWorkers(workers, end, async () => {
    const verifier = new PeriodVerifier(database, options, report, end.signal);
    for (let period = queue.shift(); period && !end.signal.aborted; period = queue.shift()) {
      await verifier.verify(period);
      options.onPeriod?.(period, report.periods + report.failures.length, total);
    }
  });
  if (report.driftKeys > 0) await fallBack(database, options.rollup, report);
  report.durationMs = performance.now() - startedAt;
  return report;
}

/** @throws LedgerError `unknown_user`: a typing error must not look like a clean proof, or an empty export */
export async function requireUser(
  database: Pick<RollupDatabase, 'query'>,
  kiloUserId: string,
): Promise<void> {
  const [user] = await database.query<{ exists: boolean }>(userExistsStatement(kiloUserId));
  if (user?.exists) return;
  const message = 'there is no user with this id; `user list` names those there are';
  throw new LedgerError('unknown_user', message, { details: { field: 'user' } });
}

/** Reads must not go on using a rollup that was found wrong (I10). */
async function fallBack(
  database: RollupDatabase,
  rollup: Rollup,
  report: VerifyReport,
): Promise<void> {
  if (rollup.name !== 'microdollar_usage_daily') return;
  const reason =
    `fell back: verify found ${report.driftKeys} wrong keys, ` +
    `${report.driftMicrodollars} microdollars in all`;
  await unlessReadOnly(() => fallBackToRaw(database.query, reason));
}

/** Every period that has anything, or is of the window, oldest first. */
async function listPeriods(
  database: RollupDatabase,
  options: VerifyOnOptions,
): Promise<ListedPeriod[]> {
  const [row] = await database.query<{ today: string }>(todayStatement());
  const { from, until } = readRange(options.from, options.until, row?.today ?? '');
  return await database.query(listPeriodsStatement(options.rollup, from, until));
}

/** Periods of a list, in its order, by whether that proved them already; `isNoted`: and notes it. */
export async function proveEmpty(
  database: Pick<RollupDatabase, 'query'>,
  rollup: ProvenRollup,
  listed: readonly ListedPeriod[],
  { isNoted }: { isNoted: boolean },
): Promise<{ empty: string[]; others: string[] }> {
  const namesOf = (isEmpty: boolean) =>
    listed.filter(({ is_empty }) => is_empty === isEmpty).map(({ period }) => period);
  const proven = { empty: namesOf(true), others: namesOf(false) };
  const [first] = listed;
  if (isNoted && first !== undefined && proven.empty.length > 0) {
    const statement = saveEmptyVerifiedStatement(rollup, proven.empty, first.began_at);
    await unlessReadOnly(() => database.query(statement));
  }
  return proven;
}

/** What was found of one period so far. */
interface PeriodSums {
  rows: number;
  cost: bigint;
  driftKeys: number;
  drift: bigint;
}

class PeriodVerifier {
  readonly #database: RollupDatabase;
  readonly #options: VerifyOnOptions;
  readonly #report: VerifyReport;
  readonly #signal: AbortSignal;
  readonly #sizer: ChunkSizer;

  constructor(
    database: RollupDatabase,
    options: VerifyOnOptions,
    report: VerifyReport,
    signal: AbortSignal,
  ) {
    this.#database = database;
    this.#options = options;
    this.#report = report;
    this.#signal = signal;
    this.#sizer = new ChunkSizer(options.limits);
  }

  async verify(period: string): Promise<void> {
    try {
      await this.#verify(period);
    } catch (error) {
      if (!isOfPeriod(error)) throw error;
      this.#report.failures.push(describeFailure(period, error));
    }
  }

  async #verify(period: string): Promise<void> {
    const { rollup, kiloUserId, restMs } = this.#options;
    const sums: PeriodSums = { rows: 0, cost: 0n, driftKeys: 0, drift: 0n };
    const [began] = await this.#patiently(() =>
      this.#database.query<Began>(beginVerifyStatement(rollup, period)),
    );
    for (let userAfter: string | null = null; ; ) {
      if (this.#signal.aborted) return;
      const chunk = await this.#compare(period, userAfter);
      await this.#add(period, sums, chunk);
      userAfter = chunk.userUntil;
      if (userAfter === null) break;
      if (restMs) await pause(restMs, this.#signal);
    }
    this.#report.periods++;
    if (kiloUserId !== undefined) return;
    await this.#patiently(() => this.#save(period, sums, began));
  }

  async #compare(period: string, userAfter: string | null): Promise<ComparedChunk> {
    const { rollup, kiloUserId } = this.#options;
    return await this.#patiently(() =>
      kiloUserId === undefined
        ? compareNext(this.#database, rollup, this.#sizer, { period, userAfter, build: false })
        : compareUser(this.#database, rollup, this.#sizer, { period, kiloUserId }),
    );
  }

  async #add(period: string, sums: PeriodSums, chunk: ComparedChunk): Promise<void> {
    sums.rows += chunk.rawRows;
    sums.cost += chunk.rawCost;
    sums.driftKeys += chunk.wrong;
    sums.drift += chunk.wrongCost;
    const report = this.#report;
    report.rows += chunk.rawRows;
    report.keys += chunk.keys;
    report.driftKeys += chunk.wrong;
    report.driftMicrodollars += chunk.wrongCost;
    for (const finding of chunk.findings) {
      if (report.drifts.length >= MAX_DRIFTS && !this.#makeRoom(finding.fits)) break;
      report.drifts.push(
        await this.#patiently(() =>
          explain(this.#database.query, this.#options.rollup, period, finding),
        ),
      );
    }
  }

  /** Keys that no repair helps make room for those that one does. */
  #makeRoom(forFitting: boolean): boolean {
    const at = forFitting ? this.#report.drifts.findIndex((drift) => !drift.fits) : -1;
    if (at >= 0) this.#report.drifts.splice(at, 1);
    return at >= 0;
  }

  /** As of when the verification began: what came later is not proven by it. */
  async #save(period: string, sums: PeriodSums, began: Began | undefined): Promise<void> {
    await unlessReadOnly(() =>
      this.#database.query(
        saveVerifiedStatement(this.#options.rollup, {
          period,
          rawRows: sums.rows,
          rawCost: String(sums.cost),
          driftKeys: sums.driftKeys,
          drift: String(sums.drift),
          began,
        }),
      ),
    );
  }

  #patiently<T>(run: () => Promise<T>): Promise<T> {
    return whileAway(run, tellWaiting(this.#options.onNotice), this.#signal);
  }
}

/** Verification may run on a replica or as a reader: then nothing is noted. */
export async function unlessReadOnly(run: () => Promise<unknown>): Promise<void> {
  try {
    await run();
  } catch (error) {
    if (!isReadOnlyRefusal(error)) throw error;
  }
}
