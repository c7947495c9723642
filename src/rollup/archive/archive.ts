import type pg from 'pg';
import { GrantExpirer } from '../../accounts/grants/expirer.js';
import { raiseAlerts } from '../../alerts/raise.js';
import { BudgetFolder } from '../../budgets/folder.js';
import { DimensionFolder } from '../../counter/dimensionFolder.js';
import { Settler } from '../../counter/settler.js';
import { isDay, readDay } from '../../days.js';
import { directoriesOfNames } from '../../directories.js';
import { LedgerError } from '../../errors.js';
import { DAILY_ROLLUP } from '../../schema/rollups.js';
import {
  ORGANIZATION_SCOPE,
  type PayerScope,
  scopeNamed,
  USER_SCOPE,
} from '../../schema/unsettled.js';
import {
  openRollupDatabase,
  type RollupDatabase,
  requireWritable,
  tellWaiting,
  whileAway,
} from '../database.js';
import { freezeDay } from '../dimensions/prove.js';
import { describeFailure, isOfPeriod } from '../periodFailure.js';
import { verifyOn } from '../verify.js';
import { DayArchiver, type DayCounts } from './archiveDay.js';
import { dropPastMonths } from './dropPastMonths.js';
import { isDraft } from './fileFormat.js';
import { type ArchiveFileSystem, nodeArchiveFileSystem, onDisk } from './fileSystem.js';
import { raiseHorizon, readHorizon, waitForOlderTransactions } from './horizon.js';
import { findHoldersStatement, type HolderRow } from './moveRows.sql.js';
import { describeLeftOut, findBlockers, makePlan, requireNoBlockers, toFailures } from './plan.js';
import { markArchivedStatement } from './plan.sql.js';
import type { ArchivedRow } from './readFile.js';
import { withArchiveSession } from './session.js';
import type { ArchiveOptions, ArchivePlan, ArchiveReport } from './types.js';

/** The lock and its moves, the reader, the proof of the next day by two, looks at the load. */
const CONNECTIONS = 6;
const DEFAULT_WAIT_MS = 60_000;
/** Rounds over a day whose raw rows do not come to an end: a program writes below the horizon. */
const MAX_ROUNDS = 3;
const HORIZON_STAYS = '. The horizon is raised already: events below it are refused from now on';

/**
 * Writes raw usage of proven days to files and deletes it; no reported amount changes (I2, I5, I11;
 * docs/adr/0006).
 *
 *   plan: every day until D verified, no request in flight -> raise the horizon, committed -> wait
 *   for every transaction that began before -> look once more -> each day, oldest first: verify ->
 *   draft -> read back -> name -> move its settled rows, chunk by chunk -> ... -> mark archived; the next
 *   day is verified meanwhile
 *
 * A day that cannot be archived is named and left; the others are archived all the same (I12).
 * Killed at any moment, a second run goes on: what was raised stays, drafts are thrown away, the
 * rows of a named file that are still in the table are moved first.
 * @throws LedgerError `invalid_request`, `unproven_window`, `unavailable`, `internal`; of a day's
 *   own failures the first, when no day was archived
 */
export async function archiveUsage(options: ArchiveOptions): Promise<ArchiveReport> {
  readDay('until', options.until);
  const database = openRollupDatabase(options.url, CONNECTIONS, options);
  try {
    await requireWritable(database.query);
    return await new Archive(database, options).run();
  } finally {
    await database.close();
  }
}

/** Of a day: begun before it is waited for. */
interface Proof {
  /** @throws what the proof throws */
  ended: Promise<void>;
  /** When it has ended, however. */
  over: Promise<void>;
}

