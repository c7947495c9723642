import { DEFAULT_PARTITION, USAGE } from './months.js';

/** What there is on the log, to be carried over to a partitioned table. */
const ON = `to_regclass('${USAGE}')`;

export const TABLE = `
select pg_get_userbyid(c.relowner) as owner, obj_description(c.oid, 'pg_class') as comment,
  c.relpersistence = 'p' as "isPermanent", c.relrowsecurity or c.relforcerowsecurity as "hasPolicies",
  c.relhassubclass or c.relispartition as "isInherited", c.reloftype <> 0 as "isTyped",
  c.relreplident in ('d', 'n') as "hasUsualIdentity",
  exists (
    select from pg_attribute as a
    where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attidentity <> ''
  ) as "hasIdentity",
  to_regclass('${DEFAULT_PARTITION}') is not null as "isNameTaken"
from pg_class as c
where c.oid = ${ON}`;

/** `columns` null: of the table. Those of the owner go without saying. */
export const GRANTS = `
with acl as (
  select null::text as "column", c.relacl as acl, c.relowner as owner
  from pg_class as c
  where c.oid = ${ON}
  union all
  select quote_ident(a.attname), a.attacl, c.relowner
  from pg_attribute as a
  join pg_class as c on c.oid = a.attrelid
  where c.oid = ${ON} and a.attnum > 0 and not a.attisdropped
)
select acl."column", g.privilege_type as privilege, g.is_grantable as "isGrantable",
  case when g.grantee = 0 then 'public' else quote_ident(pg_get_userbyid(g.grantee)) end as grantee
from acl
cross join aclexplode(acl.acl) as g
where g.grantee <> acl.owner
order by 1 nulls first, 4, 2`;

/** Who gets rights on a new table by `alter default privileges`. */
export const DEFAULT_GRANTEES = `
select distinct case when g.grantee = 0 then 'public'
  else quote_ident(pg_get_userbyid(g.grantee)) end as grantee
from pg_default_acl as d
cross join aclexplode(d.defaclacl) as g
join pg_class as c on c.oid = ${ON}
where d.defaclobjtype = 'r'
  and d.defaclrole = current_user::regrole
  and d.defaclnamespace in (0, c.relnamespace)
  and g.grantee <> d.defaclrole`;

/** `tail`: behind the table's name. */
export const INDEXES = `
select i.relname as name, x.indisunique as "isUnique", x.indisvalid and x.indisready as "isValid",
  pg_get_constraintdef(k.oid) as "constraint",
  exists (
    select from pg_attribute as a
    where a.attrelid = x.indrelid and a.attname = 'id'
      and a.attnum = any ((string_to_array(x.indkey::text, ' ')::smallint[])[1:x.indnkeyatts])
  ) as "hasId",
  substring(pg_get_indexdef(i.oid) from position(' USING ' in pg_get_indexdef(i.oid))) as tail
from pg_index as x
join pg_class as i on i.oid = x.indexrelid
left join pg_constraint as k on k.conindid = i.oid and k.conrelid = x.indrelid
  and k.contype in ('p', 'u', 'x')
where x.indrelid = ${ON}
order by i.relname`;

/** Foreign keys of the table, and checks that a partitioned table cannot have. */
export const CONSTRAINTS = `
select k.conname as name, k.contype = 'f' as "isForeignKey", pg_get_constraintdef(k.oid) as definition,
  k.convalidated and (k.contype = 'f' or not k.connoinherit) as "isWhole",
  k.confrelid::regclass::text as "references"
from pg_constraint as k
where k.conrelid = ${ON}
  and k.contype in ('f', 'c')
order by k.conname`;

export const TRIGGERS = `
select t.tgname as name, pg_get_triggerdef(t.oid) as definition,
  case t.tgenabled when 'D' then 'disable' when 'R' then 'enable replica'
    when 'A' then 'enable always' end as state,
  t.tgtype & 1 = 1 and (t.tgoldtable is not null or t.tgnewtable is not null) as "needsTable"
from pg_trigger as t
where t.tgrelid = ${ON}
  and not t.tgisinternal
order by t.tgname`;

export const STATISTICS = `
select s.stxname as name, pg_get_statisticsobjdef(s.oid) as definition
from pg_statistic_ext as s
where s.stxrelid = ${ON}
order by s.stxname`;

/**
 * Views and functions that hold the table by its identity, in a form that makes them anew by its name:
 * each written once, and not once for each column that it reads.
 * `lock`: changes nothing, and locks a view alone; `lock table` would lock every table behind it.
 */
export const DEPENDENTS = `
select 'alter view ' || v.oid::regclass || ' owner to '
    || quote_ident(pg_get_userbyid(v.relowner)) as lock,
  'create or replace view ' || v.oid::regclass
    || case when v.reloptions is null then ''
      else ' with (' || array_to_string(v.reloptions, ', ') || ')' end
    || ' as ' || pg_get_viewdef(v.oid) as definition
from pg_class as v
where v.relkind = 'v'
  and v.oid in (
    select r.ev_class
    from pg_depend as d
    join pg_rewrite as r on r.oid = d.objid
    where d.classid = 'pg_rewrite'::regclass
      and d.refclassid = 'pg_class'::regclass
      and d.refobjid = ${ON}
  )
union all
select null, pg_get_functiondef(p.oid)
from pg_proc as p
where p.oid in (
  select d.objid
  from pg_depend as d
  where d.classid = 'pg_proc'::regclass
    and d.refclassid = 'pg_class'::regclass
    and d.refobjid = ${ON}
)
order by 1`;

