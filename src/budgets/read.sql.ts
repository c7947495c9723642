import type { Statement } from '../db/statement.js';
import type { BudgetPeriod, BudgetScope, BudgetSetter } from '../schema/budgets.js';
import { tailRows } from '../schema/dimensionRollups.js';
import { PAYER_SCOPES, type PayerScope } from '../schema/unsettled.js';
import {
  balanceOf,
  counts,
  isCurrent,
  isOfPayer,
  isOpenHold,
  limitOf,
  markOf,
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
 * mark, held are the open holds. What is left is limit - spent - held.
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
), open as materialized (
  select h.window_ids, h.amount_microdollars as amount
  from usage_holds as h
  where ${isOpenHold(scope.name, '$1::text', 'h')}
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
    ), 0) end as spent,
  coalesce((select sum(o.amount) from open as o where w.id = any (o.window_ids)), 0) as held
from budgets as b
left join lateral (
  select w.*
  from budget_windows as w
  where w.budget_id = b.id
    and ${isCurrent('w')}
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
