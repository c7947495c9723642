import type { Query } from '../../db/query.js';
import { type Statement, textArray } from '../../db/statement.js';
import { LedgerError } from '../../errors.js';
import type { PayerScope } from '../../schema/unsettled.js';
import { absentValue, isDeclaredNotNull } from './absentValues.js';
import { isPaidBy, LOG_TABLES, OWN_OF_PAYER, PAYER_TABLES, STATE_TABLES } from './payerTables.js';
import { keyOf, type MovedPayer } from './types.js';
import { METADATA_OF_USAGE } from './writeRows.sql.js';

interface Column {
  name: string;
  type: string;
  isNotNull: boolean;
  /** A row may be made that does not name it. */
  isOptional: boolean;
}

interface TableRow {
  table_name: string;
  is_view: boolean;
  columns: Column[];
}

/** A column of the target that may not take what the source has there. */
interface Narrower {
  table: string;
  column: string;
  /** Rows that it does not take; of row `r`. */
  condition: string;
  describe(rows: string, shard: string): string;
}

const INTEGERS = ['smallint', 'integer', 'bigint'];
const BITS = [15n, 31n, 63n];

const readTablesStatement = (tables: readonly string[]): Statement => ({
  name: 'shards_read_tables',
  text: `/* shards.readTables */
select t.name as table_name, c.relkind = 'v' as is_view,
  jsonb_agg(jsonb_build_object('name', a.attname, 'type', format_type(a.atttypid, a.atttypmod),
    'isNotNull', a.attnotnull,
    'isOptional', not a.attnotnull or a.atthasdef or a.attidentity <> '')) as columns
from unnest($1::text[]) as t(name)
join pg_class as c on c.oid = to_regclass(t.name)
join pg_attribute as a on a.attrelid = c.oid
where a.attnum > 0
  and not a.attisdropped
group by t.name, c.relkind`,
  values: [textArray(tables)],
});

/** Rows of the payer in a table, an SQL condition; null: it has none there. */
function rowsOf(table: string, scope: PayerScope): string | null {
  if (table === 'microdollar_usage_metadata') {
    return `r.id in (select m.id from microdollar_usage as m where ${isPaidBy(scope, 'm')})`;
  }
  if (LOG_TABLES.some((name) => name === table)) return isPaidBy(scope);
  if (table === scope.payers) return `r.id = $1::${scope.idType}`;
  return STATE_TABLES.find(({ name }) => name === table)?.isOf(scope) ?? null;
}

/** Whether a move writes the column as it was read, null where it is null. */
function isTaken(table: string, column: string): boolean {
  if (PAYER_TABLES.some((name) => name === table) && OWN_OF_PAYER.has(column)) return false;
  if (table === 'microdollar_usage_metadata' && METADATA_OF_USAGE.includes(column)) return false;
  return column !== 'position';
}

function findNarrower(from: TableRow, to: TableRow): Narrower[] {
  const { table_name: table } = from;
  return from.columns.flatMap((source): Narrower[] => {
    const target = to.columns.find(({ name }) => name === source.name);
    if (target === undefined || !isTaken(table, source.name)) return [];
    const column = source.name;
    const alter = (what: string) => `alter table ${table} alter column ${column} ${what}`;
    const narrower: Narrower[] = [];
    const wantsValue = target.isNotNull || (to.is_view && isDeclaredNotNull(table, column));
    if (wantsValue && !source.isNotNull && absentValue(table, column) === null) {
      narrower.push({
        table,
        column,
        condition: `r.${column} is null`,
        describe: (rows, shard) =>
          `${table}.${column} is null in ${rows} rows, and shard ${shard} wants a value: give these ` +
          `rows one, or run there: ${alter('drop not null')}`,
      });
    }
    const width = INTEGERS.indexOf(target.type);
    if (width >= 0 && width < INTEGERS.indexOf(source.type)) {
      const limit = 1n << (BITS[width] as bigint);
      narrower.push({
        table,
        column,
        condition: `r.${column} not between ${-limit} and ${limit - 1n}`,
        describe: (rows, shard) =>
          `${table}.${column} is past what ${target.type} holds in ${rows} rows, as it is on shard ` +
          `${shard}: run there: ${alter(`type ${source.type}`)}; or change these rows`,
      });
    }
    return narrower;
  });
}

function countStatement(
  scope: PayerScope,
  id: string,
  table: string,
  narrower: readonly Narrower[],
): Statement {
  const counts = narrower.map(({ condition }) => `(count(*) filter (where ${condition}))::text`);
  return {
    name: `shards_count_unfit_${table}_${scope.name}`,
    text: `/* shards.countUnfit */
select array[${counts.join(', ')}] as counts
from ${table} as r
where ${rowsOf(table, scope)}`,
    values: [id],
  };
}

/**
 * That the target has room for everything the payer has: its columns may be narrower than those of a table
 * that another program made. Reads the payer's rows only of tables where they are.
 * @throws LedgerError `invalid_request` with table, column, rows and the remedy
 */
export async function requireFitting(
  source: Query,
  target: Query,
  payer: MovedPayer,
  to: string,
): Promise<void> {
  const { scope, id } = payer;
  const tables = [...LOG_TABLES, ...PAYER_TABLES, ...STATE_TABLES.map(({ name }) => name)];
  const statement = readTablesStatement(tables);
  const [from, here] = await Promise.all([
    source<TableRow>(statement),
    target<TableRow>(statement),
  ]);
  requirePayersMade(here, to);
  for (const table of from) {
    const other = here.find(({ table_name: name }) => name === table.table_name);
    if (other === undefined || rowsOf(table.table_name, scope) === null) continue;
    const narrower = findNarrower(table, other);
    if (narrower.length === 0) continue;
    const count = countStatement(scope, id, table.table_name, narrower);
    const [row] = await source<{ counts: string[] }>(count);
    for (const [index, each] of narrower.entries()) {
      const rows = row?.counts[index] ?? '0';
      if (rows === '0') continue;
      throw new LedgerError(
        'invalid_request',
        `${keyOf(payer)} cannot move: ${each.describe(rows, to)}`,
        { details: { field: 'payer', table: each.table, column: each.column, rows: Number(rows) } },
      );
    }
  }
}

/** Users and organizations are made known there by what the ledger knows of them. */
function requirePayersMade(here: readonly TableRow[], to: string): void {
  for (const { table_name: table, columns } of here) {
    if (!PAYER_TABLES.some((name) => name === table)) continue;
    const unknown = columns.find(
      ({ name, isOptional }) => !isOptional && !isDeclaredNotNull(table, name),
    );
    if (unknown === undefined) continue;
    throw new LedgerError(
      'invalid_request',
      `shard ${to} cannot make rows of ${table}: ${unknown.name} is NOT NULL without a default, and ` +
        `unknown to the ledger; run there: alter table ${table} alter column ${unknown.name} set default ...`,
      { details: { field: 'to', table, column: unknown.name } },
    );
  }
}
