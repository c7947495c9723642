import type { Statement } from '../db/statement.js';
import type { MoveStep } from '../schema/shards.js';

export interface StoredException {
  bucket: number | null;
  payer_scope: 'user' | 'organization' | null;
  payer_id: string | null;
  shard: string;
  moving_to: string | null;
  step: MoveStep | null;
}

export interface DirectoryRow {
  placing: string[];
  exceptions: StoredException[];
}

/** Everything, in one snapshot: exceptions are few. */
export const READ_DIRECTORY: Statement = {
  name: 'microdollar_shard_directory',
  text: `/* shards.readDirectory */
select array(
    select r.name from microdollar_shards as r where r.is_placing order by r.name
  ) as placing,
  (
    select coalesce(jsonb_agg(jsonb_build_object('bucket', d.bucket, 'payer_scope', d.payer_scope,
      'payer_id', d.payer_id, 'shard', d.shard, 'moving_to', d.moving_to, 'step', d.step)), '[]')
    from microdollar_shard_directory as d
  ) as exceptions`,
  values: [],
};

/** Where payers are by rows of their own, as one number: a switch makes it another one. */
export const PLACES: Statement = {
  name: 'microdollar_shard_places',
  text: `/* shards.places */
select coalesce(sum(hashtextextended(concat_ws(' ', d.payer_scope, d.shard, d.payer_id), 0)), 0)::text
  as places
from microdollar_shard_directory as d
where d.payer_id is not null`,
  values: [],
};
