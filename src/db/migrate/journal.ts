import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { LedgerError } from '../../errors.js';
import { packageFile } from '../../packageFiles.js';
import { assertUndistributed } from '../citus/undistributed.js';
import { LEDGER_NAMESPACE } from '../ledgerSchema.js';
import { toLedgerError } from '../sqlstate.js';
import { forSchema, type SchemaPlace } from './schemaPlace.js';
import type { SchemaShape } from './shape.js';

export const MIGRATIONS_TABLE = 'microdollar_migrations';

const AS_WRITTEN: SchemaPlace = { identifier: 'public', exists: true };

export interface Migration {
  name: string;
  /** As in the journal, ms since the epoch; drizzle orders and recognizes migrations by it. */
  createdAtMs: number;
}

/** What the migrations together make, as `test/integration/migrateSchema.test.ts` wrote it. */
export interface WantedSchema extends SchemaShape {
  /** Names of the migrations that made it. */
  migrations: string[];
}

/** A pool or a client. */
export interface Queryable {
  query(text: string, values?: unknown[]): Promise<{ rows: unknown[] }>;
}

/** /drizzle of the package. */
export function migrationsFolder(): string {
  const folder = packageFile('drizzle');
  if (folder !== null && existsSync(path.join(folder, 'meta', '_journal.json'))) return folder;
  throw new LedgerError(
    'internal',
    `the package's migrations are not where its code is${folder === null ? '' : ` (${folder})`}: ` +
      'a bundle has to leave microdollar out (esbuild: external)',
  );
}

export function readJournal(): Migration[] {
  const file = path.join(migrationsFolder(), 'meta', '_journal.json');
  const journal = JSON.parse(readFileSync(file, 'utf8')) as {
    entries: { tag: string; when: number }[];
  };
  return journal.entries.map((entry) => ({ name: entry.tag, createdAtMs: entry.when }));
}

/** The statements of one migration. */
export function readMigrationSql(name: string): string[] {
  const text = readFileSync(path.join(migrationsFolder(), `${name}.sql`), 'utf8');
  return text.split('--> statement-breakpoint').map((statement) => statement.trim());
}

function readSchemaFile(place: SchemaPlace): WantedSchema {
  const text = readFileSync(path.join(migrationsFolder(), 'schema.json'), 'utf8');
  return JSON.parse(text, (_key, value) =>
    typeof value === 'string' ? forSchema(value, place) : value,
  );
}

let tableNames: readonly string[] | null = null;

/**
 * Names of the ledger's tables; also while schema.json is behind, as it is when it is made. Every ledger
 * that is opened asks for them: the file is read once in a process.
 */
export function readTableNames(): readonly string[] {
  tableNames ??= readSchemaFile(AS_WRITTEN).tables.map((table) => table.name);
  return tableNames;
}

export function readWantedSchema(place: SchemaPlace = AS_WRITTEN): WantedSchema {
  const wanted = readSchemaFile(place);
  const names = readJournal().map((migration) => migration.name);
  if (wanted.migrations.join() !== names.join()) {
    throw new LedgerError('internal', 'drizzle/schema.json is not of these migrations');
  }
  return wanted;
}

/** Migrations newer than the newest applied one: drizzle's own rule. */
export async function findUnapplied(database: Queryable): Promise<Migration[]> {
  const known = await database.query('select to_regclass($1) is not null as known', [
    MIGRATIONS_TABLE,
  ]);
  let newest = Number.NEGATIVE_INFINITY;
  if ((known.rows[0] as { known: boolean }).known) {
    const result = await database.query(
      `select max(created_at) as newest from ${MIGRATIONS_TABLE}`,
    );
    const row = result.rows[0] as { newest: string | null };
    if (row.newest !== null) newest = Number(row.newest);
  }
  return readJournal().filter((migration) => migration.createdAtMs > newest);
}

