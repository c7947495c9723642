import { BUDGETS_MARK } from './budgets.js';

/**
 * Whether the budgets of its payer are done with log row `row`: it is in their windows, or the payer has
 * none yet and it will be in those that are opened; and a hold of its id has given back what it took.
 * @param oldest position of the oldest transaction that is open: the mark of budgets that are opened later
 *   begins there or above it
 */
export function isBudgeted(row: string, oldest: string): string {
  // What no position is of is in no window of a budget: nothing to look up.
  return `(${row}.position is null or coalesce((
      select abs(${row}.position) < k.settled_below
        and abs(${row}.position) <> all (k.settled_except)
      from rollup_marks as k
      where k.rollup = '${BUDGETS_MARK}'
        and k.payer_scope = case when ${row}.organization_id is null then 'user'
          else 'organization' end
        and k.payer_id = coalesce(${row}.organization_id::text, ${row}.kilo_user_id)
    ), abs(${row}.position) < ${oldest}, true))
    and not exists (
      select from usage_holds as h where h.id = ${row}.id and h.window_ids <> '{}'
    )`;
}
