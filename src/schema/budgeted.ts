import { BUDGETS_MARK } from './budgets.js';

/**
 * Whether the budgets of its payer are done with log row `row`: it is in their windows, or the payer has
 * none yet, and a hold of its id has given back what it took.
 */
export function isBudgeted(row: string): string {
  return `not exists (
      select
      from rollup_marks as k
      where k.rollup = '${BUDGETS_MARK}'
        and k.payer_scope = case when ${row}.organization_id is null then 'user'
          else 'organization' end
        and k.payer_id = coalesce(${row}.organization_id::text, ${row}.kilo_user_id)
        and (abs(${row}.position) >= k.settled_below or abs(${row}.position) = any (k.settled_except))
    )
    and not exists (
      select from usage_holds as h where h.id = ${row}.id and h.window_ids <> '{}'
    )`;
}
