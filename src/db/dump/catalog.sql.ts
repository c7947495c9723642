import { LEDGER_NAMESPACE } from '../ledgerSchema.js';

/** A row of `TABLES`. */
export interface FoundTable {
  name: string;
  isPartitioned: boolean;
  columns: FoundColumn[];
}

export interface FoundColumn {
  name: string;
  /** As \d shows it. */
  type: string;
  isNotNull: boolean;
}

/** Tables of these names, those first that others refer to. */
export const TABLES = `
with recursive named as (
  select c.oid, c.relname, c.relkind
  from pg_class as c
  where c.relnamespace = ${LEDGER_NAMESPACE}
    and c.relkind in ('r', 'p')
    and c.relname = any ($1::text[])
), reference as (
  select k.conrelid as source, k.confrelid as target
  from pg_constraint as k
  where k.contype = 'f'
    and k.conrelid <> k.confrelid
    and k.conrelid in (select oid from named)
    and k.confrelid in (select oid from named)
), depth as (
  select n.oid, 0 as level from named as n
  union
  select r.source, d.level + 1
  from depth as d
  join reference as r on r.target = d.oid
  where d.level < 100
)
select n.relname as name, n.relkind = 'p' as "isPartitioned",
  (
    select json_agg(json_build_object('name', a.attname, 'isNotNull', a.attnotnull
        and not exists (
          select from pg_constraint as k
          where k.conrelid = a.attrelid and k.contype = 'n' and not k.convalidated
            and k.conkey = array[a.attnum]
        ),
      'type', format_type(a.atttypid, a.atttypmod)) order by a.attnum)
    from pg_attribute as a
    where a.attrelid = n.oid and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''
  ) as columns
from named as n
join depth as d on d.oid = n.oid
group by n.oid, n.relname, n.relkind
order by max(d.level), n.relname`;

/** Sequences of identity and serial columns. */
export const SEQUENCES = `
select t.relname as table, a.attname as column,
  s.oid::regclass::text as sequence
from pg_depend as d
join pg_class as s on s.oid = d.objid and s.relkind = 'S'
join pg_class as t on t.oid = d.refobjid
join pg_attribute as a on a.attrelid = t.oid and a.attnum = d.refobjsubid
where d.classid = 'pg_class'::regclass
  and d.deptype in ('a', 'i')
  and t.relnamespace = ${LEDGER_NAMESPACE}
  and t.relname = any ($1::text[])
order by 1, 2`;

/** Columns of table $1, of those in $2, that no view is made of. */
export const IN_NO_VIEW = `
select a.attname as name
from pg_attribute as a
where a.attrelid = to_regclass($1)
  and a.attname = any ($2::text[])
  and not exists (
    select
    from pg_depend as d
    where d.classid = 'pg_rewrite'::regclass
      and d.refclassid = 'pg_class'::regclass
      and d.refobjid = a.attrelid
      and d.refobjsubid = a.attnum
  )`;
