import { TtlCache } from '../accounts/ttlCache.js';
import { queryOnPool } from '../db/query.js';
import { LedgerError } from '../errors.js';
import type { Ledger } from '../ledgerTypes.js';
import { askParts, isSharded } from './parts.js';

/** For how long it is believed that a shard that is away does not know a user. */
const UNKNOWN_TTL_MS = 15 * 60_000;
const MAX_REMEMBERED = 200_000;
const unknownOn = new WeakMap<object, TtlCache<true>>();

/**
 * What the parts know of a user, who may act for organizations of any. One that is away is left out where it
 * did not know the user within the last quarter of an hour: else its outage would be everybody's.
 * @throws LedgerError `unavailable` naming a shard that is away and may know the user
 */
export async function askOfUser<T>(
  ledger: Ledger,
  kiloUserId: string,
  ask: (part: Ledger) => Promise<T>,
): Promise<T[]> {
  if (!isSharded(ledger)) return [await ask(ledger)];
  const unknown = unknownOf(ledger);
  const answers = await askParts(ledger, async (part, name) => {
    const key = `${name} ${kiloUserId}`;
    try {
      const [answer, isKnown] = await Promise.all([ask(part), knows(part, kiloUserId)]);
      if (!isKnown) unknown.set(key, true, UNKNOWN_TTL_MS);
      return [answer];
    } catch (error) {
      const isAway = error instanceof LedgerError && error.code === 'unavailable';
      if (isAway && unknown.get(key)) return [];
      throw error;
    }
  });
  return answers.flat();
}

async function knows({ pool }: Ledger, kiloUserId: string): Promise<boolean> {
  const rows = await queryOnPool(
    pool,
    false,
  )({
    name: 'microdollar_shard_knows_user',
    text: `/* shards.knowsUser */
select from kilocode_users as u where u.id = $1::text`,
    values: [kiloUserId],
  });
  return rows.length > 0;
}

function unknownOf(ledger: object): TtlCache<true> {
  let unknown = unknownOn.get(ledger);
  if (unknown === undefined) {
    unknown = new TtlCache(MAX_REMEMBERED);
    unknownOn.set(ledger, unknown);
  }
  return unknown;
}
