import type pg from 'pg';
import { isUuid } from '../ids.js';
import { runStatement } from './runStatement.js';
import { TtlCache } from './ttlCache.js';

/** `unknown`: no such organization. */
export type Membership = 'member' | 'stranger' | 'unknown';

/**
 * A member who was removed stops within this time. "No" is not remembered: a new member is let in
 * at once.
 */
const MEMBER_TTL_MS = 2_000;
const MAX_ENTRIES = 50_000;
const caches = new WeakMap<pg.Pool, TtlCache<true>>();

/** The user's standing in each organization, by lower-case id. One statement, or none. */
export async function findMemberships(
  pool: pg.Pool,
  kiloUserId: string,
  organizationIds: Iterable<string>,
): Promise<Map<string, Membership>> {
  const cache = cacheOf(pool);
  const memberships = new Map<string, Membership>();
  const asked: string[] = [];
  for (const id of new Set([...organizationIds].map((each) => each.toLowerCase()))) {
    const isKnownMember = cache.get(`${id}|${kiloUserId}`) === true;
    memberships.set(id, isKnownMember ? 'member' : 'unknown');
    if (!isKnownMember && isUuid(id)) asked.push(id);
  }
  if (asked.length === 0) return memberships;
  const rows = await runStatement<{ id: string; is_member: boolean }>(
    pool,
    `/* accounts.findMemberships */
     select o.id, m.kilo_user_id is not null as is_member
     from organizations as o
     left join organization_memberships as m
       on m.organization_id = o.id
       and m.kilo_user_id = $1::text
     where o.id = any($2::uuid[])`,
    [kiloUserId, asked],
  );
  for (const row of rows) {
    memberships.set(row.id, row.is_member ? 'member' : 'stranger');
    if (row.is_member) cache.set(`${row.id}|${kiloUserId}`, true, MEMBER_TTL_MS);
  }
  return memberships;
}

export async function isOrganizationMember(
  pool: pg.Pool,
  organizationId: string,
  kiloUserId: string,
): Promise<boolean> {
  const memberships = await findMemberships(pool, kiloUserId, [organizationId]);
  return memberships.get(organizationId.toLowerCase()) === 'member';
}

function cacheOf(pool: pg.Pool): TtlCache<true> {
  let cache = caches.get(pool);
  if (cache === undefined) {
    cache = new TtlCache(MAX_ENTRIES);
    caches.set(pool, cache);
  }
  return cache;
}

/** Asked of the database each time: it decides on money. */
export async function isOrganizationOwner(
  pool: pg.Pool,
  organizationId: string,
  kiloUserId: string,
): Promise<boolean> {
  if (!isUuid(organizationId)) return false;
  const rows = await runStatement(
    pool,
    `/* accounts.isOrganizationOwner */
     select
     from organization_memberships as m
     where m.organization_id = $1::uuid
       and m.kilo_user_id = $2::text
       and m.role = 'owner'`,
    [organizationId, kiloUserId],
  );
  return rows.length > 0;
}
