import type pg from 'pg';
import {
  COLUMNS,
  CONSTRAINTS,
  FUNCTIONS,
  INDEXES,
  STATISTICS,
  TABLES,
  TRIGGERS,
  VIEWS,
} from './catalog.sql.js';
import type { ColumnShape, ConstraintShape, IndexShape, SchemaShape, TableShape } from './shape.js';

/** Of drizzle's migrator, not of the ledger. */
const MIGRATIONS_TABLE = 'microdollar_migrations';

type Of<Row> = Row & { table: string };
type Named = { name: string; definition: string };
interface ConstraintRow extends Omit<ConstraintShape, 'references'> {
  referencedTable: string | null;
  referencedColumns: string[];
}

/** What the schema holds now that is the session's search path. */
export async function readShape(client: pg.Client): Promise<SchemaShape> {
  const read = async <Row>(text: string) => (await client.query(text)).rows as Row[];
  const tables = await read<Pick<TableShape, 'name' | 'kind' | 'options'>>(TABLES);
  const columns = groupByTable(await read<Of<ColumnShape>>(COLUMNS));
  const constraints = groupByTable(await read<Of<ConstraintRow>>(CONSTRAINTS));
  const indexes = groupByTable(await read<Of<IndexShape>>(INDEXES));
  const triggers = groupByTable(await read<Of<Named>>(TRIGGERS));
  const statistics = groupByTable(await read<Of<Named>>(STATISTICS));
  return {
    tables: tables
      .filter((table) => table.name !== MIGRATIONS_TABLE)
      .map((table) => ({
        ...table,
        columns: columns.get(table.name) ?? [],
        constraints: (constraints.get(table.name) ?? []).map(toConstraint),
        indexes: indexes.get(table.name) ?? [],
        triggers: triggers.get(table.name) ?? [],
        statistics: statistics.get(table.name) ?? [],
      })),
    views: await read(VIEWS),
    functions: await read(FUNCTIONS),
  };
}

function groupByTable<Row extends { table: string }>(
  rows: readonly Row[],
): Map<string, Omit<Row, 'table'>[]> {
  const groups = new Map<string, Omit<Row, 'table'>[]>();
  for (const { table, ...rest } of rows) {
    const group = groups.get(table);
    if (group) group.push(rest);
    else groups.set(table, [rest]);
  }
  return groups;
}

function toConstraint({
  referencedTable,
  referencedColumns,
  ...constraint
}: ConstraintRow): ConstraintShape {
  const references =
    referencedTable === null ? null : { table: referencedTable, columns: referencedColumns };
  return { ...constraint, references };
}
