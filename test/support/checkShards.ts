import type pg from 'pg';
import { bucketOf, keyOfPayer, placeBucket } from '../../src/shards/placement.js';

const PAYERS = `
select 'user' as scope, u.id, u.is_elsewhere, u.deleted_at is not null as is_deleted,
  u.microdollars_used <> 0 or u.total_microdollars_acquired <> 0 or exists (
    select from microdollar_usage as m where m.kilo_user_id = u.id and m.organization_id is null
  ) as has_money
from kilocode_users as u
union all
select 'organization', o.id::text, o.is_elsewhere, false,
  o.microdollars_used <> 0 or o.total_microdollars_acquired <> 0 or exists (
    select from microdollar_usage as m where m.organization_id = o.id)
from organizations as o`;
const IDS = `
select m.id, coalesce('organization:' || m.organization_id, 'user:' || m.kilo_user_id) as payer
from microdollar_usage as m`;
const DIRECTORY = `
select d.bucket, d.payer_scope || ':' || d.payer_id as payer, d.shard
from microdollar_shard_directory as d`;
const PLACING = 'select name from microdollar_shards where is_placing order by name';

interface PayerRow {
  scope: 'user' | 'organization';
  id: string;
  is_elsewhere: boolean;
  is_deleted: boolean;
  has_money: boolean;
}

/**
 * Over all shards, home first, with no move under way: each payer has its money on exactly one, the one that
 * the directory names; nobody has any where they are elsewhere; no usage is twice; a deleted user is so
 * everywhere.
 * @returns violations in words; empty = none
 */
export async function checkShards(
  shards: readonly { name: string; pool: pg.Pool }[],
): Promise<string[]> {
  const home = shards[0]?.pool;
  if (home === undefined) return ['there is no shard'];
  const placing = (await home.query<{ name: string }>(PLACING)).rows.map(({ name }) => name);
  const { rows: exceptions } = await home.query<{ bucket: number; payer: string; shard: string }>(
    DIRECTORY,
  );
  const ofBucket = new Map(exceptions.map(({ bucket, shard }) => [bucket, shard]));
  const ofPayer = new Map(exceptions.map(({ payer, shard }) => [payer, shard]));
  const violations: string[] = [];
  const found = new Map<string, string[]>();
  const known = new Map<string, boolean[]>();
  const seen = new Map<string, string>();
  for (const { name, pool } of shards) {
    for (const payer of (await pool.query<PayerRow>(PAYERS)).rows) {
      const key = keyOfPayer(
        payer.scope === 'user' ? { kilo_user_id: payer.id } : { organization_id: payer.id },
      );
      known.set(key, [...(known.get(key) ?? []), payer.is_deleted]);
      if (!payer.is_elsewhere) found.set(key, [...(found.get(key) ?? []), name]);
      else if (payer.has_money) violations.push(`${key} has money on ${name}, where it is not`);
      const bucket = bucketOf(key);
      const place = ofPayer.get(key) ?? ofBucket.get(bucket) ?? placeBucket(bucket, placing);
      if (!payer.is_elsewhere && place !== name) {
        violations.push(`${key} is on ${name}, the directory says ${place}`);
      }
    }
    for (const { id, payer } of (await pool.query<{ id: string; payer: string }>(IDS)).rows) {
      const where = seen.get(`${payer} ${id}`);
      if (where !== undefined) violations.push(`${id} of ${payer} is on ${where} and on ${name}`);
      seen.set(`${payer} ${id}`, name);
    }
  }
  for (const [key, deleted] of known) {
    const places = found.get(key) ?? [];
    if (places.length !== 1) violations.push(`${key} is on ${places.join(', ') || 'no shard'}`);
    if (new Set(deleted).size > 1) violations.push(`${key} is deleted on some shards alone`);
  }
  return violations.sort();
}
