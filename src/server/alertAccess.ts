import { type BudgetPayer, readPayer } from '../budgets/budgets.js';
import { LedgerError } from '../errors.js';
import type { Ledger } from '../ledgerTypes.js';
import { isOrganizationOwner } from '../shards/memberships.js';
import { checkActs, checkServiceOrganization } from './access.js';
import type { Principal } from './auth.js';

/** A payer that was asked for by its fields; neither: the caller's own, or everybody (null). */
export interface AskedPayer {
  kilo_user_id?: string | null | undefined;
  organization_id?: string | null | undefined;
}

/**
 * Whose alerts a caller asks for, and may: of anybody for `admin`, of an organization for its owner, of
 * a user for that user.
 * @throws LedgerError `forbidden`, `invalid_request`
 */
export async function resolveAlertPayer(
  ledger: Ledger,
  principal: Principal,
  { kilo_user_id: user, organization_id: organization }: AskedPayer,
): Promise<BudgetPayer | null> {
  const isNamed = (user ?? organization ?? null) !== null;
  const payer = isNamed ? readPayer(user, organization) : ownPayer(principal);
  await checkReach(ledger, principal, payer);
  return payer;
}

/**
 * For what changes something; a key that only reads changes no alert or webhook.
 * @throws LedgerError `forbidden`
 */
export async function checkAlertPayer(
  ledger: Ledger,
  principal: Principal,
  payer: BudgetPayer | null,
): Promise<void> {
  checkActs(principal);
  await checkReach(ledger, principal, payer);
}

async function checkReach(
  ledger: Ledger,
  principal: Principal,
  payer: BudgetPayer | null,
): Promise<void> {
  if (principal.scopes.has('admin')) {
    const organization = payer?.scope === 'organization' ? payer.id : null;
    if (principal.kiloUserId === null) checkServiceOrganization(principal, organization);
    return;
  }
  const { kiloUserId } = principal;
  if (kiloUserId !== null && payer?.scope === 'user' && payer.id === kiloUserId) return;
  if (kiloUserId !== null && payer?.scope === 'organization') {
    if (await isOrganizationOwner(ledger, payer.id, kiloUserId)) return;
  }
  throw new LedgerError(
    'forbidden',
    'alerts are for an admin, an owner of the organization, or the user themselves',
  );
}

export const isAdmin = (principal: Principal): boolean => principal.scopes.has('admin');

/** Null: everybody. */
function ownPayer(principal: Principal): BudgetPayer | null {
  if (principal.kiloUserId === null || isAdmin(principal)) return null;
  return { scope: 'user', id: principal.kiloUserId };
}
