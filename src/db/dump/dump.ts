import { createHash } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { open, readdir, rm } from 'node:fs/promises';
import { PassThrough } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGzip } from 'node:zlib';
import type pg from 'pg';
import { to as copyTo } from 'pg-copy-streams';
import { makeDirectories, removeEmptyDirs } from '../../directories.js';
import { diskFault } from '../../diskFaults.js';
import { LedgerError } from '../../errors.js';
import { LEDGER_NAMESPACE } from '../ledgerSchema.js';
import {
  assertMigrated,
  readJournal,
  readWantedSchema,
  type WantedSchema,
} from '../migrate/journal.js';
import type { TableShape } from '../migrate/shape.js';
import { withoutTimeLimit } from '../transaction.js';
import { type FoundColumn, type FoundTable, SEQUENCES, TABLES } from './catalog.sql.js';
import {
  type DumpedSequence,
  type DumpedTable,
  manifestFile,
  tableFile,
  type WiderColumns,
  writeManifest,
} from './manifest.js';

export interface DumpOptions {
  /** Made, or empty. */
  directory: string;
  /** Once the directory is there, before anything is in it. */
  onDirectory?: (() => void) | undefined;
  /** After each table. */
  onTable?: ((table: DumpedTable, done: number, total: number) => void) | undefined;
}

export interface DumpReport {
  tables: DumpedTable[];
  rows: number;
  /** Columns of other programs on the ledger's tables: not in the dump. */
  leftOut: string[];
}

/**
 * Writes the ledger's tables to files, from one snapshot, beside writers: a dump where no PostgreSQL
 * client is installed. Tables and columns of other programs are not in it. Of a dump that fails nothing
 * stays on the disk; what another one wrote there does.
 * @throws LedgerError `invalid_request` for the directory, `unavailable` for a full disk or a database
 *   that is not up to date
 */
export async function dumpLedger(
  client: pg.Client,
  { directory, onDirectory, onTable }: DumpOptions,
): Promise<DumpReport> {
  await assertMigrated(client);
  const firstMade = await prepareDirectory(directory);
  onDirectory?.();
  const wanted = readWantedSchema().tables.filter((table) => table.kind === 'r');
  const made: string[] = [];
  try {
    return await dumpTables(client, { directory, made }, wanted, onTable);
  } catch (error) {
    // What cannot be removed either is told of by the failure itself.
    for (const file of made) await rm(file, { force: true }).catch(() => {});
    if (firstMade !== undefined) removeEmptyDirs(directory, firstMade);
    throw error;
  }
}

interface DumpPlace {
  directory: string;
  /** Files of this dump. */
  made: string[];
}

/** @throws the system's EEXIST where another dump, which found the directory empty too, was first */
async function makeFile({ made }: DumpPlace, file: string): Promise<void> {
  const handle = await open(file, 'wx', 0o600);
  made.push(file);
  await handle.close();
}

async function dumpTables(
  client: pg.Client,
  place: DumpPlace,
  wanted: WantedSchema['tables'],
  onTable: DumpOptions['onTable'],
): Promise<DumpReport> {
  const { directory } = place;
  const names = wanted.map((table) => table.name);
  const locked = names.map((name) => client.escapeIdentifier(name)).join(', ');
  // Before the snapshot, which would not show rows of a partition that is dropped, or a table that is
  // written anew, after it. As text that any session reads as it was, whatever the role or database sets.
  await client.query(`begin isolation level repeatable read, read only; ${await withoutTimeLimit(client)};
    lock table ${locked} in access share mode;
    set local datestyle = iso; set local intervalstyle = postgres; set local extra_float_digits = 1`);
  const found = await client.query<FoundTable>(TABLES, [names]);
  const tables: DumpedTable[] = [];
  const leftOut: string[] = [];
  for (const { name, columns, isPartitioned } of found.rows) {
    const made = wanted.find((table) => table.name === name)?.columns ?? [];
    const isOwn = (column: FoundColumn) => made.some((each) => each.name === column.name);
    leftOut.push(...columns.filter((each) => !isOwn(each)).map((each) => `${name}.${each.name}`));
    const own = columns.filter(isOwn);
    const table = await dumpTable(
      client,
      place,
      name,
      own.map((column) => column.name),
      isPartitioned,
    );
    tables.push({ ...table, ...widerThan(made, own) });
    onTable?.(table, tables.length, found.rows.length);
  }
  const sequences = await readSequences(client, names);
  const { rows } = await client.query<{ database: string; schema: string; version: string }>(
    `select current_database() as database,
      (select nspname from pg_namespace where oid = ${LEDGER_NAMESPACE}) as schema,
      current_setting('server_version') as version`,
  );
  await client.query('commit');
  await onFile(directory, async () => {
    await makeFile(place, manifestFile(directory));
    await writeManifest(directory, {
      written_at: new Date().toISOString(),
      database: rows[0]?.database ?? '',
      schema: rows[0]?.schema ?? '',
      server_version: rows[0]?.version ?? '',
      migrations: readJournal().map((migration) => migration.name),
      tables,
      sequences,
    });
  });
  return { tables, rows: tables.reduce((sum, table) => sum + table.rows, 0), leftOut };
}

