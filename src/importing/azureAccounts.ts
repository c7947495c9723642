import { uuidFromHash } from '../ids.js';
import type { Accounts } from '../shards/accounts.js';
import { ensureAccounts } from './accounts.js';
import { sha256 } from './rowIds.js';

/** Who a request of the Azure trace belongs to. */
export interface AzurePayer {
  kilo_user_id: string;
  organization_id: string | null;
}

/** One request in this many, of a user who is in an organization, is the organization's. */
const ORGANIZATION_SHARE = 4;

/**
 * The trace names no users. The rule, which depends on nothing but the file's content:
 * - h = SHA-256("<SHA-256 of the row, hex>:<occurrence>"), the row as
 *   "TIMESTAMP,ContextTokens,GeneratedTokens" with its time cut after the last digit that is not 0;
 * - the user is number (h[16..21] mod users) + 1: `azure-user-001`, ...;
 * - user u is a member of organization number (u mod organizations) + 1, when there are any;
 * - the request is the organization's when h[22..25] mod 4 = 0, else personal.
 */
export function assignPayer(
  hash: Buffer,
  counts: { users: number; organizations: number },
): AzurePayer {
  const user = (hash.readUIntBE(16, 6) % counts.users) + 1;
  const isShared = counts.organizations > 0 && hash.readUInt32BE(22) % ORGANIZATION_SHARE === 0;
  return {
    kilo_user_id: azureUserId(user),
    organization_id: isShared ? organizationOf(user, counts.organizations) : null,
  };
}

function azureUserId(user: number): string {
  return `azure-user-${String(user).padStart(3, '0')}`;
}

function azureOrganizationName(organization: number): string {
  return `azure-organization-${organization}`;
}

/** The same number is the same organization, on every machine. */
export function azureOrganizationId(organization: number): string {
  return uuidFromHash(sha256(azureOrganizationName(organization)));
}

function organizationOf(user: number, organizations: number): string {
  return azureOrganizationId((user % organizations) + 1);
}

/** Creates the users, organizations and memberships of the rule; what is there already stays. */
export async function ensureAzureAccounts(
  accounts: Accounts,
  counts: { users: number; organizations: number },
): Promise<void> {
  const users = Array.from({ length: counts.users }, (_, index) => index + 1);
  const organizations = Array.from({ length: counts.organizations }, (_, index) => index + 1);
  await ensureAccounts(accounts, {
    users: users.map(azureUserId),
    organizations: organizations.map((number) => ({
      id: azureOrganizationId(number),
      name: azureOrganizationName(number),
    })),
    members:
      counts.organizations === 0
        ? []
        : users.map((user) => ({
            organization: organizationOf(user, counts.organizations),
            user: azureUserId(user),
          })),
  });
}
