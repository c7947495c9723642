import { randomUUID } from 'node:crypto';
import type { NamedPayer } from '../../src/ledgerTypes.js';
import { bucketOf, keyOfPayer, placeBucket } from '../../src/shards/placement.js';

/** The shard that the rule gives a payer. */
export const shardOf = (payer: NamedPayer, names: readonly string[]): string =>
  placeBucket(bucketOf(keyOfPayer(payer)), names);

/** A new id whose payer the rule places on this shard. */
export function idOn(
  shard: string,
  names: readonly string[],
  kind: 'kilo_user_id' | 'organization_id' = 'kilo_user_id',
): string {
  for (;;) {
    const id = randomUUID();
    if (shardOf({ [kind]: id }, names) === shard) return id;
  }
}
