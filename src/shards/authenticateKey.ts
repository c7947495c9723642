import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { type ApiKeyIdentity, authenticateApiKey, hashApiKey } from '../accounts/authenticate.js';
import { TtlCache } from '../accounts/ttlCache.js';
import { isElsewhere } from '../errors.js';
import { mapBounded } from './mapBounded.js';
import { onPart } from './parts.js';
import { MAX_AT_ONCE } from './scatter.js';

interface Part {
  readonly name: string | null;
  readonly ledger: { pool: pg.Pool };
}

/** Where keys are looked for. */
export interface KeyHolders {
  readonly parts: readonly Part[];
}

/** Where keys were found, by their hash. Old, a place costs a look at every shard. */
interface KnownKeys {
  places: TtlCache<string>;
  /** On no shard, apart: guessed keys push no real one out. */
  absent: TtlCache<true>;
}

const PLACE_TTL_MS = 10 * 60_000;
const MAX_PLACES = 100_000;
const ABSENT_TTL_MS = 2_000;
const MAX_ABSENT = 5_000;
/** For a key whose payer is on the way to another shard. */
const WAIT_MS = 2_000;
const PAUSE_MS = 50;
const knownKeys = new WeakMap<object, KnownKeys>();

/**
 * Whom a key acts for, on whatever shard it is; null: on none. A key that was found before is asked of its
 * shard alone; else all are asked at once, for a key does not tell whose it is. With a shard away an unknown
 * key may be one of its own: that is no answer.
 * @throws LedgerError `unavailable` naming the shard
 */
export async function authenticateKey(
  holders: KeyHolders,
  key: string,
): Promise<ApiKeyIdentity | null> {
  const { parts } = holders;
  const [only] = parts;
  if (only !== undefined && parts.length === 1) {
    return await onPart(only.name, () => authenticateApiKey(only.ledger.pool, key));
  }
  const known = knownOf(holders);
  const hash = hashApiKey(key);
  const name = known.places.get(hash);
  const place = name === undefined ? undefined : parts.find((part) => part.name === name);
  if (place !== undefined) {
    // Revoked, moved or away: the others tell which.
    const identity = await authenticateApiKey(place.ledger.pool, key).catch(() => null);
    if (identity !== null) return identity;
  }
  if (known.absent.get(hash)) return null;
  const found = await lookEverywhere(parts, key);
  if (found === null) {
    known.absent.set(hash, true, ABSENT_TTL_MS);
    return null;
  }
  known.places.set(hash, found.name ?? '', PLACE_TTL_MS);
  return found.identity;
}

/**
 * Two looks without a trace are needed: of a key that moves between the questions to two shards the first may
 * see neither.
 */
async function lookEverywhere(parts: readonly Part[], key: string) {
  const deadlineMs = performance.now() + WAIT_MS;
  for (let misses = 0; ; ) {
    const { found, failures } = await lookOnce(parts, key, misses > 0);
    if (found !== null) return found;
    const [failure] = failures;
    if (failure === undefined && ++misses > 1) return null;
    if (failure === undefined) continue;
    // On the way: it is on another shard, or here again, in a moment.
    if (!failures.every(isElsewhere) || performance.now() > deadlineMs) throw failure;
    misses = 1;
    await sleep(PAUSE_MS);
  }
}

async function lookOnce(parts: readonly Part[], key: string, looksAgain: boolean) {
  const failures: unknown[] = [];
  const identities = await mapBounded(parts, MAX_AT_ONCE, async ({ name, ledger }) => {
    try {
      const look = () => authenticateApiKey(ledger.pool, key, looksAgain);
      const identity = await onPart(name, look);
      return identity === null ? null : { name, identity };
    } catch (error) {
      failures.push(error);
      return null;
    }
  });
  return { found: identities.find((each) => each !== null) ?? null, failures };
}

/** Of one ledger: another one has other shards. */
function knownOf(holders: object): KnownKeys {
  let known = knownKeys.get(holders);
  if (known === undefined) {
    known = { places: new TtlCache(MAX_PLACES), absent: new TtlCache(MAX_ABSENT) };
    knownKeys.set(holders, known);
  }
  return known;
}
