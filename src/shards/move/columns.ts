import pg from 'pg';
import type { Query } from '../../db/query.js';
import { textArray } from '../../db/statement.js';
import { LedgerError } from '../../errors.js';
import { COUNTER_TABLES, LOG_TABLES, PAYER_TABLES, STATE_TABLES } from './payerTables.js';

/**
 * Columns that a row is written with, by table: all but those that the database makes itself. A view in place
 * of a table (db/citus) has defaults for those alone.
 */
export type Columns = ReadonlyMap<string, readonly string[]>;

const TABLES = [
  ...LOG_TABLES,
  ...COUNTER_TABLES,
  ...PAYER_TABLES,
  ...STATE_TABLES.map(({ name }) => name),
];

async function readColumns(query: Query): Promise<Columns> {
  const rows = await query<{ table_name: string; columns: string[] }>({
    name: 'shards_read_columns',
    text: `/* shards.readColumns */
select t.name as table_name, array_agg(a.attname::text order by a.attnum) as columns
from unnest($1::text[]) as t(name)
join pg_attribute as a on a.attrelid = to_regclass(t.name)
where a.attnum > 0
  and not a.attisdropped
  and a.attgenerated = ''
  and a.attidentity <> 'a'
  and not exists (
    select
    from pg_attrdef as d
    join pg_class as v on v.oid = d.adrelid and v.relkind = 'v'
    where d.adrelid = a.attrelid and d.adnum = a.attnum
  )
group by t.name`,
    values: [textArray(TABLES)],
  });
  return new Map(rows.map((row) => [row.table_name, row.columns]));
}

/**
 * Columns that both shards have, also those that a host added to a table.
 * @throws LedgerError `invalid_request` where the target lacks one: what is in it would be lost
 */
export async function sharedColumns(
  source: Query,
  target: Query,
  targetName: string,
): Promise<Columns> {
  const [from, to] = await Promise.all([readColumns(source), readColumns(target)]);
  for (const [table, columns] of from) {
    const lacking = columns.filter((name) => !to.get(table)?.includes(name));
    if (lacking.length > 0) {
      throw new LedgerError(
        'invalid_request',
        `shard ${targetName} has no column ${lacking.join(', ')} in ${table} that can be written; ` +
          'migrate it first',
        { details: { field: 'to', table } },
      );
    }
  }
  return from;
}

/** A host's columns may have any name. */
export const quoted = (name: string): string => pg.escapeIdentifier(name);

export const quotedList = (names: readonly string[]): string => names.map(quoted).join(', ');

export const listOf = (columns: Columns, table: string): readonly string[] =>
  columns.get(table) ?? [];
