import type { Statement } from '../db/statement.js';
import {
  BUDGETS_MARK,
  type BudgetPeriod,
  type BudgetScope,
  type BudgetSetter,
  FORWARDED,
} from '../schema/budgets.js';
import { markColumns, tailRows } from '../schema/dimensionRollups.js';
import { ORGANIZATION_SCOPE, PAYER_SCOPES, type PayerScope } from '../schema/unsettled.js';
import {
  balanceOf,
  counts,
  isCurrent,
  isHolding,
  isOfPayer,
  isOpenHold,
  limitOf,
  markOf,
  organizationsOf,
} from './matching.sql.js';

/** A budget and its window of now, exact in one snapshot. Amounts in microdollars. */
export interface BudgetStateRow {
  budget_id: string;
  scope: BudgetScope;
  kilo_user_id: string | null;
  api_key_id: string | null;
  project_id: string | null;
  period: BudgetPeriod;
  time_zone: string;
  is_hard: boolean;
  is_balance: boolean;
  set_by: BudgetSetter;
  /** With a raise that is in force. */
  limit_microdollars: string;
  base_limit_microdollars: string;
  raise_microdollars: string | null;
  raise_until_micros: string | null;
  /** Null: no window was opened in this period yet. */
  window_id: string | null;
  resets_micros: string | null;
  /** Recorded usage, whether it is counted yet or not. */
  spent: string;
  /** Open holds: no usage yet, not released. */
  held: string;
}

/**
 * The budgets in force of payer $1, without a lock: spent is the window's and what lies past the
 * mark, held are the open holds. What is left is limit - spent - held. Of keys also what others who pay for
 * them have counted (`forwarded`), or not yet (`other`).
 */
const readText = (scope: PayerScope): string => `/* microdollar.readBudgets ${scope.name} */
with mark as materialized (
  ${markOf(scope)}
), tail as materialized (
  select m.*
  from mark as u
  cross join lateral (
    ${tailRows(scope, 'm.id, m.kilo_user_id, m.api_key_id, m.project_id, m.created_at, m.cost', 'u')}
  ) as m
), other as materialized (
  select k.payer_id, k.payer_id::uuid as id, ${markColumns('k', '0')}
  from (${organizationsOf(scope)}) as g
  join rollup_marks as k
    on k.rollup = '${BUDGETS_MARK}'
    and k.payer_scope = 'organization'
    and k.payer_id = g.organization_id::text
  where exists (
    select from budgets as b
    where ${isOfPayer(scope, 'b')} and b.removed_at is null and b.api_key_id is not null)
), other_tail as materialized (
  select m.*
  from other as u
  cross join lateral (
    ${tailRows(ORGANIZATION_SCOPE, 'm.api_key_id, m.created_at, m.cost', 'u')}
  ) as m
  where m.api_key_id is not null
), forwarded as materialized (
  select x.window_id, sum(h.spent_microdollars) as spent
  from usage_holds as h
  cross join unnest(h.window_ids) as x(window_id)
  where ${isHolding(scope, 'h')}
    and h.expires_at = ${FORWARDED}
  group by x.window_id
), open as materialized (
  select h.window_ids, h.amount_microdollars as amount
  from usage_holds as h
  where ${isOpenHold(scope.name, '$1::text', 'h')}
  union all
  select h.window_ids, h.amount_microdollars
  from other as u
  join usage_holds as h on ${isOpenHold('organization', 'u.payer_id', 'h')}
)
select b.id as budget_id, b.scope, b.kilo_user_id, b.api_key_id, b.project_id, b.period, b.time_zone,
  b.is_hard, b.is_balance, b.set_by, b.limit_microdollars as base_limit_microdollars,
  ${limitOf(scope, 'b')} as limit_microdollars,
  case when b.raise_until > now() then b.raise_microdollars end as raise_microdollars,
  case when b.raise_until > now()
    then (extract(epoch from b.raise_until) * 1000000)::bigint end as raise_until_micros,
  w.id as window_id,
  case when w.window_end < 'infinity'
    then (extract(epoch from w.window_end) * 1000000)::bigint end as resets_micros,
  case when b.is_balance then coalesce((${balanceOf(scope)}), 0)
    else coalesce(w.spent_microdollars, 0) + coalesce((
      select sum(m.cost)
      from tail as m
      where m.created_at >= w.window_start
        and m.created_at < w.window_end
        and ${counts('b', 'm')}
    ), 0) + coalesce((
      select sum(m.cost)
      from other_tail as m
      where m.created_at >= w.window_start
        and m.created_at < w.window_end
        and m.api_key_id = b.api_key_id
    ), 0) + coalesce((select f.spent from forwarded as f where f.window_id = w.id), 0) end as spent,
  coalesce((select sum(o.amount) from open as o where w.id = any (o.window_ids)), 0) as held
from budgets as b
left join lateral (
  select w.*
  from budget_windows as w
  where w.budget_id = b.id
    and ${isCurrent('w', 'b')}
  limit 1
) as w on true
where ${isOfPayer(scope, 'b')}
  and b.removed_at is null
order by not b.is_balance, b.created_at, b.id`;

const TEXTS = new Map(PAYER_SCOPES.map((scope) => [scope, readText(scope)]));

export function readBudgetsStatement(scope: PayerScope, payerId: string): Statement {
  return {
    name: `microdollar_read_budgets_${scope.name}`,
    text: TEXTS.get(scope) ?? '',
    values: [payerId],
  };
}
