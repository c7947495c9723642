import { setBudget } from '../budgets/budgets.js';
import type { NewBudget } from '../budgets/newBudget.js';
import type { Ledger } from '../ledgerTypes.js';
import type { BudgetSetter } from '../schema/budgets.js';
import { DEMO_ORGANIZATIONS, type DemoUser, keysOf } from './people.js';

/** Limits by who sets them: some far off, some near, some passed. */
function demoBudgets(users: readonly DemoUser[]): [BudgetSetter, NewBudget][] {
  const [acme, globex] = DEMO_ORGANIZATIONS;
  const [first, second] = users;
  const members = users.filter(({ organizationId }) => organizationId === acme?.id);
  const [owner, colleague] = members;
  const ofAcme = { organization_id: acme?.id };
  const keyOf = (user: DemoUser | undefined, called: string) =>
    user === undefined ? '' : (keysOf(user).find(({ name }) => name === called)?.id ?? '');
  const budgets: [BudgetSetter, string, string | undefined, number, string, object?][] = [
    ['user', 'user', first?.id, 40, 'month', { time_zone: 'Europe/London' }],
    ['user', 'key', keyOf(first, 'nightly'), 2, 'week'],
    ['user', 'project', 'search', 12, 'total', { kilo_user_id: first?.id, mode: 'soft' }],
    ['owner', 'organization', acme?.id, 60, 'month'],
    ['owner', 'member', colleague?.id, 25, 'month', ofAcme],
    ['owner', 'key', keyOf(owner, 'work'), 4, 'day', { mode: 'soft' }],
    ['owner', 'project', 'billing', 15, 'month', ofAcme],
    ['admin', 'organization', acme?.id, 500, 'total'],
    ['admin', 'organization', globex?.id, 100, 'month'],
    ['admin', 'user', second?.id, 5, 'week'],
  ];
  return budgets.flatMap(([setBy, scope, id, limit_usd, window, more]) =>
    id ? [[setBy, { scope, id, limit_usd, window, created_by: 'demo', ...more }]] : [],
  );
}

/** Idempotent: the same again sets the same limit. */
export async function setDemoBudgets(ledger: Ledger, users: readonly DemoUser[]): Promise<void> {
  const store = { pool: ledger.pool, folder: ledger.budgetFolder };
  for (const [setBy, budget] of demoBudgets(users))
    await setBudget(store, budget, async () => setBy);
}
