import type pg from 'pg';
import { findOwnKeys } from '../accounts/apiKeys.js';
import {
  type Budget,
  type BudgetPayer,
  type BudgetStore,
  type BudgetSubject,
  listBudgets,
  readPayer,
} from '../budgets/budgets.js';
import { LedgerError } from '../errors.js';
import type { Ledger, NamedPayer } from '../ledgerTypes.js';
import type { BudgetSetter } from '../schema/budgets.js';
import { listEverybodysBudgets } from '../shards/lists.js';
import { readRole } from '../shards/memberships.js';
import { checkActs, checkServiceOrganization, checkServiceRead, resolveUser } from './access.js';
import type { Principal } from './auth.js';

export function budgetStoreOf({ pool, budgetFolder: folder }: Ledger): BudgetStore {
  return { pool, folder };
}

export const namesOf = ({ scope, id }: BudgetPayer): NamedPayer =>
  scope === 'user' ? { kilo_user_id: id } : { organization_id: id };

/**
 * As whom the asker sets a budget: an administrator, an owner of the organization that pays, or the user
 * whose usage alone it counts. Asked of the primary each time.
 * @throws LedgerError `forbidden`
 */
export async function authorizeBudget(
  ledger: Ledger,
  principal: Principal,
  subject: BudgetSubject,
): Promise<BudgetSetter> {
  const [first] = await settersOf(ledger, principal, subject);
  if (first !== undefined) return first;
  throw new LedgerError(
    'forbidden',
    'budgets are set by an admin, an owner of the organization that pays, or who they limit alone',
  );
}

/**
 * Changed and removed by whoever could have set it so; an administrator changes any.
 * @throws LedgerError `forbidden`
 */
export async function authorizeBudgetChange(
  ledger: Ledger,
  principal: Principal,
  budget: BudgetSubject & { setBy: BudgetSetter },
): Promise<void> {
  const first = await authorizeBudget(ledger, principal, budget);
  if (first === 'admin') return;
  if ((await settersOf(ledger, principal, budget)).includes(budget.setBy)) return;
  const whose = { admin: 'an administrator', owner: 'an owner', user: 'the user it limits' };
  throw new LedgerError(
    'forbidden',
    `${whose[budget.setBy]} set this budget; set your own beside it: the lowest limit counts`,
    { details: { field: 'id', set_by: budget.setBy } },
  );
}

/**
 * Budgets that the asker may see: of a user for themselves, of an organization for its owner; a member
 * sees those that limit them alone. Null: of the asker, of everybody for an administrator.
 * @throws LedgerError `forbidden`, `invalid_request`
 */
export async function listVisibleBudgets(
  ledger: Ledger,
  principal: Principal,
  asked: { kilo_user_id?: string | null | undefined; organization_id?: string | null | undefined },
): Promise<Budget[]> {
  const isOfOne = (asked.kilo_user_id ?? asked.organization_id ?? null) !== null;
  if (!isOfOne && principal.scopes.has('admin')) return listEverybodysBudgets(ledger);
  const payer = isOfOne
    ? readPayer(asked.kilo_user_id, asked.organization_id)
    : ({ scope: 'user', id: resolveUser(principal, undefined, 'kilo_user_id') } as const);
  if (payer.scope === 'user') {
    checkServiceRead(principal, null, 'kilo_user_id');
    resolveUser(principal, payer.id, 'kilo_user_id');
  }
  return ledger.ask(namesOf(payer), (part) =>
    payer.scope === 'user'
      ? listBudgets(budgetStoreOf(part), payer)
      : listOfOrganization(part, principal, payer),
  );
}

/** On the part that has the organization. */
async function listOfOrganization(
  part: Ledger,
  principal: Principal,
  payer: BudgetPayer,
): Promise<Budget[]> {
  const store = budgetStoreOf(part);
  const { kiloUserId, scopes } = principal;
  if (kiloUserId === null) {
    checkServiceOrganization(principal, payer.id, 'organization_id');
    return listBudgets(store, payer);
  }
  if (scopes.has('admin')) return listBudgets(store, payer);
  const role = await readRole(part, payer.id, kiloUserId);
  if (role === null) {
    throw new LedgerError('forbidden', 'the user is not a member of this organization', {
      details: { field: 'organization_id' },
    });
  }
  const budgets = await listBudgets(store, payer);
  return role === 'owner' ? budgets : ofUserAlone(store.pool, kiloUserId, budgets);
}

/** Those that count the usage of this member alone; of the balance and of others nothing. */
async function ofUserAlone(
  pool: pg.Pool,
  kiloUserId: string,
  budgets: readonly Budget[],
): Promise<Budget[]> {
  const keyIds = budgets.flatMap(({ api_key_id }) => api_key_id ?? []);
  const own = await findOwnKeys(pool, kiloUserId, keyIds);
  return budgets.filter(
    (budget) =>
      (budget.scope === 'member' && budget.kilo_user_id === kiloUserId) ||
      (budget.api_key_id !== null && own.has(budget.api_key_id)),
  );
}

async function settersOf(
  ledger: Ledger,
  principal: Principal,
  { scope, id, onlyUser }: BudgetSubject,
): Promise<BudgetSetter[]> {
  if (principal.scopes.has('admin')) return ['admin'];
  const { kiloUserId } = principal;
  if (kiloUserId === null) return [];
  const role = scope === 'organization' ? await readRole(ledger, id, kiloUserId) : 'self';
  if (role === null || (role === 'self' && id !== kiloUserId)) return [];
  checkActs(principal);
  return [
    ...(role === 'owner' ? (['owner'] as const) : []),
    ...(onlyUser === kiloUserId ? (['user'] as const) : []),
  ];
}
