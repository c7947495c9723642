import { getTableColumns, getTableName, is, SQL } from 'drizzle-orm';
import { type PgColumn, PgDialect, PgTable } from 'drizzle-orm/pg-core';
import * as schema from '../../schema/index.js';
import { quoted } from './columns.js';

/**
 * Rows of tables that another program made may have no value where the ledger's own tables want one
 * (db/migrate/requirements.ts). A move writes what the ledger would have written there: the column's
 * default as the schema declares it. What has none is refused before anything is copied (fitting.ts).
 */

/** No default, for whoever makes a row says it; without it nothing but a description is missing. */
const DESCRIPTIONS: readonly string[] = [
  'exa_usage_log.path',
  'organizations.name',
  'api_keys.key_prefix',
];

const dialect = new PgDialect();

function sqlOf(value: unknown): string {
  if (is(value, SQL)) return dialect.sqlToQuery(value).sql;
  return typeof value === 'string' ? `'${value.replaceAll("'", "''")}'` : String(value);
}

/** Every column of the ledger, by `table.column`. */
const COLUMNS: ReadonlyMap<string, PgColumn> = new Map(
  Object.values<unknown>(schema)
    .filter((table): table is PgTable => is(table, PgTable))
    .flatMap((table) =>
      Object.values(getTableColumns(table)).map((column): [string, PgColumn] => [
        `${getTableName(table)}.${column.name}`,
        column,
      ]),
    ),
);

/** Whether the column is the ledger's, not one that a host added. */
export const isDeclared = (table: string, column: string): boolean =>
  COLUMNS.has(`${table}.${column}`);

/** Whether the ledger's own table takes no null there. */
export const isDeclaredNotNull = (table: string, column: string): boolean =>
  COLUMNS.get(`${table}.${column}`)?.notNull === true;

/** What is written for a null where none may be, an SQL expression; null: nothing is. */
export function absentValue(table: string, column: string): string | null {
  const name = `${table}.${column}`;
  const declared = COLUMNS.get(name);
  if (declared === undefined || !declared.notNull || declared.primary) return null;
  if (DESCRIPTIONS.includes(name)) return `''`;
  return declared.default === undefined ? null : sqlOf(declared.default);
}

/** Column of `row` as a move writes it, an SQL expression. */
export function writtenValue(table: string, column: string, row: string): string {
  const absent = absentValue(table, column);
  const value = `${row}.${quoted(column)}`;
  return absent === null ? value : `coalesce(${value}, ${absent})`;
}
