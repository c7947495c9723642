import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { PassThrough } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGunzip } from 'node:zlib';
import type pg from 'pg';
import { from as copyFrom } from 'pg-copy-streams';
import { LedgerError } from '../../errors.js';
import { LEDGER_NAMESPACE } from '../ledgerSchema.js';
import { runMigrations } from '../migrate/applyMigrations.js';
import { connectToMigrate, explainFailure, underLock } from '../migrate/connection.js';
import { assertUsable, MIGRATIONS_TABLE, readJournal, readTableNames } from '../migrate/journal.js';
import { type MigrateResult, migrate } from '../migrate.js';
import { SEQUENCES, TABLES } from './catalog.sql.js';
import { type DumpedTable, type Manifest, readManifest, tableFile } from './manifest.js';

const LOCK_TIMEOUT_MS = 5_000;
const WAIT_MS = 10_000;

export interface RestoreOptions {
  directory: string;
  /** After each table. */
  onTable?: ((table: DumpedTable, done: number, total: number) => void) | undefined;
}

export interface RestoreReport {
  manifest: Manifest;
  rows: number;
  /** What `migrate` did with it: newer migrations, and positions of this cluster (R6). */
  migrated: MigrateResult;
}

/**
 * Puts a dump into a database that has no table of the ledger yet: schema, rows and sequences in one
 * transaction, so all of it or nothing; then `migrate`, which makes positions be of this cluster.
 * @throws LedgerError `invalid_request` for the dump or the database, `internal` for a damaged file
 */
export async function restoreLedger(
  url: string,
  { directory, onTable }: RestoreOptions,
): Promise<RestoreReport> {
  const manifest = await readManifest(directory);
  requireKnown(manifest);
  const client = await connectToMigrate(url, LOCK_TIMEOUT_MS);
  try {
    await assertUsable(client);
    const rows = await underLock(client, { waitTimeoutMs: WAIT_MS, log: () => {} }, async () => {
      await requireEmpty(client);
      await client.query('begin');
      try {
        await makeTables(client, manifest);
        const count = await fillTables(client, manifest, { directory, onTable });
        await client.query('commit');
        return count;
      } catch (error) {
        await client.query('rollback').catch(() => {});
        throw error;
      }
    });
    await client.query('analyze');
    return { manifest, rows, migrated: await migrate(url) };
  } catch (error) {
    throw explainFailure(error);
  } finally {
    await client.end().catch(() => {});
  }
}

function requireKnown({ migrations }: Manifest): void {
  const known = new Set(readJournal().map((migration) => migration.name));
  const newer = migrations.filter((name) => !known.has(name));
  if (newer.length === 0) return;
  throw new LedgerError(
    'invalid_request',
    `the dump is of a newer version, by ${newer.join(', ')}; restore it with that one`,
    { details: { newer_migrations: newer } },
  );
}

async function requireEmpty(client: pg.Client): Promise<void> {
  const { rows } = await client.query<{ name: string }>(
    `select c.relname as name
    from pg_class as c
    where c.relnamespace = ${LEDGER_NAMESPACE}
      and c.relkind in ('r', 'p', 'v', 'm', 'f')
      and c.relname = any ($1::text[])
    order by 1`,
    [[...readTableNames(), MIGRATIONS_TABLE]],
  );
  if (rows.length === 0) return;
  throw new LedgerError(
    'invalid_request',
    `the database has ${rows[0]?.name} already: restore into one that is new, such as that of ` +
      'another MICRODOLLAR_DATA_DIR',
    { details: { tables: rows.map(({ name }) => name) } },
  );
}

/** As the version that wrote the dump made them. */
async function makeTables(client: pg.Client, { migrations }: Manifest): Promise<void> {
  const wanted = readJournal().filter(({ name }) => migrations.includes(name));
  await runMigrations(client, wanted);
}

async function fillTables(
  client: pg.Client,
  manifest: Manifest,
  { directory, onTable }: RestoreOptions,
): Promise<number> {
  const names = manifest.tables.map((table) => table.name);
  const quoted = names.map((name) => client.escapeIdentifier(name));
  // Migrations fill some; and what triggers would do, the rows of the dump have done to them.
  await client.query(`truncate ${quoted.join(', ')}`);
  for (const name of quoted) await client.query(`alter table ${name} disable trigger user`);
  let rows = 0;
  for (const [index, table] of (await inOrder(client, manifest.tables)).entries()) {
    rows += await fillTable(client, directory, table);
    onTable?.(table, index + 1, names.length);
  }
  for (const name of quoted) await client.query(`alter table ${name} enable trigger user`);
  await setSequences(client, manifest);
  return rows;
}

/** Tables that others refer to come first. */
async function inOrder(
  client: pg.Client,
  tables: readonly DumpedTable[],
): Promise<readonly DumpedTable[]> {
  const { rows } = await client.query<{ name: string }>(TABLES, [tables.map(({ name }) => name)]);
  const order = rows.map(({ name }) => name);
  return tables.toSorted((a, b) => order.indexOf(a.name) - order.indexOf(b.name));
}

async function fillTable(
  client: pg.Client,
  directory: string,
  { name, columns, rows, sha256 }: DumpedTable,
): Promise<number> {
  const list = columns.map((column) => client.escapeIdentifier(column)).join(', ');
  const copy = client.query(copyFrom(`copy ${client.escapeIdentifier(name)} (${list}) from stdin`));
  const hash = createHash('sha256');
  const digested = new PassThrough();
  digested.on('data', (chunk: Buffer) => hash.update(chunk));
  try {
    await pipeline(createReadStream(tableFile(directory, name)), createGunzip(), digested, copy);
  } catch (error) {
    const { code, syscall } = error as NodeJS.ErrnoException;
    if (syscall === undefined && !code?.startsWith('Z_')) throw error;
    throw damaged(name, `it cannot be read (${code})`, error);
  }
  if (hash.digest('hex') !== sha256) throw damaged(name, 'its SHA-256 differs');
  if (copy.rowCount !== rows) throw damaged(name, `it has ${copy.rowCount} rows, not ${rows}`);
  return rows;
}

function damaged(table: string, problem: string, cause?: unknown): LedgerError {
  return new LedgerError(
    'internal',
    `the file of ${table} is damaged: ${problem}; nothing was restored`,
    { details: { table }, cause },
  );
}

async function setSequences(client: pg.Client, { tables, sequences }: Manifest): Promise<void> {
  const found = await client.query<{ table: string; column: string; sequence: string }>(SEQUENCES, [
    tables.map((table) => table.name),
  ]);
  for (const { table, column, lastValue, isCalled } of sequences) {
    const own = found.rows.find((each) => each.table === table && each.column === column);
    if (own === undefined) continue;
    await client.query('select setval($1::regclass, $2::bigint, $3)', [
      own.sequence,
      lastValue,
      isCalled,
    ]);
  }
}
