import { createHash } from 'node:crypto';
import type { NamedPayer } from '../ledgerTypes.js';
import { SHARD_BUCKETS } from '../schema/shards.js';

/** Who pays, by the one name space of both: `user:<id>` or `organization:<id>`. */
export type PayerKey = `user:${string}` | `organization:${string}`;

/** UUIDs in lower case, as PostgreSQL writes them. */
export function keyOfPayer({ kilo_user_id, organization_id }: NamedPayer): PayerKey {
  return organization_id == null
    ? `user:${kilo_user_id ?? ''}`
    : `organization:${organization_id.toLowerCase()}`;
}

const hash = (text: string): Buffer => createHash('sha256').update(text).digest();

/** The payer's bucket, for ever: the first four bytes of SHA-256, modulo their number. */
export function bucketOf(key: PayerKey): number {
  return hash(key).readUInt32BE(0) % SHARD_BUCKETS;
}

/**
 * The shard that the rule gives a bucket, by rendezvous: of all that place, the one whose hash with the
 * bucket is highest. A shard that is added takes its part of each, and nobody else moves.
 * @throws RangeError without a shard
 */
export function placeBucket(bucket: number, placing: readonly string[]): string {
  let best: string | undefined;
  let highest = -1n;
  for (const shard of placing) {
    const weight = hash(`${bucket}:${shard}`).readBigUInt64BE(0);
    if (weight > highest || (weight === highest && best !== undefined && shard < best)) {
      [best, highest] = [shard, weight];
    }
  }
  if (best === undefined) throw new RangeError('there is no shard to place a bucket on');
  return best;
}

/** The rule for every bucket, so that a look-up hashes a payer and nothing more. */
export function placeBuckets(placing: readonly string[]): string[] {
  return Array.from({ length: SHARD_BUCKETS }, (_, bucket) => placeBucket(bucket, placing));
}
