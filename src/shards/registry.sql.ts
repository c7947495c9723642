import type { Statement } from '../db/statement.js';

export interface ShardStateRow {
  /** Of the database and schema, whatever the URL says: two that are equal are one. */
  identity: string;
  installation_id: string | null;
  shard_name: string | null;
  /** Whether it has users or organizations of its own. */
  has_payers: boolean;
  /** Names in its registry; of home those of the installation, of others none. */
  registered: string[];
}

/**
 * What a ledger says of itself. Where the cluster's identity is not for this role, the server's start tells.
 */
export const SHARD_STATE: Statement = {
  name: 'microdollar_shard_state',
  text: `/* shards.state */
select concat_ws('/',
    case when has_function_privilege('pg_control_system()', 'execute')
      then (select c.system_identifier::text from pg_control_system() as c)
      else pg_postmaster_start_time()::text end,
    (select d.oid from pg_database as d where d.datname = current_database()),
    current_schema()) as identity,
  s.installation_id, s.shard_name,
  exists (select from kilocode_users as u where not u.is_elsewhere)
    or exists (select from organizations as o where not o.is_elsewhere) as has_payers,
  array(select r.name from microdollar_shards as r order by r.name) as registered
from ledger_settings as s`,
  values: [],
};

/**
 * Makes a ledger a shard, once. Programs of versions before would not look whether a payer is elsewhere: they
 * must not work beside. $1 installation, $2 name, $3 the migration that they do not know.
 */
export const JOIN = `/* shards.join */
update ledger_settings
set installation_id = $1::uuid,
  shard_name = $2::text,
  breaking_migrations = array_append(array_remove(breaking_migrations, $3::text), $3::text),
  updated_at = now()
where shard_name is null
   or (installation_id = $1::uuid and shard_name = $2::text)
returning shard_name`;

/** Home's settings first: two that join at once do so one after the other. */
export const LOCK_REGISTRY = `/* shards.lockRegistry */
select s.installation_id from ledger_settings as s for update`;

/** Shards $1, placing from now on. */
export const REGISTER = `/* shards.register */
insert into microdollar_shards (name, is_placing)
select n, true from unnest($1::text[]) as n`;

export const READ_PLACING = `/* shards.readPlacing */
select r.name, r.is_placing from microdollar_shards as r order by r.name`;

/** Buckets $1 stay where they are, $2; those that an exception names already are there. */
export const KEEP_BUCKETS = `/* shards.keepBuckets */
insert into microdollar_shard_directory (bucket, shard)
select b.bucket, b.shard
from unnest($1::integer[], $2::text[]) as b(bucket, shard)
on conflict (bucket) do nothing`;