/** What holds the table, or the type of its rows, by its identity, and cannot be carried over. */
export const IN_THE_WAY = `
with usage as (
  select c.oid, t.oid as row_type, t.typarray as array_type
  from pg_class as c
  join pg_type as t on t.oid = c.reltype
  where c.oid = ${ON}
)
select distinct pg_describe_object(d.classid, d.objid, d.objsubid) as what
from usage as u
join pg_depend as d
  on (d.refclassid = 'pg_class'::regclass and d.refobjid = u.oid)
  or (d.refclassid = 'pg_type'::regclass and d.refobjid in (u.row_type, u.array_type))
where not (d.classid = 'pg_type'::regclass and d.objid in (u.row_type, u.array_type))
  and not (d.classid = 'pg_class'::regclass and d.objid in (
    select x.indexrelid from pg_index as x where x.indrelid = u.oid
    union all
    select c.reltoastrelid from pg_class as c where c.oid = u.oid))
  and not (d.classid = 'pg_class'::regclass and d.deptype = 'a'
    and exists (select from pg_class as s where s.oid = d.objid and s.relkind = 'S'))
  and not (d.classid = 'pg_constraint'::regclass
    and exists (select from pg_constraint as k where k.oid = d.objid and k.conrelid = u.oid))
  and not (d.classid = 'pg_trigger'::regclass
    and exists (select from pg_trigger as t where t.oid = d.objid and t.tgrelid = u.oid))
  and not (d.classid = 'pg_attrdef'::regclass
    and exists (select from pg_attrdef as a where a.oid = d.objid and a.adrelid = u.oid))
  and not (d.classid = 'pg_statistic_ext'::regclass
    and exists (select from pg_statistic_ext as s where s.oid = d.objid and s.stxrelid = u.oid))
  and not (d.classid = 'pg_rewrite'::regclass and d.refclassid = 'pg_class'::regclass
    and exists (
      select from pg_rewrite as r
      join pg_class as v on v.oid = r.ev_class
      where r.oid = d.objid and v.relkind = 'v'))
  and not (d.classid = 'pg_proc'::regclass and d.refclassid = 'pg_class'::regclass)
  and not d.classid = 'pg_publication_rel'::regclass
order by 1`;

/** Publications that would tell of rows under the names of partitions. */
export const PUBLICATIONS = `
select quote_ident(p.pubname) as name, p.puballtables and p.pubviaroot as "isWell"
from pg_publication_tables as t
join pg_publication as p on p.pubname = t.pubname
join pg_class as c on c.oid = ${ON}
where t.tablename = c.relname
  and t.schemaname = c.relnamespace::regnamespace::text
order by 1`;

/**
 * Whether what was made is what there was: `indexes` of the partitioned table that have theirs of the
 * old one, of so many each; `rights` and `columns` that differ; what still holds the old one.
 */
export const MADE = (old: string) => `
with pair as (
  select ${ON} as parent, to_regclass('${old}') as old
), acl as (
  select c.oid, null::name as "column", coalesce(c.relacl, acldefault('r', c.relowner)) as acl
  from pg_class as c
  union all
  select a.attrelid, a.attname, a.attacl from pg_attribute as a where not a.attisdropped
), rights as (
  select acl.oid, row(acl."column", g.grantee, g.privilege_type, g.is_grantable)::text as one
  from acl
  cross join pair as b
  cross join aclexplode(acl.acl) as g
  where acl.oid in (b.parent, b.old)
), columns as (
  select a.attrelid as oid, row(a.attname, a.atttypid, a.atttypmod, a.attnotnull, a.attcollation,
    pg_get_expr(d.adbin, d.adrelid))::text as one
  from pair as b
  join pg_attribute as a on a.attrelid in (b.parent, b.old) and a.attnum > 0 and not a.attisdropped
  left join pg_attrdef as d on d.adrelid = a.attrelid and d.adnum = a.attnum
)
select
  (select count(*) from pg_index as x where x.indrelid = b.parent)::integer as wanted,
  (select count(*) from pg_index as x where x.indrelid = b.old)::integer as present,
  (select count(*) from pg_index as x
    join pg_inherits as i on i.inhrelid = x.indexrelid
    join pg_index as p on p.indexrelid = i.inhparent
    where x.indrelid = b.old and p.indrelid = b.parent and p.indisvalid)::integer as attached,
  array(
    select one from (
      select one from rights group by one having count(*) <> 2
      union all
      select one from columns group by one having count(*) <> 2
    ) as each
  ) as differences,
  array(
    select pg_describe_object(d.classid, d.objid, d.objsubid)
    from pg_depend as d
    where d.refclassid = 'pg_class'::regclass
      and d.refobjid = b.old
      and d.classid in ('pg_rewrite'::regclass, 'pg_proc'::regclass)
  ) as held
from pair as b`;
