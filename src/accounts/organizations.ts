import type pg from 'pg';
import { LedgerError } from '../errors.js';
import { readUuid } from '../ids.js';
import { toSafeInteger } from '../money.js';
import { readText, unknownOrganization, unknownUser } from './fields.js';
import { readRoleName } from './memberships.js';
import { runStatement } from './runStatement.js';

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

/** @throws LedgerError `invalid_request`, `already_exists` */
export async function createOrganization(
  pool: pg.Pool,
  organization: { name: string; id?: string | null | undefined },
): Promise<Organization> {
  const id = organization.id ?? null;
  const rows = await runStatement<OrganizationRow>(
    pool,
    `/* accounts.createOrganization */
     insert into organizations (id, name)
     values (coalesce($1::uuid, gen_random_uuid()), $2::text)
     returning id, name, microdollars_used, total_microdollars_acquired, created_at`,
    [id === null ? null : readUuid('id', id), readText('name', organization.name)],
    'an organization with this id exists',
  );
  const [row] = rows;
  if (row === undefined) throw new LedgerError('internal', 'the new organization was not returned');
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
 * @throws LedgerError `unknown_user` (also for a soft-deleted one), `unknown_organization`,
 *   `already_exists`, `invalid_request` for a role that is none
 */
export async function addOrganizationMember(
  pool: pg.Pool,
  organizationId: string,
  kiloUserId: string,
  role = 'member',
): Promise<OrganizationMember> {
  const rows = await runStatement<{
    organization_id: string | null;
    kilo_user_id: string | null;
    role: string | null;
  }>(
    pool,
    `/* accounts.addOrganizationMember */
     with found as (
       select o.id as organization_id, u.id as kilo_user_id
       from (select $1::uuid as organization_id, $2::text as kilo_user_id) as asked
       left join organizations as o on o.id = asked.organization_id
       left join kilocode_users as u on u.id = asked.kilo_user_id and u.deleted_at is null
     ), added as (
       insert into organization_memberships (organization_id, kilo_user_id, role)
       select organization_id, kilo_user_id, $3::text
       from found
       where organization_id is not null
         and kilo_user_id is not null
       on conflict do nothing
       returning role
     )
     select found.organization_id, found.kilo_user_id, added.role
     from found
     left join added on true`,
    [
      readUuid('organization_id', organizationId),
      readText('kilo_user_id', kiloUserId),
      readRoleName(role),
    ],
  );
  const [row] = rows;
  if (row === undefined || row.organization_id === null) throw unknownOrganization();
  if (row.kilo_user_id === null) throw unknownUser();
  if (row.role === null) {
    throw new LedgerError('already_exists', 'the user is a member of this organization already');
  }
  return { organization_id: row.organization_id, kilo_user_id: row.kilo_user_id, role: row.role };
}