class Archive {
  readonly #database: RollupDatabase;
  readonly #options: ArchiveOptions;
  readonly #fileSystem: ArchiveFileSystem;
  readonly #waitMs: number;
  readonly #settler: Settler;
  readonly #folder: DimensionFolder;
  readonly #budgets: BudgetFolder;
  readonly #expirer: GrantExpirer;
  /** Payers whose rows have stayed before, though they were settled. */
  readonly #waitedFor = new Set<string>();
  readonly #counts: DayCounts = {
    files: 0,
    filesTakenUp: 0,
    rows: 0,
    costMicrodollars: 0n,
    longestTransactionMs: 0,
  };
  readonly #archivedDays = new Set<string>();
  /** Why a day was left. */
  readonly #failures = new Map<string, { message: string; error: unknown }>();
  #leftOut: string[] = [];
  /** Nobody can insert below this horizon any more. */
  #fencedHorizon: string | null = null;

  constructor(database: RollupDatabase, options: ArchiveOptions) {
    this.#database = database;
    this.#options = options;
    this.#fileSystem = options.fileSystem ?? nodeArchiveFileSystem;
    this.#waitMs = options.waitMs ?? DEFAULT_WAIT_MS;
    this.#settler = new Settler({ query: database.query });
    this.#folder = new DimensionFolder({ query: database.query });
    const { pool } = database;
    this.#budgets = new BudgetFolder({
      pool,
      named: false,
      onSettled: async (...folded) => void (await raiseAlerts(...folded)),
    });
    this.#expirer = new GrantExpirer({
      pool,
      named: false,
      withdrawals: this.#budgets,
      onError: (error) => {
        throw error;
      },
    });
  }

  async run(): Promise<ArchiveReport> {
    const startedAt = performance.now();
    await whileAway(
      () =>
        withArchiveSession(this.#database, this.#waitMs, async (client) => {
          await this.#pass(client);
          await dropPastMonths(client, await readHorizon(this.#database.query), this.#options);
        }),
      tellWaiting(this.#options.onNotice),
      this.#options.signal,
    );
    const days = [...this.#archivedDays].sort();
    const failures = [...this.#failures].sort(([a], [b]) => (a < b ? -1 : 1));
    const [failed] = failures;
    if (days.length === 0 && failed) throw failed[1].error;
    return {
      from: days[0] ?? null,
      until: this.#options.until,
      horizon: await readHorizon(this.#database.query),
      days: days.length,
      ...this.#counts,
      durationMs: performance.now() - startedAt,
      failures: failures.map(([period, { message }]) => ({ period, message })),
      leftOut: this.#leftOut,
    };
  }

  /** Everything; may begin again after the connection was lost. */
  async #pass(client: pg.PoolClient): Promise<void> {
    const plan = await makePlan(this.#database.query, this.#options.until);
    // A primary that was promoted meanwhile may not have the horizon.
    const isFenced =
      this.#fencedHorizon === plan.horizon &&
      ((await readHorizon(this.#database.query)) ?? '') >= plan.horizon;
    const isKept = plan.blockers.length > plan.left.length;
    if (!isFenced && isKept) requireNoBlockers(plan.blockers);
    if (plan.days.length === 0) {
      // With nothing else to do, what is in the way of a day is in the way of the archive.
      if (this.#archivedDays.size === 0) requireNoBlockers(plan.left);
      return;
    }
    for (const { period, message } of toFailures(plan.left)) this.#leave(period, message);
    this.#leftOut = plan.leftOut;
    if (!isFenced && plan.leftOut.length > 0) {
      this.#options.onNotice?.(describeLeftOut(plan.leftOut));
    }
    await this.#prepareDirectory();
    if (!isFenced) await this.#fence(plan);
    await this.#archiveDays(client, plan);
  }

  async #archiveDays(client: pg.PoolClient, plan: ArchivePlan): Promise<void> {
    const daysBefore = this.#archivedDays.size;
    const rowsExpected = plan.days.reduce((sum, day) => sum + (day.rawRows ?? 0), 0);
    const late = await this.#findLate();
    for (const { day } of plan.days) {
      const reason = late.get(day);
      if (reason !== undefined) this.#leave(day, reason);
    }
    const days = plan.days.map(({ day }) => day).filter((day) => !late.has(day));
    let proof: Proof | null = null;
    for (const [index, day] of days.entries()) {
      if (this.#options.signal?.aborted) break;
      const next = days[index + 1];
      const show = () =>
        this.#options.onProgress?.({
          day,
          daysDone: this.#archivedDays.size,
          daysTotal: plan.days.length + daysBefore,
          rowsDone: this.#counts.rows,
          rowsExpected,
        });
      try {
        const proven: Proof = proof ?? this.#begin(day);
        proof = null;
        await proven.ended;
        // Of other rows than this day's, which are written and moved meanwhile; it freezes the next day.
        if (next !== undefined) proof = this.#begin(next);
        await this.#archiveDay(client, day, plan.horizon, show);
        this.#failures.delete(day);
      } catch (error) {
        if (!isOfDay(error)) {
          await proof?.over;
          throw error;
        }
        this.#leave(day, describeFailure(day, error).message, error);
      }
      show();
    }
    await proof?.over;
  }

  /** Begins the proof of a day; a failure is told to whoever waits for it. */
  #begin(day: string): Proof {
    const ended = this.#prove(day);
    return { ended, over: ended.catch(() => {}) };
  }

  #leave(
    day: string,
    message: string,
    error: unknown = new LedgerError('unproven_window', `cannot archive ${day}: ${message}`, {
      details: { unproven_days: [day] },
    }),
  ): void {
    this.#failures.set(day, { message, error });
  }

  async #prepareDirectory(): Promise<void> {
    const { directory } = this.#options;
    await onDisk(directory, async () => {
      const made = await this.#fileSystem.makeDirectory(directory);
      // A file is not found without the names of the directories that it is in.
      for (const parent of directoriesOfNames(directory, made)) {
        await this.#fileSystem.syncDirectory(parent);
      }
      const probe = `${directory}/microdollar_usage-${process.pid}-probe.draft`;
      await this.#fileSystem.remove(probe);
      await (await this.#fileSystem.create(probe)).close();
      for (const name of await this.#fileSystem.list(directory)) {
        if (isDraft(name)) await this.#fileSystem.remove(`${directory}/${name}`);
      }
    });
  }

  async #fence(plan: ArchivePlan): Promise<void> {
    await raiseHorizon(this.#database.query, plan.horizon);
    this.#options.onStep?.('horizon raised');
    const { signal } = this.#options;
    await waitForOlderTransactions(this.#database.query, {
      waitMs: this.#waitMs,
      onNotice: (message) => this.#options.onNotice?.(message),
      ...(signal === undefined ? {} : { signal }),
    });
    this.#fencedHorizon = plan.horizon;
    this.#options.onStep?.('fenced');
  }

  /** What came in between the plan and the fence, by day. */
  async #findLate(): Promise<Map<string, string>> {
    const late = await findBlockers(this.#database.query, this.#options.until);
    requireNoBlockers(
      late.filter(({ kind }) => kind === 'request_in_flight'),
      HORIZON_STAYS,
    );
    return new Map(toFailures(late).map(({ period, message }) => [period, message]));
  }

  async #archiveDay(
    client: pg.PoolClient,
    day: string,
    horizon: string,
    onMoved: () => void,
  ): Promise<void> {
    const archiver = new DayArchiver({
      client,
      day,
      horizon,
      database: this.#database,
      fileSystem: this.#fileSystem,
      waitMs: this.#waitMs,
      counts: this.#counts,
      options: this.#options,
      onMoved,
      settle: (rows) => this.#settle(rows),
    });
    await archiver.takeUpFiles();
    for (let round = 0; round < MAX_ROUNDS; round++) {
      await archiver.archiveRows();
      if (this.#options.signal?.aborted) return;
      const marked = await this.#database.query(markArchivedStatement(day));
      if (marked.length > 0) {
        this.#archivedDays.add(day);
        this.#options.onStep?.('day archived');
        return;
      }
    }
    throw dayFailure(
      'unavailable',
      day,
      'its raw rows keep coming: a program that does not know the ledger writes below the archive ' +
        'horizon; stop it and run `verify`',
    );
  }

  /** Once more, now that no event can be added: the last look before rows are deleted. */
  async #prove(day: string): Promise<void> {
    if (!isDay(day)) {
      throw dayFailure('invalid_request', day, 'no file can be named after it');
    }
    const { signal, onNotice } = this.#options;
    const report = await verifyOn(
      this.#database,
      { rollup: DAILY_ROLLUP, periods: [day], onNotice, signal },
      1,
    );
    const [failure] = report.failures;
    if (failure) throw dayFailure('unproven_window', day, failure.message);
    if (report.driftKeys === 0) {
      await freezeDay(this.#database, day);
      return;
    }
    throw dayFailure(
      'unproven_window',
      day,
      `verification found ${report.driftKeys} wrong keys; nothing of it was deleted. Run ` +
        `\`repair --from ${day} --until ${day}\` and the archive again`,
      { drift_keys: report.driftKeys },
    );
  }

  /** Payers of rows that no counter has yet; what is held is tried again later. */
  async #settle(rows: readonly ArchivedRow[]): Promise<void> {
    const users = rows.filter((row) => row.organization_id === null);
    const ids = {
      users: [...new Set(users.map((row) => row.kilo_user_id))],
      organizations: [...new Set(rows.flatMap((row) => row.organization_id ?? []))],
    };
    if (ids.users.length > 0) await this.#settler.settle(USER_SCOPE, ids.users);
    if (ids.organizations.length > 0) {
      await this.#settler.settle(ORGANIZATION_SCOPE, ids.organizations);
    }
    await this.#folder.fold(USER_SCOPE, ids.users);
    await this.#folder.fold(ORGANIZATION_SCOPE, ids.organizations);
    for (const id of ids.users) await this.#settlePayer(USER_SCOPE, id);
    for (const id of ids.organizations) await this.#settlePayer(ORGANIZATION_SCOPE, id);
    // Whoever holds by the id of a row, which may be another payer.
    const holders = await this.#database.query<HolderRow>(findHoldersStatement(rows));
    for (const row of holders) {
      await this.#budgets.foldSome(scopeNamed(row.payer_scope), row.payer_id);
    }
  }

  /**
   * Budgets and expiries of a payer. Rows of one without budgets stay while a transaction is open that is
   * older than they are, of whatever database: with budgets they are counted around it.
   */
  async #settlePayer(scope: PayerScope, id: string): Promise<void> {
    const key = `${scope.name}:${id}`;
    const isFolded = (await this.#budgets.foldSome(scope, id)) !== null;
    try {
      if (!isFolded && this.#waitedFor.has(key)) await this.#budgets.open(scope, id);
      await this.#expirer.expirePayer(scope, id);
    } catch (error) {
      if (!isUnknownPayer(error)) throw error;
    }
    this.#waitedFor.add(key);
  }
}

/** Usage of somebody who is not there: nothing counts it yet. */
function isUnknownPayer(error: unknown): boolean {
  if (!(error instanceof LedgerError)) return false;
  return error.code === 'unknown_user' || error.code === 'unknown_organization';
}

function dayFailure(
  code: 'unproven_window' | 'unavailable' | 'invalid_request',
  day: string,
  problem: string,
  details: Record<string, unknown> = {},
): LedgerError {
  const unproven = code === 'unproven_window' ? { unproven_days: [day] } : {};
  return new LedgerError(code, `${day}: ${problem}`, { details: { day, ...unproven, ...details } });
}

/** Whether the day alone is to blame: not the disk, the database, or the archive's own request. */
function isOfDay(error: unknown): boolean {
  if (error instanceof LedgerError) return typeof error.details.day === 'string';
  return isOfPeriod(error);
}
