import type { HoldResult } from '../../budgets/types.js';
import { formatUsd } from '../../money.js';
import { Refusal } from './refusal.js';

const PERIODS = { day: 'daily', week: 'weekly', month: 'monthly', total: 'total' } as const;
const SCOPES = {
  user: 'this user',
  organization: 'this organization',
  member: 'this member of the organization',
  key: 'this key',
  project: 'this project',
} as const;
/** The providers' clients do not wait longer: they ask again at once. */
const MAX_WAIT_SECONDS = 60;

/**
 * Why a hold was refused: by the budget with the least left. 402 where only money helps; 429 with its
 * time where the end of a window does.
 * @param cost `may cost up to`, or what else is known, and microdollars
 */
export function toBudgetRefusal(
  result: HoldResult,
  cost: { says: string; amount: number },
  now = new Date(),
): Refusal {
  const { refused_by: budget, available_microdollars: available, resets_at: resetsAt } = result;
  const scope = SCOPES[budget?.scope ?? 'user'];
  const left = `$${formatUsd(available)} left`;
  const needs = `this request ${cost.says} $${formatUsd(cost.amount)}`;
  if (budget === undefined || budget.is_balance) {
    const message = `the balance of ${scope} has ${left}, and ${needs}; add credit, or ask for less`;
    return new Refusal('insufficient_balance', message, { headers: headersOf(result) });
  }
  const limit = `$${formatUsd(budget.limit_microdollars)}`;
  const says = `the ${PERIODS[budget.window]} budget of ${scope}, ${limit}, has ${left}, and ${needs}`;
  if (!resetsAt) {
    return new Refusal('budget_exceeded', `${says}; it has to be raised`, {
      headers: headersOf(result),
    });
  }
  const seconds = Math.max(1, Math.ceil((Date.parse(resetsAt) - now.getTime()) / 1_000));
  return new Refusal('budget_resets', `${says}; it resets at ${resetsAt}`, {
    retryAfterSeconds: seconds,
    headers: {
      ...headersOf(result),
      ...(seconds > MAX_WAIT_SECONDS ? { 'x-should-retry': 'false' } : {}),
    },
  });
}

/** The same for programs. */
function headersOf(result: HoldResult): Record<string, string> {
  const { refused_by: budget, available_microdollars: available, resets_at: resetsAt } = result;
  return {
    ...(budget === undefined ? {} : { 'x-microdollar-budget-id': budget.id }),
    'x-microdollar-available-microdollars': String(available),
    ...(resetsAt ? { 'x-microdollar-resets-at': resetsAt } : {}),
  };
}
