import { removeOrganizationMember } from '../accounts/memberships.js';
import type { Ledger } from '../ledgerTypes.js';
import { checkActs, resolveUser } from './access.js';
import type { Principal } from './auth.js';

/**
 * Takes the asker's own user out of an organization; what they used stays its. Its last owner stays.
 * @throws LedgerError `forbidden`, `invalid_request`, `not_found` for who is no member
 */
export async function leaveOrganization(
  ledger: Ledger,
  principal: Principal,
  organizationId: string,
): Promise<{ organization_id: string; kilo_user_id: string; removed: true }> {
  const kiloUserId = resolveUser(principal, undefined, 'kilo_user_id');
  checkActs(principal);
  await ledger.at({ organization_id: organizationId }, ({ pool }) =>
    removeOrganizationMember(pool, organizationId, kiloUserId, { by: kiloUserId }),
  );
  return { organization_id: organizationId, kilo_user_id: kiloUserId, removed: true };
}
