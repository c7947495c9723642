import type { Query } from '../../db/query.js';
import { sqlStateOf } from '../../db/sqlstate.js';
import { nameOfText, type Statement, textArray } from '../../db/statement.js';
import { LedgerError } from '../../errors.js';
import type { PayerScope } from '../../schema/unsettled.js';
import { absentValue, isDeclared, isDeclaredNotNull } from './absentValues.js';
import { quoted } from './columns.js';
import { isPaidBy, LOG_TABLES, OWN_OF_PAYER, PAYER_TABLES, STATE_TABLES } from './payerTables.js';
import { keyOf, type MovedPayer } from './types.js';
import { METADATA_OF_USAGE } from './writeRows.sql.js';

interface Column {
  name: string;
  type: string;
  /** Without what bounds its length or digits: `numeric` of `numeric(10,2)`. */
  base: string;
  /** Labels of an enum, rules of a domain; null of other types. */
  rules: string | null;
  /** Most characters of a text type; null: any number. */
  maxLength: number | null;
  isNotNull: boolean;
  /** It follows from others. */
  isGenerated: boolean;
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
const TEXTS = ['text', 'character varying'];

const readTablesStatement = (tables: readonly string[]): Statement => ({
  name: 'shards_read_tables',
  text: `/* shards.readTables */
select n.name as table_name, c.relkind = 'v' as is_view,
  jsonb_agg(jsonb_build_object('name', a.attname, 'type', format_type(a.atttypid, a.atttypmod),
    'base', format_type(a.atttypid, null),
    'rules', nullif(concat_ws(', ',
      case when t.typtype = 'd' then format_type(t.typbasetype, t.typtypmod) end,
      case when t.typnotnull then 'not null' end, (
        select string_agg(quote_literal(e.enumlabel), ', ' order by e.enumsortorder)
        from pg_enum as e
        where e.enumtypid = t.oid
      ), (
        select string_agg(pg_get_constraintdef(k.oid), ', ' order by k.conname)
        from pg_constraint as k
        where k.contypid = t.oid
      )), ''),
    'maxLength', case when t.typname = 'varchar' and a.atttypmod > 4 then a.atttypmod - 4 end,
    'isNotNull', a.attnotnull or t.typnotnull,
    'isGenerated', a.attgenerated <> '',
    'isOptional', not a.attnotnull or a.atthasdef or a.attidentity <> '')) as columns
from unnest($1::text[]) as n(name)
join pg_class as c on c.oid = to_regclass(n.name)
join pg_attribute as a on a.attrelid = c.oid
join pg_type as t on t.oid = a.atttypid
where a.attnum > 0
  and not a.attisdropped
group by n.name, c.relkind`,
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
    if (target === undefined || target.isGenerated || !isTaken(table, source.name)) return [];
    const column = source.name;
    const value = `r.${quoted(column)}`;
    const named = /^[a-z_][a-z0-9_]*$/.test(column) ? column : quoted(column);
    const alter = (what: string) => `alter table ${table} alter column ${named} ${what}`;
    const narrower: Narrower[] = [];
    const wantsValue = target.isNotNull || (to.is_view && isDeclaredNotNull(table, column));
    if (wantsValue && !source.isNotNull && absentValue(table, column) === null) {
      narrower.push({
        table,
        column,
        condition: `${value} is null`,
        describe: (rows, shard) =>
          `${table}.${column} is null in ${rows} rows, and shard ${shard} wants a value: give these ` +
          `rows one, or run there: ${alter('drop not null')}`,
      });
    }
    const unfit = findUnfit(source, target, value, isDeclared(table, column));
    if (unfit === null) return narrower;
    const remedy =
      source.type === target.type
        ? `make the type there as it is here: ${describeType(source)}`
        : `run there: ${alter(`type ${source.type}`)}`;
    const describe = (rows: string, shard: string) =>
      unfit === 'differs'
        ? `${table}.${column} is ${describeType(target)} on shard ${shard}, which may not hold what ` +
          `${rows} rows have as ${describeType(source)}: ${remedy}`
        : `${table}.${column} is past what ${describeType(target)} holds in ${rows} rows, as it is on ` +
          `shard ${shard}: ${remedy}; or change these rows`;
    const condition = unfit === 'differs' ? `${value} is not null` : unfit.past;
    narrower.push({ table, column, condition, describe });
    return narrower;
  });
}

/**
 * What the type of `target` has no place for: values past a bound, an SQL condition; any, where the two
 * differ otherwise, for it could refuse or round them; null: none.
 */
function findUnfit(
  source: Column,
  target: Column,
  value: string,
  isOfLedger: boolean,
): 'differs' | { past: string } | null {
  if (source.type === target.type && source.rules === target.rules) return null;
  const [from, to] = [INTEGERS.indexOf(source.base), INTEGERS.indexOf(target.base)];
  if (from >= 0 && (to >= from || target.type === 'numeric')) return null;
  if (from >= 0 && to >= 0) {
    const limit = 1n << (BITS[to] as bigint);
    return { past: `${value} not between ${-limit} and ${limit - 1n}` };
  }
  if (TEXTS.includes(source.base) && TEXTS.includes(target.base)) {
    const { maxLength } = target;
    return maxLength === null ? null : { past: `length(${value}) > ${maxLength}` };
  }
  // Of one kind, and without a bound there.
  if (source.base === target.base && target.type === target.base && target.rules === null)
    return null;
  if (source.base === 'real' && target.base === 'double precision') return null;
  // As adopting takes it: latencies and places, of which six digits are enough.
  if (isOfLedger && source.base === 'double precision' && target.base === 'real') return null;
  return 'differs';
}

const describeType = ({ type, rules }: Column): string =>
  rules === null ? type : `${type} (${rules})`;

function countStatement(
  scope: PayerScope,
  id: string,
  table: string,
  narrower: readonly Narrower[],
): Statement {
  const counts = narrower.map(({ condition }) => `(count(*) filter (where ${condition}))::text`);
  const text = `/* shards.countUnfit */
select array[${counts.join(', ')}] as counts
from ${table} as r
where ${rowsOf(table, scope)}`;
  return { name: nameOfText(text), text, values: [id] };
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

/** A trigger of its own there leaves out what is written: nothing may be taken away for it. */
export function notKept(payer: MovedPayer, shard: string, table: string): LedgerError {
  return new LedgerError(
    'invalid_request',
    `${keyOf(payer)} cannot move: shard ${shard} did not keep every row of ${table} that was written ` +
      'there: see which triggers or rules that table has',
    { details: { field: 'to', table } },
  );
}

/** What no look beforehand tells: a constraint, an index or a trigger of its own there. */
export function refusedRow(payer: MovedPayer, shard: string, cause: Error): LedgerError {
  return new LedgerError(
    'invalid_request',
    `${keyOf(payer)} cannot move: shard ${shard} refuses a row: ${cause.message}; change the row or that ` +
      'shard and move again, or call the move off',
    { details: { field: 'payer', sqlstate: sqlStateOf(cause) }, cause },
  );
}
