import { LEDGER_NAMESPACE } from '../ledgerSchema.js';

/**
 * The catalog's view of the ledger's schema, one statement a kind of object. They read pg_catalog
 * alone, lock no table, and print names unqualified where the search path allows, so the session's
 * search path is that schema.
 */
const NOT_OF_AN_EXTENSION = (catalog: string, oid: string) => `not exists (
    select from pg_depend as e
    where e.classid = '${catalog}'::regclass
      and e.objid = ${oid}
      and e.deptype = 'e')`;

/** Relations of the schema; partitions belong to their parent, whose parameters the default one has. */
export const TABLES = `
select c.relname as name, c.relkind::text as kind,
  coalesce(c.reloptions, (
    select d.reloptions
    from pg_partitioned_table as p
    join pg_class as d on d.oid = p.partdefid
    where p.partrelid = c.oid), '{}') as options
from pg_class as c
where c.relnamespace = ${LEDGER_NAMESPACE}
  and c.relkind in ('r', 'p', 'v', 'm', 'f')
  and not c.relispartition
  and ${NOT_OF_AN_EXTENSION('pg_class', 'c.oid')}
order by c.relname collate "C"`;

export const COLUMNS = `
select c.relname as "table", a.attname as name, format_type(a.atttypid, a.atttypmod) as type,
  a.attnotnull as "isNotNull", pg_get_expr(d.adbin, d.adrelid) as "default",
  a.attidentity <> '' as "isIdentity", a.attgenerated <> '' as "isGenerated"
from pg_attribute as a
join pg_class as c on c.oid = a.attrelid
left join pg_attrdef as d on d.adrelid = a.attrelid and d.adnum = a.attnum
where c.relnamespace = ${LEDGER_NAMESPACE}
  and c.relkind in ('r', 'p', 'f')
  and a.attnum > 0
  and not a.attisdropped
order by c.relname collate "C", a.attnum`;

/** Without NOT NULL constraints, which PostgreSQL 18 lists here: the column says it already. */
export const CONSTRAINTS = `
select c.relname as "table", k.conname as name,
  case k.contype when 'p' then 'primary key' when 'u' then 'unique'
    when 'f' then 'foreign key' else 'check' end as kind,
  pg_get_constraintdef(k.oid) as definition,
  array(
    select a.attname::text
    from unnest(k.conkey) with ordinality as key(attnum, place)
    join pg_attribute as a on a.attrelid = k.conrelid and a.attnum = key.attnum
    order by key.place) as columns,
  r.relname as "referencedTable",
  array(
    select a.attname::text
    from unnest(k.confkey) with ordinality as key(attnum, place)
    join pg_attribute as a on a.attrelid = k.confrelid and a.attnum = key.attnum
    order by key.place) as "referencedColumns",
  k.convalidated as "isValidated"
from pg_constraint as k
join pg_class as c on c.oid = k.conrelid
left join pg_class as r on r.oid = k.confrelid
where c.relnamespace = ${LEDGER_NAMESPACE}
  and k.contype in ('p', 'u', 'f', 'c')
order by c.relname collate "C", k.conname collate "C"`;

export const INDEXES = `
select c.relname as "table", i.relname as name,
  replace(pg_get_indexdef(x.indexrelid), ' ON ONLY ', ' ON ') as definition,
  m.amname as method, x.indisunique and x.indimmediate as "isUnique",
  x.indisvalid and x.indisready as "isValid",
  array(
    select pg_get_indexdef(x.indexrelid, place, true)
      || case when x.indcollation[place - 1] in (0, t.typcollation) then ''
        else ' collate ' || x.indcollation[place - 1]::regcollation::text end
      || case when o.opcdefault then '' else ' ' || o.opcname end
      || case x.indoption[place - 1] when 1 then ' desc nulls last' when 2 then ' nulls first'
        when 3 then ' desc' else '' end
    from generate_series(1, x.indnkeyatts) as place
    join pg_attribute as a on a.attrelid = x.indexrelid and a.attnum = place
    join pg_type as t on t.oid = a.atttypid
    join pg_opclass as o on o.oid = x.indclass[place - 1]
    order by place) as keys,
  pg_get_expr(x.indpred, x.indrelid) as predicate,
  exists (select from pg_constraint as k where k.conindid = x.indexrelid
    and k.contype in ('p', 'u', 'x')) as "isOfConstraint"
from pg_index as x
join pg_class as i on i.oid = x.indexrelid
join pg_class as c on c.oid = x.indrelid
join pg_am as m on m.oid = i.relam
where c.relnamespace = ${LEDGER_NAMESPACE}
  and c.relkind in ('r', 'p')
order by c.relname collate "C", i.relname collate "C"`;

export const TRIGGERS = `
select c.relname as "table", t.tgname as name, pg_get_triggerdef(t.oid) as definition
from pg_trigger as t
join pg_class as c on c.oid = t.tgrelid
where c.relnamespace = ${LEDGER_NAMESPACE}
  and not t.tgisinternal
order by c.relname collate "C", t.tgname collate "C"`;

export const STATISTICS = `
select c.relname as "table", s.stxname as name, pg_get_statisticsobjdef(s.oid) as definition
from pg_statistic_ext as s
join pg_class as c on c.oid = s.stxrelid
where c.relnamespace = ${LEDGER_NAMESPACE}
order by c.relname collate "C", s.stxname collate "C"`;

export const VIEWS = `
select c.relname as name, pg_get_viewdef(c.oid) as definition
from pg_class as c
where c.relnamespace = ${LEDGER_NAMESPACE}
  and c.relkind = 'v'
  and ${NOT_OF_AN_EXTENSION('pg_class', 'c.oid')}
order by c.relname collate "C"`;

export const FUNCTIONS = `
select p.oid::regprocedure::text as signature, pg_get_functiondef(p.oid) as definition
from pg_proc as p
where p.pronamespace = ${LEDGER_NAMESPACE}
  and p.prokind in ('f', 'p')
  and ${NOT_OF_AN_EXTENSION('pg_proc', 'p.oid')}
order by p.oid::regprocedure::text collate "C"`;
