import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { PassThrough } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGunzip } from 'node:zlib';
import type pg from 'pg';
import { from as copyFrom } from 'pg-copy-streams';
import { LedgerError } from '../../errors.js';
import { applicationSuffix, LEDGER_NAMESPACE, schemaOf } from '../ledgerSchema.js';
import { runMigrations } from '../migrate/applyMigrations.js';
import { connectToMigrate, explainFailure, underLock } from '../migrate/connection.js';
import { assertUsable, MIGRATIONS_TABLE, readJournal, readTableNames } from '../migrate/journal.js';
import { type MigrateResult, migrate } from '../migrate.js';
import { IN_NO_VIEW, SEQUENCES, TABLES } from './catalog.sql.js';
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
 * Puts a dump into a database that has no table of the ledger yet, or nobody's rows in them: schema, rows
 * and sequences in one transaction, so all of it or nothing; then `migrate`, which makes positions be
 * of this cluster.
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
      await client.query('begin');
      try {
        await requireEmpty(client, manifest, applicationSuffix(schemaOf(url)));
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

/** What a ledger writes by itself, also where nobody has used anything yet. */
const BOOKKEEPING = [
  'balance_checks',
  'gateway_instances',
  'ledger_settings',
  'rollup_backfill',
  'rollup_coverage',
  'rollup_marks',
  'rollup_starts',
];

/**
 * No table of the ledger, or all of them without anybody's rows: as a look, or a restore that was ended,
 * leaves a new database. In the transaction that restores.
 */
async function requireEmpty(client: pg.Client, manifest: Manifest, suffix: string): Promise<void> {
  const { rows } = await client.query<{ name: string; kind: string }>(
    `select c.relname as name, c.relkind as kind
    from pg_class as c
    where c.relnamespace = ${LEDGER_NAMESPACE}
      and c.relkind in ('r', 'p', 'v', 'm', 'f')
      and c.relname = any ($1::text[])
    order by 1`,
    [[...readTableNames(), MIGRATIONS_TABLE]],
  );
  await requireOwn(client, manifest);
  if (rows.length === 0) return;
  const applied = await readApplied(client);
  const unknown = applied.filter((name) => !manifest.migrations.includes(name));
  const names = rows.filter(({ kind }) => kind === 'r' || kind === 'p').map(({ name }) => name);
  if (applied.length === 0) throw notEmpty('tables of another program', names);
  if (unknown.length > 0) throw notEmpty(`a ledger that is newer than the dump`, unknown);
  const used = names.filter((name) => name !== MIGRATIONS_TABLE && !BOOKKEEPING.includes(name));
  await requireNoRows(client, used);
  await requireNoLedger(client, suffix);
  // Again under locks: what came since would be truncated unseen.
  const list = used.map((name) => client.escapeIdentifier(name)).join(', ');
  await client.query(`lock table ${list} in access exclusive mode`);
  await requireNoRows(client, used);
}

/** What another program has beside the ledger would be truncated. */
async function requireOwn(client: pg.Client, { tables }: Manifest): Promise<void> {
  const own = readTableNames();
  const others = tables.map(({ name }) => name).filter((name) => !own.includes(name));
  const { rows } = await client.query<{ name: string }>(
    `select c.relname as name
    from pg_class as c
    where c.relnamespace = ${LEDGER_NAMESPACE}
      and c.relname = any ($1::text[])
    order by 1`,
    [others],
  );
  const [found] = rows;
  if (!found) return;
  throw new LedgerError(
    'invalid_request',
    `the dump names the table ${found.name}, which this database has of another program; ` +
      'nothing was restored',
    { details: { field: 'dir', table: found.name } },
  );
}

async function requireNoRows(client: pg.Client, names: readonly string[]): Promise<void> {
  for (const name of names) {
    const { rows } = await client.query(`select from ${client.escapeIdentifier(name)} limit 1`);
    if (rows.length > 0) throw notEmpty(`rows in ${name}`, [name]);
  }
}

function notEmpty(what: string, found: readonly string[]): LedgerError {
  return new LedgerError(
    'invalid_request',
    `the database has ${what} already: restore into one that is new, such as that of another ` +
      'MICRODOLLAR_DATA_DIR',
    { details: { found } },
  );
}

/** Migrations of the ledger that is there, by name; of a newer version by its time. */
async function readApplied(client: pg.Client): Promise<string[]> {
  const known = await client.query<{ known: boolean }>(
    'select to_regclass($1) is not null as known',
    [MIGRATIONS_TABLE],
  );
  if (!known.rows[0]?.known) return [];
  const { rows } = await client.query<{ at: string }>(
    `select created_at::text as at from ${MIGRATIONS_TABLE} order by created_at`,
  );
  const names = new Map(readJournal().map(({ name, createdAtMs }) => [String(createdAtMs), name]));
  return rows.map(({ at }) => names.get(at) ?? at);
}

/** Whoever serves it remembers what was there before. */
async function requireNoLedger(client: pg.Client, suffix: string): Promise<void> {
  const { rows } = await client.query<{ name: string }>(
    `select distinct application_name as name
    from pg_stat_activity
    where datname = current_database()
      and application_name like 'microdollar %'
      and coalesce(substring(application_name from ' @.*$'), '') = $1
      and split_part(application_name, ' @', 1) <> all (
        array['microdollar command', 'microdollar embedded', 'microdollar migrate'])`,
    [suffix],
  );
  if (rows.length === 0) return;
  throw new LedgerError('unavailable', 'a ledger is open on this database: stop `start` first', {
    details: { connections: rows.map(({ name }) => name) },
  });
}

/** As the version that wrote the dump made them. */
async function makeTables(client: pg.Client, { migrations }: Manifest): Promise<void> {
  const applied = new Set(await readApplied(client));
  const wanted = readJournal().filter(
    ({ name }) => migrations.includes(name) && !applied.has(name),
  );
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
  for (const table of manifest.tables) await widen(client, table);
  let rows = 0;
  for (const [index, table] of (await inOrder(client, manifest.tables)).entries()) {
    rows += await fillTable(client, directory, table);
    onTable?.(table, index + 1, names.length);
  }
  for (const name of quoted) await client.query(`alter table ${name} enable trigger user`);
  await setSequences(client, manifest);
  return rows;
}

/** As the table was that the rows come from; empty, so at once. */
async function widen(client: pg.Client, { name, wider }: DumpedTable): Promise<void> {
  if (wider === undefined) return;
  const table = client.escapeIdentifier(name);
  // What a view is made of keeps its type: a count of a month, which fits.
  const { rows } = await client.query<{ name: string }>(IN_NO_VIEW, [table, wider.bigint]);
  const changes = [
    ...wider.nullable.map((column) => `alter ${client.escapeIdentifier(column)} drop not null`),
    ...rows.map((column) => `alter ${client.escapeIdentifier(column.name)} type bigint`),
  ];
  if (changes.length > 0) await client.query(`alter table ${table} ${changes.join(', ')}`);
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
