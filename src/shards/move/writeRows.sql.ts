import { POSITION } from '../../counter/position.sql.js';
import { nameOfText, type Statement } from '../../db/statement.js';
import { LOOKUP_NAMES, type LookupName } from '../../schema/lookupNames.js';
import { type Log, type PayerScope, USAGE_LOG } from '../../schema/unsettled.js';
import { writtenValue } from './absentValues.js';
import { type Columns, listOf, quotedList } from './columns.js';
import { isPaidBy } from './payerTables.js';
import type { RowsPage } from './readRows.sql.js';

const NAMES = LOOKUP_NAMES.map((name) => `'${name}'`).join(', ');

/**
 * Lookup values of a page get their ids, in a statement of its own (R12). What cannot be had without waiting
 * stays text, as in any write.
 */
export function createLookupsStatement(metadata: string): Statement {
  return {
    name: 'shards_create_lookups',
    text: `/* shards.createLookups */
select microdollar_lookup_id(v.name, v.value)
from (
  select distinct e.key as name, e.value
  from jsonb_array_elements($1::jsonb) as d
  cross join jsonb_each_text(d -> 'lookup_values') as e
  where e.key in (${NAMES})
) as v`,
    values: [metadata],
  };
}

/** Users whose rows come, known here: they live elsewhere, unless they are here already. */
export function knowUsersStatement(users: string): Statement {
  return {
    name: 'shards_know_users',
    text: `/* shards.knowUsers */
insert into kilocode_users (id, deleted_at, is_elsewhere)
select u.id, u.deleted_at, true
from jsonb_to_recordset($1::jsonb) as u(id text, deleted_at timestamptz)
order by u.id
on conflict (id) do nothing`,
    values: [users],
  };
}

/** Exa months with the allowance that they have where they come from: what is charged follows from it. */
export function openMonthsStatement(months: string): Statement {
  return {
    name: 'shards_open_months',
    text: `/* shards.openMonths */
insert into exa_monthly_usage (kilo_user_id, organization_id, month, free_allowance_microdollars)
select e.kilo_user_id, e.organization_id, e.month, e.free_allowance_microdollars
from jsonb_to_recordset($1::jsonb)
  as e(kilo_user_id text, organization_id uuid, month date, free_allowance_microdollars bigint)
order by e.kilo_user_id, e.month
on conflict do nothing`,
    values: [months],
  };
}

const lookupId = (name: LookupName): string =>
  `(select l.${name}_id from ${name} as l where l.${name} = d.lookup_values ->> '${name}')`;

/** Of metadata the row of usage has them where adopted rows do not. */
export const METADATA_OF_USAGE: readonly string[] = ['kilo_user_id', 'created_at'];

/** Ids where there are any, and what is left of the values. */
const METADATA_VALUES = new Map<string, string>([
  ...METADATA_OF_USAGE.map((name) => [name, `coalesce(d.${name}, w.${name})`] as const),
  ...LOOKUP_NAMES.map((name) => [`${name}_id`, lookupId(name)] as const),
  [
    'lookup_values',
    `nullif(d.lookup_values - array_remove(array[${LOOKUP_NAMES.map(
      (name) => `case when ${lookupId(name)} is not null then '${name}' end`,
    ).join(', ')}], null), '{}')`,
  ],
]);

const metadataWritten = (columns: Columns): string => {
  const table = 'microdollar_usage_metadata';
  const names = listOf(columns, table);
  return `, metadata_written as (
  insert into ${table} (${quotedList(names)})
  select ${names.map((name) => METADATA_VALUES.get(name) ?? writtenValue(table, name, 'd')).join(', ')}
  from jsonb_populate_recordset(null::${table}, $2::jsonb) as d
  join written as w on w.id = d.id
  returning id
)`;
};

export interface WrittenRow {
  written: number;
  /** Metadata of these rows that was not. */
  metadata_left: number;
}

/**
 * Appends copied rows as if they were written here: with a position of this transaction, so that the folds of
 * this shard count them, in the order of their ids (R11), each at most once.
 */
export function writeRowsStatement(log: Log, page: RowsPage, columns: Columns): Statement {
  const names = listOf(columns, log.table).filter((name) => name !== 'position');
  const isUsage = log === USAGE_LOG;
  const position = isUsage
    ? `(select h.position from here as h) * case when m.cost <> 0 then 1 else -1 end`
    : `case when m.cost <> 0 then (select h.position from here as h) end`;
  const text = `/* shards.writeRows */
with here as materialized (
  select ${POSITION} as position
), written as (
  insert into ${log.table} (${quotedList(names)}, position)
  select ${names.map((name) => writtenValue(log.table, name, 'm')).join(', ')}, ${position}
  from jsonb_populate_recordset(null::${log.table}, $1::jsonb) as m
  order by m.id
  on conflict (id) do nothing
  returning id, kilo_user_id, created_at
)${isUsage ? metadataWritten(columns) : ''}
select count(*)::integer as written, ${
    isUsage
      ? `(
    select count(*)::integer
    from jsonb_array_elements($2::jsonb) as d
    where (d ->> 'id')::uuid in (select w.id from written as w)
      and (d ->> 'id')::uuid not in (select k.id from metadata_written as k)
  )`
      : '0'
  } as metadata_left
from written`;
  return {
    name: nameOfText(text),
    text,
    values: isUsage ? [page.rows, page.metadata] : [page.rows],
  };
}

export interface ConflictRow {
  id: string;
  is_absent: boolean;
}

/** Rows that stand here with another content, or another payer, or not at all: one row each. */
export function findConflictsStatement(
  log: Log,
  scope: PayerScope,
  id: string,
  rows: string,
): Statement {
  return {
    name: `shards_find_conflicts_${log.table}_${scope.name}`,
    text: `/* shards.findConflicts */
select m.id, r.id is null as is_absent
from jsonb_populate_recordset(null::${log.table}, $2::jsonb) as m
left join ${log.table} as r on r.id = m.id
where (${isPaidBy(scope)}) is not true
  or r.kilo_user_id <> m.kilo_user_id
  or r.cost <> m.cost
  or r.created_at <> m.created_at
limit 10`,
    values: [id, rows],
  };
}
