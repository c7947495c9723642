import pg from 'pg';
import type { Query } from '../../db/query.js';
import { textArray } from '../../db/statement.js';
import { LedgerError } from '../../errors.js';
import { COUNTER_TABLES, LOG_TABLES, PAYER_TABLES, STATE_TABLES } from './payerTables.js';

/** Columns that a row is written with, by table. */
export type Columns = ReadonlyMap<string, readonly string[]>;

const TABLES = [
  ...LOG_TABLES,
  ...COUNTER_TABLES,
  ...PAYER_TABLES,
  ...STATE_TABLES.map(({ name }) => name),
];

interface TableColumns {
  table_name: string;
  /** All but those that the database makes itself. */
  written: string[];
  /** Those that follow from others. */
  generated: string[];
}

/** A view in place of a table (db/citus) has defaults for what the database makes itself, and no others. */
function readColumns(query: Query): Promise<TableColumns[]> {
  return query<TableColumns>({
    name: 'shards_read_columns',
    text: `/* shards.readColumns */
select t.name as table_name,
  coalesce(array_agg(a.attname::text order by a.attnum) filter (where a.attgenerated = ''), '{}') as written,
  coalesce(array_agg(a.attname::text order by a.attnum)
    filter (where a.attgenerated <> ''), '{}') as generated
from unnest($1::text[]) as t(name)
join pg_attribute as a on a.attrelid = to_regclass(t.name)
where a.attnum > 0
  and not a.attisdropped
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
}

/**
 * Columns that both shards have, also those that a host added to a table, and those that follow from others
 * at the source alone.
 * @throws LedgerError `invalid_request` where the target lacks one: what is in it would be lost
 */
export async function sharedColumns(
  source: Query,
  target: Query,
  targetName: string,
): Promise<Columns> {
  const [from, to] = await Promise.all([readColumns(source), readColumns(target)]);
  const shared = new Map<string, string[]>();
  for (const { table_name: table, written, generated } of from) {
    const there = to.find(({ table_name: name }) => name === table)?.written ?? [];
    const lacking = written.filter((name) => !there.includes(name));
    if (lacking.length > 0) {
      throw new LedgerError(
        'invalid_request',
        `shard ${targetName} has no column ${lacking.join(', ')} in ${table} that can be written; ` +
          'migrate it first',
        { details: { field: 'to', table } },
      );
    }
    shared.set(table, [...written, ...generated.filter((name) => there.includes(name))]);
  }
  return shared;
}

/** A host's columns may have any name. */
export const quoted = (name: string): string => pg.escapeIdentifier(name);

export const quotedList = (names: readonly string[]): string => names.map(quoted).join(', ');

export const listOf = (columns: Columns, table: string): readonly string[] =>
  columns.get(table) ?? [];
