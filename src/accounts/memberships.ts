import type pg from 'pg';
import { elsewhere, LedgerError } from '../errors.js';
import { isUuid, readUuid } from '../ids.js';
import { invalidField, readText } from './fields.js';
import { runStatement } from './runStatement.js';
import { TtlCache } from './ttlCache.js';

/** `unknown`: no such organization, or one of another shard. */
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
  const keep = cache.begin();
  const rows = await runStatement<{ id: string; is_member: boolean }>(
    pool,
    `/* accounts.findMemberships */
     select o.id, m.kilo_user_id is not null as is_member
     from organizations as o
     left join organization_memberships as m
       on m.organization_id = o.id
       and m.kilo_user_id = $1::text
     where o.id = any($2::uuid[])
       and not o.is_elsewhere`,
    [kiloUserId, asked],
  );
  for (const row of rows) {
    memberships.set(row.id, row.is_member ? 'member' : 'stranger');
    if (row.is_member) keep(`${row.id}|${kiloUserId}`, true, MEMBER_TTL_MS);
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

/** What a member may: an owner also reads what the other members and their keys spend. */
export const ROLES = ['owner', 'member'] as const;
export type Role = (typeof ROLES)[number];

/** @throws LedgerError `invalid_request` */
export function readRoleName(value: string): Role {
  const role = ROLES.find((each) => each === value);
  if (role !== undefined) return role;
  throw invalidField('role', `must be one of ${ROLES.join(', ')}`);
}

/** The user's role in the organization, null for none. Asked anew each time. */
export async function readRole(
  pool: pg.Pool,
  organizationId: string,
  kiloUserId: string,
): Promise<string | null> {
  const [row] = await runStatement<{ role: string }>(
    pool,
    `/* accounts.readRole */
     select role from organization_memberships
     where organization_id = $1::uuid and kilo_user_id = $2::text`,
    [readUuid('organization_id', organizationId), kiloUserId],
  );
  return row?.role ?? null;
}

/** Every organization of a user. Asked anew each time. */
export function listMemberships(
  pool: pg.Pool,
  kiloUserId: string,
): Promise<{ organization_id: string; role: string }[]> {
  return runStatement(
    pool,
    `/* accounts.listMemberships */
     select organization_id, role from organization_memberships where kilo_user_id = $1::text`,
    [kiloUserId],
  );
}

/** Who asks for a change; absent: an administrator. Else an owner at that moment, of whom one stays. */
export interface ChangedBy {
  by?: string;
}

/**
 * CTE `judged`: whether $3 may change the organization $1, and whether it keeps an owner without $2, as it
 * must unless it is an administrator who asks. Owners are locked, so of two who take each other's place the
 * second one finds itself alone.
 */
const JUDGED = `owners as materialized (
       select m.kilo_user_id
       from organization_memberships as m
       where m.organization_id = $1::uuid
         and m.role = 'owner'
       order by m.kilo_user_id
       for update
     ), judged as materialized (
       select exists (
           select from organizations as o where o.id = $1::uuid and o.is_elsewhere) as is_elsewhere,
         $3::text is null or exists (
           select from owners as o where o.kilo_user_id = $3) as is_allowed,
         exists (select from owners as o where o.kilo_user_id <> $2::text)
           or not exists (select from owners as o where o.kilo_user_id = $2::text) as leaves_owner
     )`;

interface JudgedRow {
  is_elsewhere: boolean;
  is_allowed: boolean;
  leaves_owner: boolean;
  /** Null: nothing was changed. */
  role: string | null;
}

/** @throws LedgerError `invalid_request`, `not_found`, `forbidden` */
export async function setMemberRole(
  pool: pg.Pool,
  organizationId: string,
  kiloUserId: string,
  role: string,
  { by }: ChangedBy = {},
): Promise<{ organization_id: string; kilo_user_id: string; role: string }> {
  const rows = await runStatement<JudgedRow>(
    pool,
    `/* accounts.setMemberRole */
     with ${JUDGED}, changed as (
       update organization_memberships as m
       set role = $4::text
       from judged as j
       where m.organization_id = $1::uuid
         and m.kilo_user_id = $2::text
         and not j.is_elsewhere
         and j.is_allowed
         and (j.leaves_owner or $3::text is null or $4::text = 'owner')
       returning m.role
     )
     select j.is_elsewhere, j.is_allowed, j.leaves_owner, c.role
     from judged as j
     left join changed as c on true`,
    [
      readUuid('organization_id', organizationId),
      readText('kilo_user_id', kiloUserId),
      by ?? null,
      readRoleName(role),
    ],
  );
  return {
    organization_id: organizationId.toLowerCase(),
    kilo_user_id: kiloUserId,
    role: roleAfter(rows),
  };
}

/**
 * By an owner, or by the member: who leaves. Reports refuse at once; writes within `MEMBER_TTL_MS`, in
 * this process at once. What was used stays the organization's.
 * @returns whether it was the last owner, whom an administrator alone can take
 * @throws LedgerError `invalid_request`, `not_found`, `forbidden`
 */
export async function removeOrganizationMember(
  pool: pg.Pool,
  organizationId: string,
  kiloUserId: string,
  { by }: ChangedBy = {},
): Promise<{ was_last_owner: boolean }> {
  const rows = await runStatement<JudgedRow>(
    pool,
    `/* accounts.removeOrganizationMember */
     with ${JUDGED}, changed as (
       delete from organization_memberships as m
       using judged as j
       where m.organization_id = $1::uuid
         and m.kilo_user_id = $2::text
         and not j.is_elsewhere
         and (j.is_allowed or m.kilo_user_id = $3::text)
         and (j.leaves_owner or $3::text is null)
       returning m.role
     )
     select j.is_elsewhere, j.is_allowed or $2::text = $3::text as is_allowed, j.leaves_owner, c.role
     from judged as j
     left join changed as c on true`,
    [readUuid('organization_id', organizationId), readText('kilo_user_id', kiloUserId), by ?? null],
  );
  const removed = `${organizationId.toLowerCase()}|${kiloUserId}`;
  cacheOf(pool).deleteWhere((_value, key) => key === removed);
  roleAfter(rows);
  return { was_last_owner: rows[0]?.leaves_owner === false };
}

/** The member's role; of one who was removed, the one that they had. */
function roleAfter([row]: readonly JudgedRow[]): string {
  if (row?.is_elsewhere) throw elsewhere('organization');
  if (!row?.is_allowed) throw noOwner('changes its members');
  if (row.role !== null) return row.role;
  if (row.leaves_owner) throw noMember();
  throw new LedgerError(
    'forbidden',
    'an organization keeps an owner; make another member one first',
    { details: { field: 'kilo_user_id' } },
  );
}

/** @param what an owner does, as in "only an owner of the organization reads its keys" */
export function noOwner(what: string): LedgerError {
  return new LedgerError('forbidden', `only an owner of the organization ${what}`, {
    details: { field: 'organization_id' },
  });
}

function noMember(): LedgerError {
  return new LedgerError('not_found', 'the user is not a member of this organization', {
    details: { field: 'kilo_user_id' },
  });
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
