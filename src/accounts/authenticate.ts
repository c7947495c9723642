import { createHash } from 'node:crypto';
import type pg from 'pg';
import { LedgerError } from '../errors.js';
import { isElsewhereSql } from '../schema/elsewhere.js';
import { noteKeyUse } from './keyUse.js';
import { runStatement } from './runStatement.js';
import { SCOPES, type Scope } from './scopes.js';
import { TtlCache } from './ttlCache.js';

/** Whom a key acts for. No user = a service key. */
export interface ApiKeyIdentity {
  id: string;
  kilo_user_id: string | null;
  organization_id: string | null;
  scopes: Scope[];
  /** Hard budgets of the key are in force: they bind whoever pays. */
  has_budgets: boolean;
}

/** A revoked key stops within this time in processes that did not revoke it. */
const POSITIVE_TTL_MS = 2_000;
const NEGATIVE_TTL_MS = 2_000;
const MAX_POSITIVE = 20_000;
const MAX_NEGATIVE = 5_000;
const KEY_FORMAT = /^md_[A-Za-z0-9_-]{43}$/;

interface KeyCache {
  known: TtlCache<ApiKeyIdentity>;
  /** Apart from `known`, so that guessed keys push no real one out. */
  unknown: TtlCache<true>;
  /** One look-up per key at a time, however many requests arrive with it. */
  inFlight: Map<string, Promise<ApiKeyIdentity | null>>;
}

const caches = new WeakMap<pg.Pool, KeyCache>();

export function hashApiKey(key: string): string {
  return createHash('sha256').update(key).digest('hex');
}

/**
 * Whom the key acts for; null when it is unknown or revoked, or its user was deleted. Looked up
 * by hash, so the comparison tells an attacker nothing about the secret. Pass the primary's pool:
 * a replica may not know of a revocation yet.
 * @param looksAgain that it was unknown a moment ago is not believed
 * @throws LedgerError `unavailable`, also while its payer is on the way to another shard (`isElsewhere`)
 */
export async function authenticateApiKey(
  pool: pg.Pool,
  key: string,
  looksAgain = false,
): Promise<ApiKeyIdentity | null> {
  if (!KEY_FORMAT.test(key)) return null;
  const cache = cacheOf(pool);
  const keyHash = hashApiKey(key);
  const identity = await identify(pool, keyHash, cache, looksAgain);
  if (identity !== null) noteKeyUse(pool, identity.id);
  return identity;
}

function identify(
  pool: pg.Pool,
  keyHash: string,
  cache: KeyCache,
  looksAgain: boolean,
): ApiKeyIdentity | null | Promise<ApiKeyIdentity | null> {
  const known = cache.known.get(keyHash);
  if (known !== undefined) return known;
  if (!looksAgain && cache.unknown.get(keyHash)) return null;
  let lookup = cache.inFlight.get(keyHash);
  if (lookup === undefined) {
    lookup = findApiKey(pool, keyHash, cache).finally(() => cache.inFlight.delete(keyHash));
    cache.inFlight.set(keyHash, lookup);
  }
  return lookup;
}

/** After a revocation in this process. Looks that began before it are nobody else's answer. */
export function forgetApiKey(pool: pg.Pool, id: string): void {
  const cache = caches.get(pool);
  cache?.known.deleteWhere((identity) => identity.id === id);
  cache?.inFlight.clear();
}

async function findApiKey(
  pool: pg.Pool,
  keyHash: string,
  cache: KeyCache,
): Promise<ApiKeyIdentity | null> {
  const keep = cache.known.begin();
  const [found] = await runStatement<
    Omit<ApiKeyIdentity, 'scopes'> & { scopes: string[]; is_elsewhere: boolean | null }
  >(
    pool,
    `/* accounts.authenticateApiKey */
     select k.id, k.kilo_user_id, k.organization_id, k.scopes,
       exists (
         select from budgets as b
         where b.api_key_id = k.id and b.removed_at is null and b.is_hard
       ) as has_budgets,
       ${isElsewhereSql('k.kilo_user_id', 'k.organization_id')} as is_elsewhere
     from api_keys as k
     left join kilocode_users as u on u.id = k.kilo_user_id
     where k.key_hash = $1::text
       and k.revoked_at is null
       and (k.kilo_user_id is null or (u.id is not null and u.deleted_at is null))`,
    [keyHash],
  );
  // Whether it is still good is known where its payer is, or will be in a moment.
  if (found?.is_elsewhere) {
    throw new LedgerError('unavailable', 'the payer of this key is on the way to another shard', {
      details: { is_elsewhere: true },
    });
  }
  if (found === undefined) {
    cache.unknown.set(keyHash, true, NEGATIVE_TTL_MS);
    return null;
  }
  const { is_elsewhere: _, ...row } = found;
  const identity = { ...row, scopes: SCOPES.filter((scope) => row.scopes.includes(scope)) };
  keep(keyHash, identity, POSITIVE_TTL_MS);
  return identity;
}

function cacheOf(pool: pg.Pool): KeyCache {
  let cache = caches.get(pool);
  if (cache === undefined) {
    cache = {
      known: new TtlCache(MAX_POSITIVE),
      unknown: new TtlCache(MAX_NEGATIVE),
      inFlight: new Map(),
    };
    caches.set(pool, cache);
  }
  return cache;
}
