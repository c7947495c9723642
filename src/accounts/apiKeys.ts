import { randomBytes } from 'node:crypto';
import type pg from 'pg';
import { elsewhere, LedgerError } from '../errors.js';
import { readUuid } from '../ids.js';
import { isElsewhereSql } from '../schema/elsewhere.js';
import { forgetApiKey, hashApiKey } from './authenticate.js';
import { invalidField, readText, unknownOrganization, unknownUser } from './fields.js';
import { runStatement } from './runStatement.js';
import { readScopes, type Scope } from './scopes.js';

const PREFIX_LENGTH = 11;
export const MAX_KEYS_LISTED = 10_000;
const MAX_NAME_LENGTH = 100;

export interface NewApiKey {
  /** Instead of a new one; a UUID. */
  id?: string | undefined;
  /** What its maker calls it, at most 100 characters. */
  name?: string | null | undefined;
  /** Absent: a service key. */
  kilo_user_id?: string | null | undefined;
  /**
   * Of a user's key: payer of its gateway traffic (the user must be a member). Of a service key:
   * the only organization it may act for.
   */
  organization_id?: string | null | undefined;
  scopes: readonly string[];
}

export interface ApiKey {
  id: string;
  /** First characters of the key, to recognize it. */
  key_prefix: string;
  name: string | null;
  kilo_user_id: string | null;
  organization_id: string | null;
  scopes: Scope[];
  /** ISO 8601. */
  created_at: string;
  /** To about a minute; null = never, or before this was kept. */
  last_used_at: string | null;
  revoked_at: string | null;
}

interface ApiKeyRow extends Omit<ApiKey, 'created_at' | 'last_used_at' | 'revoked_at'> {
  created_at: Date;
  last_used_at: Date | null;
  revoked_at: Date | null;
}

const COLUMNS = `id, key_prefix, name, kilo_user_id, organization_id, scopes, created_at,
       last_used_at, revoked_at`;

/** Not of a payer of another shard: the key that counts is there. */
const IS_HERE = `(${isElsewhereSql('k.kilo_user_id', 'k.organization_id')}) is not true`;

/**
 * Makes a key. The answer is the only place where the key itself is ever seen.
 * @throws LedgerError `invalid_request`, `unknown_user`, `unknown_organization`, `forbidden`,
 *   `already_exists` for an id that a key has
 */
export async function createApiKey(
  pool: pg.Pool,
  wanted: NewApiKey,
): Promise<ApiKey & { key: string }> {
  const scopes = readScopes(wanted.scopes);
  const userId = wanted.kilo_user_id ?? null;
  const organizationId = wanted.organization_id ?? null;
  if (userId !== null) readText('kilo_user_id', userId);
  if (userId === null && organizationId !== null && scopes.includes('admin')) {
    throw invalidField('scopes', 'cannot have "admin" on a key limited to an organization');
  }
  const key = `md_${randomBytes(32).toString('base64url')}`;
  const [row] = await runStatement<
    ApiKeyRow & Record<'is_user' | 'is_organization' | 'is_member' | 'is_elsewhere', boolean>
  >(
    pool,
    `/* accounts.createApiKey */
     with found as (
       select
         $3::text is null or exists (
           select from kilocode_users where id = $3 and deleted_at is null) as is_user,
         $4::uuid is null or exists (
           select from organizations where id = $4) as is_organization,
         $3 is null or $4 is null or exists (
           select from organization_memberships
           where organization_id = $4 and kilo_user_id = $3) as is_member,
         coalesce(${isElsewhereSql('$3', '$4')}, false) as is_elsewhere
     ), created as (
       insert into api_keys (id, key_hash, key_prefix, kilo_user_id, organization_id, scopes, name)
       select coalesce($7::uuid, gen_random_uuid()), $1::text, $2::text, $3, $4, $5::text[], $6::text
       from found
       where is_user
         and is_organization
         and is_member
         and not is_elsewhere
       returning ${COLUMNS}
     )
     select found.*, created.*
     from found
     left join created on true`,
    [
      hashApiKey(key),
      key.slice(0, PREFIX_LENGTH),
      userId,
      organizationId === null ? null : readUuid('organization_id', organizationId),
      scopes,
      readName(wanted.name),
      wanted.id === undefined ? null : readUuid('id', wanted.id),
    ],
    'a key with this id exists',
  );
  if (row === undefined) throw new LedgerError('internal', 'the new key was not returned');
  if (!row.is_user) throw unknownUser();
  if (!row.is_organization) throw unknownOrganization();
  if (row.is_elsewhere) throw elsewhere(organizationId === null ? 'user' : 'organization');
  if (!row.is_member) {
    throw new LedgerError(
      'forbidden',
      'the user is not a member of the organization; add the member first',
      { details: { field: 'organization_id' } },
    );
  }
  return { ...toApiKey(row), key };
}

/** Newest first, revoked ones included; never the secrets. */
export async function listApiKeys(pool: pg.Pool): Promise<ApiKey[]> {
  const rows = await runStatement<ApiKeyRow>(
    pool,
    `/* accounts.listApiKeys */
     select ${COLUMNS}
     from api_keys
     order by created_at desc, id
     limit $1`,
    [MAX_KEYS_LISTED],
  );
  return rows.map(toApiKey);
}

/** Keys of a user, or those that pay for an organization; usable ones first, then the newest. */
export async function listKeysOf(
  pool: pg.Pool,
  of: { kiloUserId: string } | { organizationId: string },
  limit: number,
): Promise<ApiKey[]> {
  const [column, type, id] =
    'kiloUserId' in of
      ? ['kilo_user_id', 'text', of.kiloUserId]
      : ['organization_id', 'uuid', readUuid('organization_id', of.organizationId)];
  const rows = await runStatement<ApiKeyRow>(
    pool,
    `/* accounts.listKeysOf */
     select ${COLUMNS}
     from api_keys
     where ${column} = $1::${type}
     order by revoked_at is not null, created_at desc, id
     limit $2::integer`,
    [id, limit],
  );
  return rows.map(toApiKey);
}

