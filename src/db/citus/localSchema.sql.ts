import pg from 'pg';
import { MOVED } from '../sqlstate.js';

/** Of the session that makes or reads tables of Citus' shards by their own names. */
export const LOCAL_SETTINGS: Readonly<Record<string, string>> = {
  'citus.enable_schema_based_sharding': 'off',
  'citus.use_citus_managed_tables': 'off',
  'citus.enable_ddl_propagation': 'off',
  'citus.enable_manual_changes_to_shards': 'on',
  check_function_bodies: 'off',
  client_min_messages: 'warning',
  lock_timeout: '10s',
  statement_timeout: '60s',
};

/** Table of the schema that says what the local schema is made of; it moves with the others. */
export const DEFINITIONS = 'microdollar_citus_definitions';

export interface NodeRow {
  host: string;
  port: number;
  group_id: number;
  /** Of `ledger_settings`: all tables of the schema are placed together. */
  shard_id: string;
}

/** Where Citus has the schema $1, by the metadata of the node that is asked. */
export const FIND_NODE = `/* citus.findNode */
select n.nodename as host, n.nodeport as port, n.groupid as group_id, p.shardid::text as shard_id
from pg_dist_schema as d
join pg_namespace as s on s.oid = d.schemaid
join pg_class as c on c.relnamespace = s.oid and c.relname = 'ledger_settings'
join pg_dist_shard as t on t.logicalrelid = c.oid
join pg_dist_placement as p on p.shardid = t.shardid
join pg_dist_node as n on n.groupid = p.groupid and n.noderole = 'primary'
where s.nspname = $1`;

/**
 * Whether every node knows of the placement: the commits of a move reach them one after the other, and until
 * the old node has its own it still answers reads; also one that the coordinator does not reach, so all
 * have to answer. Nobody moves a schema while one is away. Run on the coordinator.
 */
export const isAgreed = (shardId: string, groupId: number): string => `/* citus.isAgreed */
select coalesce(bool_and(r.success and r.result = '${groupId}'), true) as agreed
from run_command_on_workers(
  'select groupid::text from pg_dist_placement where shardid = ${shardId}') as r`;

/** Of the schema $1 and its local one $2, by the node itself: whether it has them. */
export const LOCAL_STATE = `/* citus.localState */
select exists (
    select
    from pg_dist_shard as t
    join pg_class as c on c.oid = t.logicalrelid
    join pg_namespace as s on s.oid = c.relnamespace
    join pg_dist_placement as p on p.shardid = t.shardid
    where s.nspname = $1
      and c.relname = 'ledger_settings'
      and p.groupid = (select g.groupid from pg_dist_local_group as g)
  ) as is_here,
  exists (
    select
    from pg_class as v
    join pg_namespace as s on s.oid = v.relnamespace
    where s.nspname = $2
      and v.relname = 'ledger_settings'
  ) as is_built`;

/** Tables of the schema $1, and the table of the node that has the rows of each. */
export const SHARD_TABLES = `/* citus.shardTables */
select c.relname as name, shard_name(t.logicalrelid, t.shardid) as physical, t.shardid::text as shard_id
from pg_dist_shard as t
join pg_class as c on c.oid = t.logicalrelid
join pg_namespace as s on s.oid = c.relnamespace
where s.nspname = $1
order by t.shardid`;

/** Whether the placement is of this node, in the snapshot of who asks. */
const HERE = (shardId: string): string => `p.shardid = ${shardId}
      and p.groupid = (select g.groupid from pg_dist_local_group as g)`;

const RAISE = `raise exception '${MOVED.message}' using errcode = '${MOVED.code}'`;

/**
 * Before a read, in its own snapshot: if that shows the schema here, it shows all that was ever
 * written here, and a write elsewhere is younger.
 */
export const assertHere = (shardId: string): string => `
create function microdollar_assert_here() returns boolean
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
begin
  if not exists (select from pg_dist_placement as p where ${HERE(shardId)}) then
    ${RAISE};
  end if;
  return true;
end
$$`;

/**
 * Before a write, once a statement and table: the lock that Citus' own writes hold until they commit, and
 * which a move takes exclusively before it copies the last of them; then whether the schema is
 * still here. Waits as long as a move keeps every writer of Citus waiting. A snapshot from before the
 * wait (repeatable read) does not show that a move has ended, but the row's xmax does.
 */
export const enterShard = (shardId: string): string => `
create function microdollar_enter_shard() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp set lock_timeout = '30s' as $$
declare
  v_xmax xid;
  v_now bigint;
begin
  perform lock_shard_metadata(${SHARE_LOCK}, array[${shardId}]);
  select p.xmax into v_xmax from pg_dist_placement as p where ${HERE(shardId)};
  v_now := pg_current_xact_id()::text::bigint;
  -- The nearest transaction with those 32 bits; age() may count from one that it met before.
  if not found or (v_xmax <> '0'::xid and pg_xact_status(
      (v_now - (((v_now - v_xmax::text::bigint + 2147483648) & 4294967295) - 2147483648))::text::xid8
    ) is distinct from 'aborted') then
    ${RAISE};
  end if;
  return null;
end
$$`;

/** As PostgreSQL numbers the modes of locks. */
const SHARE_LOCK = 5;

/** Tables with rows that are recognised by what wrote them last (rollup/coverage.sql.ts). */
const WITH_XMIN: readonly string[] = ['rollup_coverage'];

/**
 * A view in place of a table that Citus knows: the planner of Citus sees the node's own table, which
 * means nothing to it, so any statement runs as it is. The subquery is run once a statement.
 */
export function localView(name: string, physical: string): string {
  const columns = WITH_XMIN.includes(name) ? '*, xmin' : '*';
  return `create view ${pg.escapeIdentifier(name)} as
select ${columns} from ${physical} where (select microdollar_assert_here())`;
}

export const enterTrigger = (physical: string): string =>
  `create trigger microdollar_enter_shard before insert or update or delete on ${physical}
for each statement execute function microdollar_enter_shard()`;
