import { type Statement, textArray } from '../../db/statement.js';
import { PAYER_SCOPES, type PayerScope } from '../../schema/unsettled.js';
import { MOVE_COLUMNS } from './moves.sql.js';

/** The bucket of a key, an SQL expression: of four bytes the last ten bits count (placement.ts). */
const bucketOf = (key: string): string => `(
      select (get_byte(h.hash, 2) & 3) * 256 + get_byte(h.hash, 3)
      from (select sha256(convert_to(${key}, 'UTF8')) as hash) as h
    )`;

export interface BucketPayerRow {
  scope: PayerScope['name'];
  id: string;
}

/** Payers of a bucket that are at home here, but for these keys; reads every payer of the shard. */
export function listBucketStatement(
  bucket: number,
  limit: number,
  without: readonly string[],
): Statement {
  const payers = PAYER_SCOPES.map(
    (scope) => `select '${scope.name}' as scope, u.id::text as id
  from ${scope.payers} as u
  where not u.is_elsewhere
    and ${bucketOf(`'${scope.name}:' || u.id::text`)} = $1::integer
    and '${scope.name}:' || u.id::text <> all ($3::text[])`,
  );
  return {
    name: 'shards_list_bucket',
    text: `/* shards.listBucket */
${payers.join('\nunion all\n')}
limit $2::integer`,
    values: [bucket, limit, textArray(without)],
  };
}

export interface PayerRow {
  /** Of the directory's row. */
  id: string;
  scope: PayerScope['name'];
  payer_id: string;
  shard: string;
}

/** Payers with a row of their own in the directory, where nothing moves. */
export const LIST_PAYER_ROWS: Statement = {
  name: 'shards_list_payer_rows',
  text: `/* shards.listPayerRows */
select d.id, d.payer_scope as scope, d.payer_id, d.shard
from microdollar_shard_directory as d
where d.payer_id is not null
  and d.step is null`,
  values: [],
};

export function findBucketStatement(bucket: number): Statement {
  return {
    name: 'shards_find_bucket',
    text: `/* shards.findBucket */
select ${MOVE_COLUMNS}
from microdollar_shard_directory as d
where d.bucket = $1::integer`,
    values: [bucket],
  };
}

export function beginBucketStatement(bucket: number, from: string, to: string): Statement {
  return {
    name: 'shards_begin_bucket',
    text: `/* shards.beginBucket */
insert into microdollar_shard_directory as d (bucket, shard, moving_to, step, progress)
values ($1::integer, $2::text, $3::text, 'copying', '{}')
on conflict (bucket) do update
set moving_to = excluded.moving_to,
  step = 'copying',
  progress = '{}',
  updated_at = now()
where d.step is null
  and d.shard = excluded.shard
returning ${MOVE_COLUMNS}`,
    values: [bucket, from, to],
  };
}

/** On a shard other than home: it makes new payers of the bucket no more. */
export function closeBucketStatement(bucket: number, to: string): Statement {
  return {
    name: 'shards_close_bucket',
    text: `/* shards.closeBucket */
insert into microdollar_shard_directory as d (bucket, shard)
values ($1::integer, $2::text)
on conflict (bucket) do update
set shard = excluded.shard,
  updated_at = now()`,
    values: [bucket, to],
  };
}

/** On a shard other than home: it may make payers of the bucket. */
export function openBucketStatement(bucket: number): Statement {
  return {
    name: 'shards_open_bucket',
    text: `/* shards.openBucket */
delete from microdollar_shard_directory as d
where d.bucket = $1::integer`,
    values: [bucket],
  };
}

/**
 * The switch of a bucket, all of whose payers are where it goes: one row in place of those of its payers, $2.
 * It stays where the rule says the same: by it home makes no payers of the bucket.
 */
export function switchBucketStatement(id: string, payerRows: readonly string[]): Statement {
  return {
    name: 'shards_switch_bucket',
    text: `/* shards.switchBucket */
with gone as (
  delete from microdollar_shard_directory as p
  where p.id = any ($2::uuid[])
    and p.step is null
)
update microdollar_shard_directory as d
set shard = d.moving_to,
  moving_to = null,
  step = null,
  progress = null,
  updated_at = now()
where d.id = $1::uuid
  and d.step = 'fenced'
returning ${MOVE_COLUMNS}`,
    values: [id, payerRows],
  };
}

/** Buckets by where a row says they are, with what moves them. */
export interface BucketRow {
  bucket: number;
  shard: string;
  moving_to: string | null;
}

export const LIST_BUCKETS: Statement = {
  name: 'shards_list_buckets',
  text: `/* shards.listBuckets */
select d.bucket, d.shard, d.moving_to
from microdollar_shard_directory as d
where d.bucket is not null
order by d.bucket`,
  values: [],
};

export interface RegisteredShard {
  name: string;
  is_placing: boolean;
}

export const LIST_SHARDS: Statement = {
  name: 'shards_list_shards',
  text: `/* shards.listShards */
select r.name, r.is_placing
from microdollar_shards as r
order by r.name`,
  values: [],
};