/** Which of these keys are the user's, by id. */
export async function findOwnKeys(
  pool: pg.Pool,
  kiloUserId: string,
  ids: readonly string[],
): Promise<Set<string>> {
  if (ids.length === 0) return new Set();
  const rows = await runStatement<{ id: string }>(
    pool,
    `/* accounts.findOwnKeys */
     select id from api_keys where id = any($1::uuid[]) and kilo_user_id = $2::text`,
    [ids, kiloUserId],
  );
  return new Set(rows.map(({ id }) => id));
}

/**
 * Whose a key is; `is_member`: its user is one of the organization's. `begun_ids`: where it is not, the
 * events that are recorded under it already, or that the organization has money held for, or had lately.
 */
export interface NamedKey {
  id: string;
  kilo_user_id: string | null;
  organization_id: string | null;
  is_member: boolean;
  begun_ids: string[];
}

/** Those of these keys that there are, as an organization's usage may name them. */
export function findNamedKeys(
  pool: pg.Pool,
  organizationId: string,
  { ids, eventIds }: { ids: readonly string[]; eventIds: readonly string[] },
): Promise<NamedKey[]> {
  return runStatement(
    pool,
    `/* accounts.findNamedKeys */
     with named as materialized (
       select k.id, k.kilo_user_id, k.organization_id, exists (
         select from organization_memberships as m
         where m.organization_id = $1::uuid and m.kilo_user_id = k.kilo_user_id) as is_member
       from api_keys as k
       where k.id = any($2::uuid[])
     ), begun as materialized (
       select e.id, e.api_key_id
       from (
         select h.id, h.api_key_id
         from usage_holds as h
         where h.id = any($3::uuid[])
           and h.payer_scope = 'organization'
           and h.payer_id = $1::uuid::text
         union all
         select m.id, m.api_key_id
         from microdollar_usage as m
         where m.id = any($3::uuid[])
           and m.organization_id = $1::uuid
       ) as e
       where exists (select from named as n where n.organization_id is null and not n.is_member)
     )
     select n.*, array(select b.id::text from begun as b where b.api_key_id = n.id) as begun_ids
     from named as n`,
    [organizationId, ids, eventIds],
  );
}

/** @throws LedgerError `invalid_request`, `not_found`, both naming the field */
export async function findApiKey(pool: pg.Pool, id: string, field = 'id'): Promise<ApiKey> {
  const [row] = await runStatement<ApiKeyRow>(
    pool,
    `/* accounts.findApiKey */
     select ${COLUMNS}
     from api_keys
     where id = $1::uuid`,
    [readUuid(field, id)],
  );
  if (row === undefined) throw unknownKey(field);
  return toApiKey(row);
}

/**
 * Whose money a key spends: its organization's, else its user's.
 * @throws LedgerError `invalid_request` naming the field, for a service key without an organization
 */
export function payerOfKey(
  { organization_id, kilo_user_id }: ApiKey,
  field: string,
): { organization_id: string } | { kilo_user_id: string } {
  if (organization_id !== null) return { organization_id };
  if (kilo_user_id !== null) return { kilo_user_id };
  throw invalidField(
    field,
    'names a key without a payer of its own; name a user or an organization beside it',
  );
}

/**
 * Whoever was let in before their user was deleted names nothing any more (I11).
 * @throws LedgerError `invalid_request`, `not_found`
 */
export async function renameApiKey(
  pool: pg.Pool,
  id: string,
  name: string | null,
): Promise<ApiKey> {
  const [row] = await runStatement<ApiKeyRow>(
    pool,
    `/* accounts.renameApiKey */
     update api_keys as k
     set name = $2::text
     where k.id = $1::uuid
       and ${IS_HERE}
       and not exists (
         select from kilocode_users as u where u.id = k.kilo_user_id and u.deleted_at is not null)
     returning ${COLUMNS}`,
    [readUuid('id', id), readName(name)],
  );
  if (row === undefined) throw unknownKey();
  return toApiKey(row);
}

/** For good; again is fine. @throws LedgerError `invalid_request`, `not_found` */
export async function revokeApiKey(pool: pg.Pool, id: string): Promise<ApiKey> {
  const [row] = await runStatement<ApiKeyRow>(
    pool,
    `/* accounts.revokeApiKey */
     update api_keys as k
     set revoked_at = coalesce(k.revoked_at, now())
     where k.id = $1::uuid
       and ${IS_HERE}
     returning ${COLUMNS}`,
    [readUuid('id', id)],
  );
  if (row === undefined) throw unknownKey();
  forgetApiKey(pool, row.id);
  return toApiKey(row);
}

function readName(name: string | null | undefined): string | null {
  return name ? readText('name', name, MAX_NAME_LENGTH) : null;
}

export function unknownKey(field = 'id'): LedgerError {
  return new LedgerError('not_found', 'there is no key with this id', { details: { field } });
}

function toApiKey(row: ApiKeyRow): ApiKey {
  return {
    id: row.id,
    key_prefix: row.key_prefix,
    name: row.name,
    kilo_user_id: row.kilo_user_id,
    organization_id: row.organization_id,
    scopes: row.scopes,
    created_at: row.created_at.toISOString(),
    last_used_at: row.last_used_at?.toISOString() ?? null,
    revoked_at: row.revoked_at?.toISOString() ?? null,
  };
}
