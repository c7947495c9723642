import { BUDGETS_MARK, SLOTS } from '../schema/budgets.js';
import { markColumns } from '../schema/dimensionRollups.js';
import type { PayerScope } from '../schema/unsettled.js';

/** Whether budget `budget` counts usage row, counter row or request `row`; of the payer are both. */
export const counts = (budget: string, row: string): string => `(${budget}.kilo_user_id is null
      or ${budget}.kilo_user_id = ${row}.kilo_user_id)
    and (${budget}.api_key_id is null or ${budget}.api_key_id = ${row}.api_key_id)
    and (${budget}.project_id is null or ${budget}.project_id = ${row}.project_id)`;

/** Rows of `budgets` and `usage_holds` of payer $1. */
export const isOfPayer = (scope: PayerScope, row: string): string =>
  `${row}.payer_scope = '${scope.name}'
    and ${row}.payer_id = $1::text`;

/** Budgets in force of keys that are other payers' than $1: they bind too. `keys`: a condition on the id. */
export const isOfKeys = (scope: PayerScope, row: string, keys: string): string =>
  `${row}.api_key_id ${keys}
    and ${row}.removed_at is null
    and (${row}.payer_scope, ${row}.payer_id) is distinct from ('${scope.name}', $1::text)`;

/** Organizations of user $1, which may pay for what the user's keys use; none of an organization. */
export const organizationsOf = (scope: PayerScope): string =>
  scope.name === 'user'
    ? `select g.organization_id from organization_memberships as g where g.kilo_user_id = $1::text`
    : 'select null::uuid as organization_id where $1::text is null and false';

/** Holds `row` of payer $1 that have not given back what they took: by the index that has only these. */
export const isHolding = (scope: PayerScope, row: string): string =>
  `${isOfPayer(scope, row)}
    and ${row}.window_ids <> '{}'`;

/** Holds `row` of a payer, an expression of text, that are neither released nor settled. */
export const isOpenHold = (scope: PayerScope['name'], payer: string, row: string): string =>
  `${row}.payer_scope = '${scope}'
    and ${row}.payer_id = ${payer}
    and ${row}.window_ids <> '{}'
    and ${row}.released_at is null
    and not exists (select from microdollar_usage as m where m.id = ${row}.id)`;

/**
 * When a window of budget `budget` that an instant lies in began, at the earliest: of the windows of years,
 * which stay, the index then finds those few.
 */
export const oldestStart = (budget: string, instant: string): string =>
  `case when ${budget}.period = 'total' then '-infinity'
      else greatest(${instant}, '2000-01-01') - interval '40 days' end`;

/** Whether `now()` lies in window `row` of budget `budget`. */
export const isCurrent = (row: string, budget: string): string =>
  `${row}.window_start >= ${oldestStart(budget, 'now()')}
      and ${row}.window_start <= now()
      and ${row}.window_end > now()`;

/** The mark of the budgets of payer $1, as the fragments of schema/dimensionRollups.ts take it. */
export const markOf = (scope: PayerScope): string =>
  `select k.payer_id::${scope.idType} as id, ${markColumns('k', '0')}
    from rollup_marks as k
    where k.rollup = '${BUDGETS_MARK}'
      and k.payer_scope = '${scope.name}'
      and k.payer_id = $1::text`;

/**
 * The limit of budget `budget` now, with a raise that is in force; of a balance what payer `id`, an
 * expression of text, acquired.
 */
export const limitOf = ({ payers, idType }: PayerScope, budget: string, id = '$1'): string =>
  `case when ${budget}.is_balance
      then (select u.total_microdollars_acquired from ${payers} as u where u.id = ${id}::${idType})
      else ${budget}.limit_microdollars
        + case when ${budget}.raise_until > now() then ${budget}.raise_microdollars else 0 end
    end`;

/**
 * What the limit of a window, `accounted`, is above that of now, as a negative amount, or 0: a limit that was
 * lowered, a raise that ended or credit that was taken back, which no fold has taken in yet. Taken for a
 * debt, it keeps anybody from reserving what the slots still have of it.
 */
export const lowered = (limit: string, accounted: string): string =>
  `least(0, ${limit} - ${accounted})`;

/** What payer `id` used, exact; one row and column, or none. */
export const balanceOf = ({ name, idType }: PayerScope, id = '$1'): string =>
  name === 'user'
    ? `select b.microdollars_used from kilocode_user_balances as b
      where b.kilo_user_id = ${id}::${idType}`
    : `select b.microdollars_used from organization_balances as b
      where b.organization_id = ${id}::${idType}`;

/**
 * One slot of window `window` that has `amount` and that nobody holds, of its locked version (B2). `first`:
 * the slot to begin with.
 */
export const freeSlot = (window: string, amount: string, first: string): string =>
  `select h.slot, h.remaining_microdollars as remaining
    from headroom as h
    where h.window_id = ${window}
      and h.remaining_microdollars >= ${amount}
    order by (h.slot + ${SLOTS} - ${first}::integer) % ${SLOTS}
    limit 1
    for no key update of h skip locked`;
