import type pg from 'pg';
import { listMemberships, readRole } from '../accounts/memberships.js';
import { runStatement } from '../accounts/runStatement.js';
import { LedgerError } from '../errors.js';
import { readUuid } from '../ids.js';
import type { UsageReportQuery } from '../ledgerTypes.js';
import { checkServiceOrganization, resolveUser } from './access.js';
import type { Principal } from './auth.js';
import type { ReportRequest } from './reportInput.js';

type Scope = Pick<UsageReportQuery, 'kilo_user_id' | 'organization_id' | 'member' | 'api_key_id'>;

/**
 * The report that was asked for, of whom the asker may see.
 * @throws LedgerError `forbidden`, `invalid_request`
 */
export async function resolveReport(
  pool: pg.Pool,
  principal: Principal,
  { query, isAllScopes }: ReportRequest,
): Promise<UsageReportQuery> {
  return { ...query, ...(await resolveScope(pool, principal, query, isAllScopes)) };
}

/**
 * Whose usage the asker may see of what was asked for; with `isAllScopes` every scope of a user, as
 * far as they are a member now.
 * @throws LedgerError `forbidden`, `invalid_request`
 */
export async function resolveScope(
  pool: pg.Pool,
  principal: Principal,
  asked: Scope,
  isAllScopes: boolean,
): Promise<Scope & Pick<UsageReportQuery, 'organization_ids'>> {
  if (!isAllScopes) return resolveReportScope(pool, principal, asked);
  if ((asked.organization_id ?? asked.member ?? null) !== null) {
    throw new LedgerError(
      'invalid_request',
      'all_scopes is every scope of a user; leave out organization_id and member',
      { details: { field: 'all_scopes' } },
    );
  }
  checkServiceOrganization(principal, null, 'all_scopes');
  const kiloUserId = resolveUser(principal, asked.kilo_user_id ?? undefined, 'kilo_user_id');
  const memberships = await listMemberships(pool, kiloUserId);
  const organizationIds = memberships.map((each) => each.organization_id);
  return { ...asked, kilo_user_id: kiloUserId, organization_ids: organizationIds };
}

/**
 * Whose usage a report may be about, from what was asked for. A user's key reads the user's own usage,
 * personal or in an organization they are a member of; as its owner all of the organization's. A key
 * alone stands for the payer it pays for. Asked of the primary each time: who was removed, or is no
 * owner any more, reads nothing.
 * @throws LedgerError `forbidden`, `invalid_request`
 */
async function resolveReportScope(
  pool: pg.Pool,
  principal: Principal,
  asked: Scope,
): Promise<Scope> {
  const scope = await payerOfKey(pool, principal, asked);
  const { organization_id: organizationId = null, member = null } = scope;
  if (principal.kiloUserId === null) {
    checkServiceOrganization(principal, organizationId, 'organization_id');
    return organizationId === null
      ? {
          ...scope,
          kilo_user_id: resolveUser(principal, scope.kilo_user_id ?? undefined, 'kilo_user_id'),
        }
      : scope;
  }
  if (principal.scopes.has('admin')) return withOwnUser(scope, principal.kiloUserId);
  if (organizationId === null) {
    return {
      ...scope,
      kilo_user_id: resolveUser(principal, scope.kilo_user_id ?? undefined, 'kilo_user_id'),
    };
  }
  const role = await readRole(pool, organizationId, principal.kiloUserId);
  if (role === 'owner') return scope;
  if (role === null) {
    throw forbidden('organization_id', 'the user is not a member of this organization');
  }
  if (member === principal.kiloUserId) return scope;
  throw forbidden(
    'member',
    'only an owner reads the usage of others; name your own user as the member',
  );
}

function withOwnUser(scope: Scope, kiloUserId: string): Scope {
  if ((scope.organization_id ?? null) !== null) return scope;
  return { ...scope, kilo_user_id: scope.kilo_user_id ?? kiloUserId };
}

interface KeyRow {
  kilo_user_id: string | null;
  organization_id: string | null;
}

/** A key without a payer beside it: the one that it pays for, where the asker may know that. */
async function payerOfKey(pool: pg.Pool, principal: Principal, asked: Scope): Promise<Scope> {
  const keyId = asked.api_key_id ?? null;
  if (keyId === null || (asked.kilo_user_id ?? asked.organization_id ?? null) !== null)
    return asked;
  const [key] = await runStatement<KeyRow>(
    pool,
    `/* reports.payerOfKey */
     select kilo_user_id, organization_id from api_keys where id = $1::uuid`,
    [readUuid('api_key_id', keyId)],
  );
  const isOwn = key !== undefined && key.kilo_user_id === principal.kiloUserId;
  if (principal.kiloUserId !== null && !principal.scopes.has('admin') && !isOwn) {
    const role = key?.organization_id
      ? await readRole(pool, key.organization_id, principal.kiloUserId)
      : null;
    if (role !== 'owner') {
      throw forbidden('api_key_id', 'names no key of yours, nor of an organization you own');
    }
  }
  if (key?.organization_id) {
    const isMemberOnly = isOwn && principal.kiloUserId !== null;
    return {
      ...asked,
      organization_id: key.organization_id,
      ...(isMemberOnly ? { member: asked.member ?? principal.kiloUserId } : {}),
    };
  }
  if (key?.kilo_user_id) return { ...asked, kilo_user_id: key.kilo_user_id };
  throw new LedgerError(
    'invalid_request',
    'api_key_id names no key with a payer of its own; name kilo_user_id or organization_id beside it',
    { details: { field: 'api_key_id' } },
  );
}

function forbidden(field: string, problem: string): LedgerError {
  return new LedgerError('forbidden', problem, { details: { field } });
}
