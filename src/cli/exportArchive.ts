import { readdir } from 'node:fs/promises';
import type pg from 'pg';
import { LedgerError } from '../errors.js';
import { type ArchivedEvent, readArchive } from '../rollup/archive/readFile.js';
import {
  type ArchivedDayRow,
  archivedDaysStatement,
  rowsInTableStatement,
} from './exportArchive.sql.js';
import type { ExportRow } from './exportFormats.js';
import { type ExportFilter, USAGE_SHAPE } from './exportRows.sql.js';

const PAGE_ROWS = 1000;

/**
 * Also where no day of the export is archived: a typing error must not go unseen.
 * @throws LedgerError `invalid_request`
 */
export async function requireArchive(directory: string): Promise<void> {
  try {
    await readdir(directory);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new LedgerError(
      'invalid_request',
      `--archive: cannot read the directory ${directory} (${code})`,
      { details: { field: 'archive', system_error: code }, cause: error },
    );
  }
}

/** Archived days of an export, and what their files gave of it. */
export class ArchivedDays {
  readonly #client: pg.Client;
  readonly #filter: ExportFilter;
  readonly #left: Map<string, { rows: bigint; cost: bigint }>;

  private constructor(client: pg.Client, filter: ExportFilter, days: readonly ArchivedDayRow[]) {
    this.#client = client;
    this.#filter = filter;
    this.#left = new Map(
      days.map(({ day, rows, cost }) => [day, { rows: BigInt(rows), cost: BigInt(cost) }]),
    );
  }

  /** In the snapshot of the client's transaction. */
  static async find(client: pg.Client, filter: ExportFilter): Promise<ArchivedDays> {
    const { text, values } = archivedDaysStatement(filter);
    const { rows } = await client.query<ArchivedDayRow>(text, values);
    return new ArchivedDays(client, filter, rows);
  }

  /** Days whose archived rows were not read, or not all of them; oldest first. */
  get missing(): string[] {
    return [...this.#left].filter(([, { rows, cost }]) => rows !== 0n || cost !== 0n).map(toDay);
  }

  /** Their rows, as files give them. @throws LedgerError for a directory or file that is damaged */
  async *pages(directory: string): AsyncGenerator<ExportRow[]> {
    const days = [...this.#left].map(toDay);
    const [from] = days;
    const until = days.at(-1);
    if (from === undefined || until === undefined) return;
    let page: ArchivedEvent[] = [];
    for await (const event of readArchive(directory, { from, until })) {
      if (!this.#isWanted(event)) continue;
      page.push(event);
      if (page.length < PAGE_ROWS) continue;
      yield await this.#take(page);
      page = [];
    }
    if (page.length > 0) yield await this.#take(page);
  }

  #isWanted(event: ArchivedEvent): boolean {
    const { kiloUserId, organizationId } = this.#filter;
    if (kiloUserId !== null && event.kilo_user_id !== kiloUserId) return false;
    if (organizationId !== null && event.organization_id !== organizationId) return false;
    return this.#left.has(event.created_at.slice(0, 10));
  }

  /** An archive that was ended midway leaves rows in its files and in the table. */
  async #take(events: readonly ArchivedEvent[]): Promise<ExportRow[]> {
    const { text, values } = rowsInTableStatement(events.map((event) => event.id));
    const { rows } = await this.#client.query<{ id: string }>(text, values);
    const inTable = new Set(rows.map((row) => row.id));
    const own = events.filter((event) => !inTable.has(event.id));
    for (const event of own) {
      const left = this.#left.get(event.created_at.slice(0, 10));
      if (left === undefined) continue;
      left.rows -= 1n;
      left.cost -= BigInt(event.cost);
    }
    return own.map(toExportRow);
  }
}

const toDay = ([day]: readonly [string, unknown]): string => day;

/** What people are told by (`end_user`, `session_id`) is there only where the archive kept it. */
function toExportRow(event: ArchivedEvent): ExportRow {
  const { metadata } = event;
  const row: Record<string, string | boolean | null> = {};
  for (const { name } of USAGE_SHAPE.columns) row[name] = toCell(event[name] ?? metadata?.[name]);
  return row;
}

function toCell(value: unknown): string | boolean | null {
  if (value === null || value === undefined) return null;
  if (typeof value === 'boolean') return value;
  return typeof value === 'object' ? JSON.stringify(value) : String(value);
}