/** What adopting leaves as it is, and a restore has to make room for. */
function widerThan(
  made: TableShape['columns'],
  found: readonly FoundColumn[],
): { wider?: WiderColumns } {
  const namesOf = (
    isWider: (column: FoundColumn, wanted: TableShape['columns'][number]) => boolean,
  ) =>
    found
      .filter((column) => made.some((each) => each.name === column.name && isWider(column, each)))
      .map(({ name }) => name)
      .sort();
  const nullable = namesOf((column, wanted) => !column.isNotNull && wanted.isNotNull);
  const bigint = namesOf((column, wanted) => column.type === 'bigint' && wanted.type === 'integer');
  return nullable.length + bigint.length === 0 ? {} : { wider: { nullable, bigint } };
}

/** @returns the first directory that was made */
async function prepareDirectory(directory: string): Promise<string | undefined> {
  const { made, names } = await onFile(directory, async () => ({
    made: makeDirectories(directory, 0o700),
    names: await readdir(directory),
  }));
  if (names.length === 0) return made;
  throw new LedgerError('invalid_request', `${directory} is not empty; name a new directory`, {
    details: { field: 'out' },
  });
}

async function dumpTable(
  client: pg.Client,
  place: DumpPlace,
  name: string,
  columns: readonly string[],
  isPartitioned: boolean,
): Promise<DumpedTable> {
  const list = columns.map((column) => client.escapeIdentifier(column)).join(', ');
  const table = client.escapeIdentifier(name);
  // Only what a query reads is copied of a partitioned table.
  const source = isPartitioned ? `(select ${list} from ${table})` : `${table} (${list})`;
  const file = tableFile(place.directory, name);
  await onFile(place.directory, () => makeFile(place, file));
  const copy = client.query(copyTo(`copy ${source} to stdout`));
  const hash = createHash('sha256');
  const digested = new PassThrough();
  digested.on('data', (chunk: Buffer) => hash.update(chunk));
  await onFile(place.directory, () =>
    pipeline(
      copy,
      digested,
      createGzip({ level: 4 }),
      createWriteStream(file, { flags: 'r+', flush: true }),
    ),
  );
  return { name, columns: [...columns], rows: copy.rowCount ?? 0, sha256: hash.digest('hex') };
}

async function readSequences(
  client: pg.Client,
  names: readonly string[],
): Promise<DumpedSequence[]> {
  const found = await client.query<{ table: string; column: string; sequence: string }>(SEQUENCES, [
    names,
  ]);
  const sequences: DumpedSequence[] = [];
  for (const { table, column, sequence } of found.rows) {
    const { rows } = await client.query<{ last_value: string; is_called: boolean }>(
      `select last_value::text, is_called from ${sequence}`,
    );
    const [state] = rows;
    if (state === undefined) continue;
    sequences.push({ table, column, lastValue: state.last_value, isCalled: state.is_called });
  }
  return sequences;
}

/** @throws LedgerError `unavailable` for the disk, `invalid_request` for the path */
async function onFile<T>(directory: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    const { code, syscall } = error as NodeJS.ErrnoException;
    if (error instanceof LedgerError || syscall === undefined) throw error;
    throw cannotWrite(directory, code ?? syscall, error);
  }
}

export function cannotWrite(directory: string, code: string, cause?: unknown): LedgerError {
  const fault = diskFault(code);
  const remedy = fault === null ? '' : `; ${fault}: name a directory on another, or make room`;
  return new LedgerError(
    fault === null ? 'invalid_request' : 'unavailable',
    `cannot write to ${directory} (${code}); nothing of the dump is kept${remedy}`,
    { details: { field: 'out', system_error: code }, cause },
  );
}