/** Whether there is a table of one of the ledger's names. */
export async function findOwnTables(database: Queryable): Promise<boolean> {
  const result = await database.query(
    `select exists (
      select from pg_class
      where relnamespace = ${LEDGER_NAMESPACE}
        and relkind in ('r', 'p', 'v', 'm', 'f')
        and relname = any($1::text[])
    ) as found`,
    [readTableNames()],
  );
  return (result.rows[0] as { found: boolean }).found;
}

/** Whether a migration marks itself as breaking: it adds its own name to the settings. */
export function isBreaking(name: string, statements: readonly string[]): boolean {
  return statements.some((each) => each.includes(`array_append(breaking_migrations, '${name}')`));
}

/**
 * Refuses a database that is newer than this program by a migration which is marked as breaking.
 * A database that is newer by others passes.
 * @throws LedgerError `internal` with the remedy
 */
async function assertNotNewer(database: Queryable): Promise<void> {
  const known = await database.query(`select to_regclass('ledger_settings') is not null as known`);
  if (!(known.rows[0] as { known: boolean }).known) return;
  // Through JSON: settings of versions before have no such column.
  const result = await database.query(
    `select to_jsonb(s) -> 'breaking_migrations' as names
    from ledger_settings as s
    where s.id = 1`,
  );
  const row = result.rows[0] as { names: string[] | null } | undefined;
  const ours = new Set(readJournal().map((migration) => migration.name));
  const newer = (row?.names ?? []).filter((name) => !ours.has(name));
  if (newer.length === 0) return;
  throw new LedgerError(
    'internal',
    `the database is newer than this program, by ${newer.join(', ')}: what this program would ` +
      'write there is not what it has become; upgrade this program',
    { details: { newer_migrations: newer } },
  );
}

/**
 * That this program may work with the database, whether it is up to date or not.
 * @throws LedgerError `internal` for a newer one, `unavailable` for one that Citus distributes
 */
export async function assertUsable(database: Queryable): Promise<void> {
  await assertNotNewer(database);
  await assertUndistributed(database, readTableNames());
}

/**
 * Cheap check, reads of the catalog, the journal and the settings, that a database has every
 * migration of this version, none that this version must not work beside, and tables of one node.
 * @throws LedgerError `unavailable` or `internal`, with the remedy
 */
export async function assertMigrated(database: Queryable): Promise<void> {
  let unapplied: Migration[];
  try {
    await assertUsable(database);
    unapplied = await findUnapplied(database);
  } catch (error) {
    throw toLedgerError(error);
  }
  if (unapplied.length === 0) return;
  if (isNone(unapplied)) throw await noLedger(database, unapplied);
  const names = namesOf(unapplied);
  throw new LedgerError(
    'unavailable',
    `the database is behind this version, ${names.length} migrations are missing: run microdollar migrate`,
    { details: { missing_migrations: names } },
  );
}

/**
 * That there is a ledger, of this version or one before: only what is asked to make one makes it.
 * @throws LedgerError `unavailable` with the remedy
 */
export async function assertSetUp(database: Queryable): Promise<void> {
  let failure: LedgerError | null = null;
  try {
    const unapplied = await findUnapplied(database);
    if (isNone(unapplied)) failure = await noLedger(database, unapplied);
  } catch (error) {
    throw toLedgerError(error);
  }
  if (failure !== null) throw failure;
}

const namesOf = (migrations: readonly Migration[]) => migrations.map(({ name }) => name);
const isNone = (unapplied: readonly Migration[]) => unapplied.length === readJournal().length;

async function noLedger(
  database: Queryable,
  unapplied: readonly Migration[],
): Promise<LedgerError> {
  const details = { missing_migrations: namesOf(unapplied) };
  if (!(await findOwnTables(database))) {
    return new LedgerError(
      'unavailable',
      'this database has no ledger: name the one that has, or run microdollar migrate to make one',
      { details },
    );
  }
  return new LedgerError(
    'unavailable',
    'this database has tables of its own, and can be adopted, online: look at ' +
      '`microdollar migrate --dry-run`, then run `microdollar migrate`',
    { details: { ...details, adoptable: true } },
  );
}
