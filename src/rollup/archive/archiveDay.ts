import { join } from 'node:path';
import type pg from 'pg';
import { LEDGER_NAMESPACE } from '../../db/ledgerSchema.js';
import { LedgerError } from '../../errors.js';
import { pause, type RollupDatabase } from '../database.js';
import { Throttle } from '../throttle.js';
import { DayReader } from './dayReader.js';
import {
  type ArchiveFileName,
  type ArchiveHeader,
  archiveFileName,
  archiveFilesIn,
  FORMAT,
  FORMAT_VERSION,
} from './fileFormat.js';
import { type ArchiveFileSystem, onDisk } from './fileSystem.js';
import { FileWriter } from './fileWriter.js';
import { MoveSizer, moveChunk, openDailyRows } from './moveRows.js';
import { type ArchivedRow, proveFile } from './readFile.js';
import { withReader } from './session.js';
import type { ArchiveOptions, ArchiveReport } from './types.js';
import { nameDraft } from './writeFile.js';

/** So few that a day has several: one is written while the rows of another are moved. */
const ROWS_PER_FILE = 20_000;
const ROWS_PER_TRANSACTION = 2_000;
const HELD_POLL_MS = 250;

/** Sums over all days of a run. */
export type DayCounts = Pick<
  ArchiveReport,
  'files' | 'filesTakenUp' | 'rows' | 'costMicrodollars' | 'longestTransactionMs'
>;

/** Of the ledger that is archived. */
type Place = Required<Pick<ArchiveHeader, 'database' | 'schema'>>;

interface DayContext {
  /** Holds the archive's lock; all deleting happens on it. */
  client: pg.PoolClient;
  day: string;
  horizon: string;
  database: RollupDatabase;
  fileSystem: ArchiveFileSystem;
  waitMs: number;
  counts: DayCounts;
  options: ArchiveOptions;
  onMoved: () => void;
  /** Asks for rows to be settled; what is held stays. */
  settle: (rows: readonly ArchivedRow[]) => Promise<void>;
}

/** Archives one proven day, below the horizon: nobody adds to it. */
export class DayArchiver {
  readonly #context: DayContext;
  readonly #sizer: MoveSizer;
  readonly #throttle: Throttle;

