import type pg from 'pg';
import { LedgerError } from '../../errors.js';
import { DAILY_ROLLUP } from '../../schema/rollups.js';
import {
  openRollupDatabase,
  type RollupDatabase,
  requireWritable,
  whileAway,
} from '../database.js';
import { readDay } from '../days.js';
import { verifyOn } from '../verify.js';
import { DayArchiver, type DayCounts } from './archiveDay.js';
import { isDraft } from './fileFormat.js';
import { type ArchiveFileSystem, nodeArchiveFileSystem, onDisk } from './fileSystem.js';
import { raiseHorizon, readHorizon, waitForOlderTransactions } from './horizon.js';
import { findBlockers, makePlan, requireNoBlockers } from './plan.js';
import { markArchivedStatement } from './plan.sql.js';
import { withArchiveSession } from './session.js';
import type { ArchiveOptions, ArchivePlan, ArchiveReport } from './types.js';

const DEFAULT_WAIT_MS = 60_000;
const PENDING_POLL_MS = 200;
/** Rounds over a day whose raw rows do not come to an end: a program writes below the horizon. */
const MAX_ROUNDS = 3;
const HORIZON_STAYS = '. The horizon is raised already: events below it are refused from now on';

/**
 * Writes raw usage of proven days to files and deletes it; no reported amount changes (I2, I5, I11;
 * docs/adr/0006).
 *
 *   plan: every day until D proven, nothing in the way -> raise the horizon, committed -> wait for
 *   every transaction that began before -> drain pending, look once more -> each day, oldest first:
 *   verify -> draft -> read back -> name -> move its rows, chunk by chunk -> ... -> mark archived
 *
 * Killed at any moment, a second run goes on: what was raised stays, drafts are thrown away, the
 * rows of a named file that are still in the table are moved first.
 * @throws LedgerError `invalid_request`, `unproven_window`, `unavailable`, `internal`
 */
export async function archiveUsage(options: ArchiveOptions): Promise<ArchiveReport> {
  readDay('until', options.until);
  const database = openRollupDatabase(options.url, 3);
  try {
    await requireWritable(database.query);
    return await new Archive(database, options).run();
  } finally {
    await database.close();
  }
}

class Archive {
  readonly #database: RollupDatabase;
  readonly #options: ArchiveOptions;
  readonly #fileSystem: ArchiveFileSystem;
  readonly #waitMs: number;
  readonly #counts: DayCounts = {
    files: 0,
    filesTakenUp: 0,
    rows: 0,
    costMicrodollars: 0n,
    longestTransactionMs: 0,
  };
  readonly #archivedDays = new Set<string>();
  /** Once nobody can insert below a horizon, that stays so. */
  #isFenced = false;

  constructor(database: RollupDatabase, options: ArchiveOptions) {
    this.#database = database;
    this.#options = options;
    this.#fileSystem = options.fileSystem ?? nodeArchiveFileSystem;
    this.#waitMs = options.waitMs ?? DEFAULT_WAIT_MS;
  }

  async run(): Promise<ArchiveReport> {
    const startedAt = performance.now();
    await whileAway(
      () => withArchiveSession(this.#database, this.#waitMs, (client) => this.#pass(client)),
      (reason) => this.#notice(`waiting for the database: ${reason}`),
    );
    const days = [...this.#archivedDays].sort();
    return {
      from: days[0] ?? null,
      until: this.#options.until,
      horizon: await readHorizon(this.#database.query),
      days: days.length,
      ...this.#counts,
      durationMs: performance.now() - startedAt,
    };
  }

  /** Everything; may begin again after the connection was lost. */
  async #pass(client: pg.PoolClient): Promise<void> {
    const plan = await makePlan(this.#database.query, this.#options.until);
    if (!this.#isFenced) {
      // Pending rows are drained below: a live server always has some.
      requireNoBlockers(plan.blockers.filter((blocker) => blocker.kind !== 'pending'));
    }
    if (plan.days.length === 0) return;
    await this.#prepareDirectory();
    await this.#fence(plan);
    await this.#settle();
    const rowsExpected = plan.days.reduce((sum, day) => sum + (day.rawRows ?? 0), 0);
    const daysBefore = this.#archivedDays.size;
    for (const { day } of plan.days) {
      if (this.#options.signal?.aborted) return;
      const show = () =>
        this.#options.onProgress?.({
          day,
          daysDone: this.#archivedDays.size,
          daysTotal: plan.days.length + daysBefore,
          rowsDone: this.#counts.rows,
          rowsExpected,
        });
      await this.#archiveDay(client, day, plan.horizon, show);
      show();
    }
  }

  async #prepareDirectory(): Promise<void> {
    const { directory } = this.#options;
    await onDisk(directory, async () => {
      await this.#fileSystem.makeDirectory(directory);
      const probe = `${directory}/microdollar_usage-${process.pid}-probe.draft`;
      await this.#fileSystem.remove(probe);
      await (await this.#fileSystem.create(probe)).close();
      for (const name of await this.#fileSystem.list(directory)) {
        if (isDraft(name)) await this.#fileSystem.remove(`${directory}/${name}`);
      }
    });
  }

  async #fence(plan: ArchivePlan): Promise<void> {
    if (this.#isFenced) return;
    await raiseHorizon(this.#database.query, plan.horizon);
    this.#options.onStep?.('horizon raised');
    const { signal } = this.#options;
    await waitForOlderTransactions(this.#database.query, {
      waitMs: this.#waitMs,
      onNotice: (message) => this.#notice(message),
      ...(signal === undefined ? {} : { signal }),
    });
    this.#isFenced = true;
    this.#options.onStep?.('fenced');
  }

  /** What came in between the plan and the fence: late events, some still pending. */
  async #settle(): Promise<void> {
    const deadlineMs = performance.now() + this.#waitMs;
    for (;;) {
      const blockers = await findBlockers(this.#database.query, this.#options.until);
      const others = blockers.filter((blocker) => blocker.kind !== 'pending');
      requireNoBlockers(others, HORIZON_STAYS);
      if (blockers.length === 0) return;
      if (performance.now() > deadlineMs || this.#options.signal?.aborted) {
        requireNoBlockers(blockers, HORIZON_STAYS);
      }
      await this.#options.fold?.();
      await new Promise((resolve) => setTimeout(resolve, PENDING_POLL_MS));
    }
  }

  async #archiveDay(
    client: pg.PoolClient,
    day: string,
    horizon: string,
    onMoved: () => void,
  ): Promise<void> {
    await this.#prove(day);
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
    throw new LedgerError(
      'unavailable',
      `raw rows of ${day} keep coming: a program that does not know the ledger writes below the ` +
        'archive horizon; stop it and run `verify`',
      { details: { day } },
    );
  }

  /** Once more, now that no event can be added: the last look before rows are deleted. */
  async #prove(day: string): Promise<void> {
    const { signal } = this.#options;
    const report = await verifyOn(
      this.#database,
      {
        rollup: DAILY_ROLLUP,
        from: day,
        until: day,
        onNotice: (message) => this.#notice(message),
        ...(signal === undefined ? {} : { signal }),
      },
      1,
    );
    if (report.driftKeys === 0) return;
    throw new LedgerError(
      'unproven_window',
      `verification of ${day} found ${report.driftKeys} wrong keys; nothing of it was deleted. Run ` +
        `\`repair --from ${day} --until ${day}\` and the archive again`,
      { details: { unproven_days: [day], drift_keys: report.driftKeys } },
    );
  }

  #notice(message: string): void {
    this.#options.onNotice?.(message);
  }
}
