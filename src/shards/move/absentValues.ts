import { getTableColumns, getTableName, is, SQL } from 'drizzle-orm';
import { PgDialect, PgTable } from 'drizzle-orm/pg-core';
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

/** Of columns that must have a value, the one for a null, SQL; null: nothing stands for it. */
const DECLARED: ReadonlyMap<string, string | null> = new Map(
  Object.values<unknown>(schema)
    .filter((table): table is PgTable => is(table, PgTable))
    .flatMap((table) =>
      Object.values(getTableColumns(table))
        .filter(({ notNull }) => notNull)
        .map((column): [string, string | null] => {
          const name = `${getTableName(table)}.${column.name}`;
          if (column.primary) return [name, null];
          const given = column.default === undefined ? null : sqlOf(column.default);
          return [name, DESCRIPTIONS.includes(name) ? `''` : given];
        }),
    ),
);

const KNOWN: ReadonlySet<string> = new Set(
  Object.values<unknown>(schema)
    .filter((table): table is PgTable => is(table, PgTable))
    .flatMap((table) =>
      Object.values(getTableColumns(table)).map(({ name }) => `${getTableName(table)}.${name}`),
    ),
);

/** Whether the column is the ledger's, not one that a host added. */
export const isDeclared = (table: string, column: string): boolean =>
  KNOWN.has(`${table}.${column}`);

/** Whether the ledger's own table takes no null there. */
export const isDeclaredNotNull = (table: string, column: string): boolean =>
  DECLARED.has(`${table}.${column}`);

/** What is written for a null, an SQL expression; null: nothing is. */
export const absentValue = (table: string, column: string): string | null =>
  DECLARED.get(`${table}.${column}`) ?? null;

/** Column of `row` as a move writes it, an SQL expression. */
export function writtenValue(table: string, column: string, row: string): string {
  const absent = absentValue(table, column);
  const value = `${row}.${quoted(column)}`;
  return absent === null ? value : `coalesce(${value}, ${absent})`;
}