  constructor(context: DayContext) {
    this.#context = context;
    this.#sizer = new MoveSizer(context.options.limits?.rowsPerTransaction ?? ROWS_PER_TRANSACTION);
    this.#throttle = new Throttle(context.database.query, {
      rest: (ms) => pause(ms, context.options.signal),
    });
  }

  /**
   * Files that a killed run left under their names: proven again, from the disk; then the rows that
   * are still in the table are moved. Rows that are gone were moved before.
   */
  async takeUpFiles(): Promise<void> {
    const { fileSystem, counts, options } = this.#context;
    for (const file of await this.#files()) {
      const proven = await proveFile(fileSystem, join(options.directory, file.name), file);
      this.#requireOwn(file, proven.header, await this.#place());
      const rowsBefore = counts.rows;
      await this.#move(proven.rows, null);
      if (counts.rows > rowsBefore) counts.filesTakenUp++;
    }
  }

  /** Writes what is left of the day into new files, and moves their rows. */
  async archiveRows(): Promise<void> {
    const { day, database, fileSystem, counts, options } = this.#context;
    const part = Math.max(0, ...(await this.#files()).map((file) => file.part)) + 1;
    const place = await this.#place();
    await withReader(database, async (client) => {
      const writer = new FileWriter({
        reader: new DayReader(client, day, options.withPersonalData ?? false),
        fileSystem,
        directory: options.directory,
        rowsPerFile: options.limits?.rowsPerFile ?? ROWS_PER_FILE,
        part,
        fileOf: (each) => ({
          file: { name: archiveFileName(day, each), day, part: each },
          header: this.#header(place, each),
        }),
        onStep: (step) => options.onStep?.(step),
      });
      try {
        while (!options.signal?.aborted) {
          const written = await writer.next();
          if (written === null) return;
          writer.begin();
          // Where the lock was lost, another archive may have the day: whoever lost it is not told before.
          await this.#context.client.query('select');
          await nameDraft(fileSystem, options.directory, written.draft, written.file);
          counts.files++;
          options.onStep?.('named');
          await this.#move(written.rows, written.file);
        }
      } finally {
        await writer.close();
      }
    });
  }

  /** @throws LedgerError `invalid_request` */
  #requireOwn(file: ArchiveFileName, header: ArchiveHeader, { database, schema }: Place): void {
    // Files of before do not name their schema.
    if (header.database === database && (header.schema ?? schema) === schema) return;
    const { directory } = this.#context.options;
    const of = header.schema === undefined ? '' : ` (schema ${header.schema})`;
    throw new LedgerError(
      'invalid_request',
      `${directory} holds the archive of database ${header.database}${of}, not of ${database} ` +
        `(schema ${schema}); use another directory`,
      { details: { field: 'out', file: file.name } },
    );
  }

  #header({ database, schema }: Place, part: number): ArchiveHeader {
    const { day, horizon, options } = this.#context;
    return {
      format: FORMAT,
      version: FORMAT_VERSION,
      table: 'microdollar_usage',
      database,
      schema,
      day,
      part,
      personal_data: options.withPersonalData ?? false,
      archive_horizon: horizon,
      written_at: new Date().toISOString(),
    };
  }

  async #files(): Promise<ArchiveFileName[]> {
    const { day, fileSystem, options } = this.#context;
    const names = await onDisk(options.directory, () => fileSystem.list(options.directory));
    return archiveFilesIn(names).filter((file) => file.day === day);
  }

  async #place(): Promise<Place> {
    const { rows } = await this.#context.client.query<Place>(
      `select current_database() as database,
        (select nspname::text from pg_namespace where oid = ${LEDGER_NAMESPACE}) as schema`,
    );
    return rows[0] ?? { database: '', schema: '' };
  }

  /**
   * Moves rows in chunks. What others hold, or is unsettled, is tried again at the end.
   * @param fresh the file, if it was written a moment ago: then no row may be missing
   */
  async #move(rows: readonly ArchivedRow[], fresh: ArchiveFileName | null): Promise<void> {
    const { client, day, counts, options } = this.#context;
    const deadlineMs = performance.now() + this.#context.waitMs;
    let queue = [...rows];
    while (queue.length > 0) {
      const held: ArchivedRow[] = [];
      const unsettled: ArchivedRow[] = [];
      for (let from = 0; from < queue.length && !options.signal?.aborted; ) {
        const part = queue.slice(from, from + this.#sizer.rows);
        const chunk = await this.#throttle.run(() => moveChunk(client, day, part));
        if (chunk === null) {
          if (this.#sizer.shrink()) continue;
          throw tooSlow(day);
        }
        from += part.length;
        if (fresh && chunk.gone.length > 0) {
          throw rowsVanished(fresh, chunk.gone.length);
        }
        this.#sizer.observe(part.length, chunk.durationMs);
        held.push(...chunk.held);
        unsettled.push(...chunk.unsettled);
        counts.rows += chunk.rows;
        counts.costMicrodollars += chunk.costMicrodollars;
        counts.longestTransactionMs = Math.max(counts.longestTransactionMs, chunk.durationMs);
        options.onStep?.('moved');
        this.#context.onMoved();
        if (chunk.unlockedKeys.length > 0) await openDailyRows(client, day, chunk.unlockedKeys);
      }
      if (options.signal?.aborted) return;
      queue = held;
      if (queue.length === 0) return;
      if (performance.now() > deadlineMs) throw stillHeld(day, queue.length, unsettled.length);
      await this.#context.settle(unsettled);
      await pause(HELD_POLL_MS, options.signal);
    }
  }
}

function stillHeld(day: string, rows: number, unsettled: number): LedgerError {
  return new LedgerError(
    'unavailable',
    `${rows} rows of ${day} are held by other sessions or not settled yet (${unsettled}); they are ` +
      'in a file and still in the table. Run `fold`, and the archive again',
    { details: { day, rows, unsettled } },
  );
}

function rowsVanished(file: ArchiveFileName, rows: number): LedgerError {
  return new LedgerError(
    'internal',
    `${rows} raw rows were deleted by somebody else after they were written to ${file.name}; run ` +
      '`verify` before the archive again',
    { details: { file: file.name, day: file.day, rows } },
  );
}

function tooSlow(day: string): LedgerError {
  return new LedgerError(
    'unavailable',
    `a single row of ${day} cannot be moved within a short transaction; look for locks on ` +
      'microdollar_usage',
    { details: { day } },
  );
}
