import type pg from 'pg';
import { LedgerError } from '../errors.js';
import { readUuid } from '../ids.js';
import { readText, unknownOrganization } from './fields.js';
import { runStatement } from './runStatement.js';

/** Accounts by the field that names them; absent and null are not asked for. */
export interface NamedAccounts {
  kilo_user_id?: string | null;
  organization_id?: string | null;
  /** A user, too. */
  member?: string | null;
}

/**
 * A typing error must not look like no usage. Users that are deleted count: their usage stays.
 * @throws LedgerError `unknown_user`, `unknown_organization`, `invalid_request`, naming the field
 */
export async function requireAccounts(pool: pg.Pool, named: NamedAccounts): Promise<void> {
  const { kilo_user_id = null, organization_id = null, member = null } = named;
  const [row] = await runStatement<Record<'is_user' | 'is_organization' | 'is_member', boolean>>(
    pool,
    `/* accounts.requireAccounts */
     select $1::text is null or exists (
         select from kilocode_users where id = $1) as is_user,
       $2::uuid is null or exists (
         select from organizations where id = $2) as is_organization,
       $3::text is null or exists (
         select from kilocode_users where id = $3) as is_member`,
    [
      kilo_user_id === null ? null : readText('kilo_user_id', kilo_user_id),
      organization_id === null ? null : readUuid('organization_id', organization_id),
      member === null ? null : readText('member', member),
    ],
  );
  if (!row?.is_organization) throw unknownOrganization();
  if (!row.is_user) throw noUser('kilo_user_id');
  if (!row.is_member) throw noUser('member');
}

function noUser(field: string): LedgerError {
  return new LedgerError('unknown_user', `${field} names no user`, { details: { field } });
}
