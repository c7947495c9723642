import type pg from 'pg';
import { elsewhere, LedgerError } from '../errors.js';
import { readUuid } from '../ids.js';
import { toSafeInteger } from '../money.js';
import { takesBucket } from '../schema/elsewhere.js';
import { readText, unknownOrganization, unknownUser } from './fields.js';
import { type ChangedBy, noOwner, readRoleName } from './memberships.js';
import { runStatement } from './runStatement.js';

export interface NewOrganization {
  name: string;
  id?: string | null | undefined;
}

export interface Organization {
  id: string;
  name: string;
  /** Microdollars. */
  microdollars_used: number;
  total_microdollars_acquired: number;
  /** ISO 8601. */
  created_at: string;
}

interface OrganizationRow {
  id: string;
  name: string;
  microdollars_used: string;
  total_microdollars_acquired: string;
  created_at: Date;
}

/**
 * @param bucket of a shard: the organization's, which it has to have (src/shards)
 * @throws LedgerError `invalid_request`, `already_exists`
 */
export async function createOrganization(
  pool: pg.Pool,
  organization: NewOrganization,
  bucket: number | null = null,
): Promise<Organization> {
  const id = organization.id ?? null;
  const rows = await runStatement<OrganizationRow>(
    pool,
    `/* accounts.createOrganization */
     insert into organizations (id, name)
     select coalesce($1::uuid, gen_random_uuid()), $2::text
     where ${takesBucket('$3::integer')}
     returning id, name, microdollars_used, total_microdollars_acquired, created_at`,
    [id === null ? null : readUuid('id', id), readText('name', organization.name), bucket],
    'an organization with this id exists',
  );
  const [row] = rows;
  if (row === undefined) throw elsewhere('organization', {}, 'id');
  return {
    ...row,
    microdollars_used: toSafeInteger(row.microdollars_used),
    total_microdollars_acquired: toSafeInteger(row.total_microdollars_acquired),
    created_at: row.created_at.toISOString(),
  };
}

export interface OrganizationMember {
  organization_id: string;
  kilo_user_id: string;
  role: string;
}

/**
 * By an owner, who is one while it is written: an owner who is being removed adds nobody.
 * @throws LedgerError `unknown_user` (also for a soft-deleted one), `unknown_organization`,
 *   `already_exists`, `forbidden`, `invalid_request` for a role that is none
 */
export async function addOrganizationMember(
  pool: pg.Pool,
  organizationId: string,
  kiloUserId: string,
  role = 'member',
  { by }: ChangedBy = {},
): Promise<OrganizationMember> {
  const rows = await runStatement<{
    organization_id: string | null;
    kilo_user_id: string | null;
    role: string | null;
    is_elsewhere: boolean;
    is_allowed: boolean;
  }>(
    pool,
    `/* accounts.addOrganizationMember */
     with owner as materialized (
       select m.kilo_user_id
       from organization_memberships as m
       where m.organization_id = $1::uuid
         and m.kilo_user_id = $4::text
         and m.role = 'owner'
       for share
     ), found as (
       select o.id as organization_id, u.id as kilo_user_id,
         coalesce(o.is_elsewhere, false) as is_elsewhere,
         $4::text is null or exists (select from owner) as is_allowed
       from (select $1::uuid as organization_id, $2::text as kilo_user_id) as asked
       left join organizations as o on o.id = asked.organization_id
       left join kilocode_users as u on u.id = asked.kilo_user_id and u.deleted_at is null
     ), added as (
       insert into organization_memberships (organization_id, kilo_user_id, role)
       select organization_id, kilo_user_id, $3::text
       from found
       where organization_id is not null
         and kilo_user_id is not null
         and not is_elsewhere
         and is_allowed
       on conflict do nothing
       returning role
     )
     select found.organization_id, found.kilo_user_id, found.is_elsewhere, found.is_allowed,
       added.role
     from found
     left join added on true`,
    [
      readUuid('organization_id', organizationId),
      readText('kilo_user_id', kiloUserId),
      readRoleName(role),
      by ?? null,
    ],
  );
  const [row] = rows;
  if (row?.is_elsewhere) throw elsewhere('organization');
  // Before what there is: who may not change it is told nothing of it.
  if (row?.is_allowed === false) throw noOwner('changes its members');
  if (row === undefined || row.organization_id === null) throw unknownOrganization();
  if (row.kilo_user_id === null) throw unknownUser();
  if (row.role === null) {
    throw new LedgerError('already_exists', 'the user is a member of this organization already');
  }
  return { organization_id: row.organization_id, kilo_user_id: row.kilo_user_id, role: row.role };
}
