import { type ApiKey, findApiKey, payerOfKey } from '../accounts/apiKeys.js';
import { readNames } from '../accounts/names.js';
import { requireAccounts } from '../accounts/requireAccounts.js';
import { LedgerError } from '../errors.js';
import type { Ledger, UsageReport, UsageReportQuery } from '../ledgerTypes.js';
import { checkOnePayer } from '../report/usage/query.js';
import { atRow } from '../shards/atRow.js';
import { listMemberships, readRole } from '../shards/memberships.js';
import { checkServiceOrganization, checkServiceRead, resolveUser } from './access.js';
import type { Principal } from './auth.js';
import type { ReportRequest } from './reportInput.js';

type Scope = Pick<UsageReportQuery, 'kilo_user_id' | 'organization_id' | 'member' | 'api_key_id'>;

/** A report, and what the members in it are called. */
export interface NamedReport extends UsageReport {
  /** Names by id, of members that have one; only where the report names members. */
  member_names?: Record<string, string>;
}

/**
 * The report that was asked for, of whom the asker may see.
 * @throws LedgerError as `resolveScope`
 */
export async function readNamedReport(
  ledger: Ledger,
  principal: Principal,
  { query, isAllScopes }: ReportRequest,
): Promise<NamedReport> {
  const scope = await resolveScope(ledger, principal, query, isAllScopes);
  const report = await ledger.getUsageReport({ ...query, ...scope });
  const { organization_id = null, member = null } = scope;
  if (organization_id === null) return report;
  const rows = [...report.rows, ...(report.pairs?.rows ?? [])];
  const ids = new Set([member, ...rows.map((row) => row.kilo_user_id)]);
  const users = [...ids].filter((id) => id != null);
  if (users.length === 0) return report;
  const names = await ledger.ask({ organization_id }, ({ pool }) =>
    readNames(pool, { keys: [], users }),
  );
  return { ...report, member_names: Object.fromEntries(names.users) };
}

/**
 * Whose usage the asker may see of what was asked for; with `isAllScopes` every scope of a user, as
 * far as they are a member now. Who is named exists.
 * @throws LedgerError `forbidden`, `invalid_request`, `not_found`, `unknown_user`,
 *   `unknown_organization`
 */
export async function resolveScope(
  ledger: Ledger,
  principal: Principal,
  asked: Scope,
  isAllScopes: boolean,
): Promise<Scope & Pick<UsageReportQuery, 'organization_ids'>> {
  const scope = await resolveAllScopes(ledger, principal, asked, isAllScopes);
  await requireNamed(ledger, principal, scope);
  return scope;
}

/** What a key may read of its own user, or as an owner, exists: only others are looked for. */
async function requireNamed(ledger: Ledger, principal: Principal, scope: Scope): Promise<void> {
  const isOwn = (id: string | null | undefined) =>
    (id ?? principal.kiloUserId) === principal.kiloUserId;
  const isKnown = principal.kiloUserId !== null && !principal.scopes.has('admin');
  if (isKnown && isOwn(scope.kilo_user_id) && isOwn(scope.member)) return;
  // A member without an organization is refused as such.
  const isShared = scope.organization_id != null;
  const { organization_id = null, kilo_user_id = null } = scope;
  const payer = isShared ? { organization_id } : { kilo_user_id };
  const named = { ...scope, member: isShared ? (scope.member ?? null) : null };
  await ledger.ask(payer, ({ pool }) => requireAccounts(pool, named));
}

async function resolveAllScopes(
  ledger: Ledger,
  principal: Principal,
  asked: Scope,
  isAllScopes: boolean,
): Promise<Scope & Pick<UsageReportQuery, 'organization_ids'>> {
  if (!isAllScopes) return resolveReportScope(ledger, principal, asked);
  if ((asked.organization_id ?? asked.member ?? null) !== null) {
    throw new LedgerError(
      'invalid_request',
      'all_scopes is every scope of a user; leave out organization_id and member',
      { details: { field: 'all_scopes' } },
    );
  }
  checkServiceRead(principal, null, 'all_scopes');
  const kiloUserId = resolveUser(principal, asked.kilo_user_id ?? undefined, 'kilo_user_id');
  const memberships = await listMemberships(ledger, kiloUserId);
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
  ledger: Ledger,
  principal: Principal,
  asked: Scope,
): Promise<Scope> {
  const scope = await withPayerOfKey(ledger, principal, asked);
  const { organization_id: organizationId = null, member = null } = scope;
  checkOnePayer(scope);
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
  const role = await readRole(ledger, organizationId, principal.kiloUserId);
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

/** A key without a payer beside it: the one that it pays for, where the asker may know that. */
async function withPayerOfKey(ledger: Ledger, principal: Principal, asked: Scope): Promise<Scope> {
  const keyId = asked.api_key_id ?? null;
  if (keyId === null || (asked.kilo_user_id ?? asked.organization_id ?? null) !== null)
    return asked;
  const mayKnowAll = principal.kiloUserId === null || principal.scopes.has('admin');
  const find = ({ pool }: Ledger) => findApiKey(pool, keyId, 'api_key_id');
  const key = await atRow(ledger, 'api_keys', keyId, find).catch((error: unknown) => {
    // Which keys there are is not for everybody to know.
    if (mayKnowAll || !(error instanceof LedgerError) || error.code !== 'not_found') throw error;
    throw noOwnKey();
  });
  const isOwn = principal.kiloUserId !== null && key.kilo_user_id === principal.kiloUserId;
  if (!mayKnowAll && !isOwn && !(await ownsPayer(ledger, principal, key))) throw noOwnKey();
  const payer = payerOfKey(key, 'api_key_id');
  const isMemberOnly = isOwn && 'organization_id' in payer;
  return {
    ...asked,
    ...payer,
    ...(isMemberOnly ? { member: asked.member ?? principal.kiloUserId } : {}),
  };
}

async function ownsPayer(
  ledger: Ledger,
  { kiloUserId }: Principal,
  { organization_id: organizationId }: ApiKey,
): Promise<boolean> {
  if (organizationId === null || kiloUserId === null) return false;
  return (await readRole(ledger, organizationId, kiloUserId)) === 'owner';
}

function noOwnKey(): LedgerError {
  return forbidden(
    'api_key_id',
    'api_key_id names no key of yours, nor of an organization you own',
  );
}

function forbidden(field: string, problem: string): LedgerError {
  return new LedgerError('forbidden', problem, { details: { field } });
}
