import { DEFINITIONS } from './localSchema.sql.js';

/** The ledger's objects in the schema of the session's search path; each as the catalog writes it. */
const NAMESPACE = 'quote_ident(current_schema())::regnamespace';

export const TABLES = `/* citus.tables */
select quote_ident(c.relname) as name
from pg_class as c
where c.relnamespace = ${NAMESPACE}
  and c.relkind = 'r'
order by c.oid`;

/** Columns that a sequence fills: on other nodes there is none. */
export const SEQUENCES = `/* citus.sequences */
select quote_ident(c.relname) as name,
  quote_ident(a.attname) || ' ' || format_type(a.atttypid, a.atttypmod) as statement,
  format('alter table %I alter column %I drop %s', c.relname, a.attname,
    case when a.attidentity = '' then 'default' else 'identity' end) as removal
from pg_class as c
join pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
left join pg_attrdef as d on d.adrelid = a.attrelid and d.adnum = a.attnum
where c.relnamespace = ${NAMESPACE}
  and c.relkind = 'r'
  and (a.attidentity <> '' or pg_get_expr(d.adbin, d.adrelid) like 'nextval(%')
order by c.oid, a.attnum`;

/** Triggers are of the node's own tables, whose names end with the number of a shard. */
export const FUNCTIONS = `/* citus.functions */
select p.oid::regprocedure::text as name,
  replace(pg_get_functiondef(p.oid), 'tg_table_name',
    $$regexp_replace(tg_table_name, '_[0-9]+$', '')$$) as statement,
  format('drop function %s', p.oid::regprocedure) as removal
from pg_proc as p
where p.pronamespace = ${NAMESPACE}
order by p.oid`;

export const VIEWS = `/* citus.views */
select quote_ident(c.relname) as name,
  format('create view %I as %s', c.relname, pg_get_viewdef(c.oid)) as statement,
  format('drop view if exists %I cascade', c.relname) as removal
from pg_class as c
where c.relnamespace = ${NAMESPACE}
  and c.relkind = 'v'
order by c.oid`;

export const TRIGGERS = `/* citus.triggers */
select quote_ident(c.relname) as name, pg_get_triggerdef(t.oid, true) as statement,
  format('drop trigger %I on %I', t.tgname, c.relname) as removal
from pg_trigger as t
join pg_class as c on c.oid = t.tgrelid
where c.relnamespace = ${NAMESPACE}
  and not t.tgisinternal
order by t.oid`;

export const CREATE_DEFINITIONS = `create table ${DEFINITIONS} (
  ordinal integer primary key,
  kind text not null,
  name text not null,
  statement text not null
)`;

export const ADD_DEFINITION = `insert into ${DEFINITIONS} (ordinal, kind, name, statement)
values ($1::integer, $2::text, $3::text, $4::text)`;

/** What is in the schema $1, by the coordinator. */
export const SCHEMA_STATE = `/* citus.schemaState */
select exists (select from pg_class as c where c.relnamespace = s.oid) as has_tables,
  exists (
    select from pg_class as c where c.relnamespace = s.oid and c.relname = '${DEFINITIONS}'
  ) as is_prepared,
  exists (select from pg_dist_schema as d where d.schemaid = s.oid) as is_distributed
from pg_namespace as s
where s.nspname = $1`;

/** What `migrate` requires of the cluster; see docs/operations/citus.md. */
export const CLUSTER = `/* citus.cluster */
select (select e.extversion from pg_extension as e where e.extname = 'citus') as version,
  (select g.groupid = 0 from pg_dist_local_group as g) as is_coordinator,
  count(*) filter (where n.shouldhaveshards) as holders,
  array_agg(format('%s:%s', n.nodename, n.nodeport)) filter (where not n.metadatasynced) as unsynced
from pg_dist_node as n
where n.noderole = 'primary'
  and n.isactive`;
