import { exceptionsOf, SNAPSHOT, tailAfter } from '../counter/marks.sql.js';
import { UNKNOWN_GENERATION } from '../counter/position.sql.js';
import type { Statement } from '../db/statement.js';
import { SPEND_DAYS } from '../schema/alerts.js';
import { BUDGETS_MARK, type BudgetPeriod, type BudgetScope, FORWARDED } from '../schema/budgets.js';
import { isCounted, tailRows } from '../schema/dimensionRollups.js';
import { PAYER_SCOPES, type PayerScope } from '../schema/unsettled.js';
import {
  balanceOf,
  counts,
  isHolding,
  isOfKeys,
  isOfPayer,
  limitOf,
  markOf,
  oldestStart,
} from './matching.sql.js';

/** A window as the fold left it. */
export interface FoldedWindowRow {
  budget_id: string;
  window_id: string;
  scope: BudgetScope;
  period: BudgetPeriod;
  is_balance: boolean;
  limit_microdollars: string;
  /** When it ends; null of all time. */
  resets_micros: string | null;
  /** What the fold could distribute; negative: a debt. Microdollars. */
  pool: string;
  /** Slots that were free. */
  slots: number;
  /** Of a hard budget in force. */
  is_open: boolean;
  /** The mark stopped before the end: there may be more. */
  has_more: boolean;
}

/** With what alerts are decided by, the same in each row. */
export interface FoldRow extends FoldedWindowRow {
  /** The payer has alerts: what was folded may cross a threshold. */
  has_alerts: boolean;
  /** Hours, UTC, of the usage that was counted, as far as an alert looks at them; null without one. */
  spend_hours: string[] | null;
}

/** Alerts `a` of payer $1 that are in force. */
const isAlertOf = (scope: PayerScope): string =>
  `${isOfPayer(scope, 'a')} and a.removed_at is null`;

/** In so many parts of what is asked at once a slot is worth having. */
const ASKS_PER_SLOT = 4;
/** Of one slot: 64 bits hold it, whatever is added. */
const MOST_OF_A_SLOT = '1000000000000000000';

/** Columns of the log that budgets look at. */
const COLUMNS = 'm.kilo_user_id, m.api_key_id, m.project_id, m.created_at, m.cost, m.position';

/** What group `c` of usage spends of windows of budgets `b`: by window. */
const SPENT_BY_WINDOW = `cross join unnest(c.times, c.costs) as m(created_at, cost)
  join budget_windows as w
    on w.budget_id = b.id
    and w.window_start >= ${oldestStart('b', 'm.created_at')}
    and w.window_start <= m.created_at
    and w.window_end > m.created_at
  group by w.id`;

/**
 * Folds the usage of payer $1 past the mark into its windows, gives back what its closed holds
 * reserved, takes in limits, and distributes what is left to the slots: one statement, in a
 * transaction that holds the mark (openWindows.sql.ts). $2 most rows to count, $3 slots to take of a
 * window, those with the least first, $4 microdollars asked for at once.
 *
 *   s, payer   snapshot, mark and new mark, as in counter/foldDimensions.sql.ts (R1-R3)
 *   tail       usage that is not counted yet; `counts`: is by this statement
 *   used       that, by what budgets tell apart
 *   budget     those in force
 *   closed     holds whose usage row is counted now or before, or that were released without any,
 *              where nobody holds them; of the locked version, so that what extended them is in it.
 *              Those that are held go with a later fold: until then their amount counts twice
 *   forwarded  what holds of this payer give back to windows of other payers, the budgets of their keys, and
 *              what this usage of those keys spends of them: left to their own fold, which takes it from here
 *   held       windows that holds name, also those of `closed`
 *   touched    windows of now, and those that anything above is in. Of one that has ended, or whose
 *              budget was removed, the limit stays
 *   slot       windows with each of their slots that was free; one row without, where none was
 *   pooled     carry + changes of the limit + given back - spent + free slots: I13 says that this is
 *              what carry and these slots hold together afterwards
 *   shared     in how many parts, and how large; nothing of a debt, and nothing is stranded where the
 *              pool is small beside what is asked
 *
 * An organization may have a budget for each of thousands of members. So what is known of a window is
 * carried along with its slots, and found by key: no CTE is searched for each row of another, which the
 * square of so many would make.
 */
function foldText(scope: PayerScope): string {
  return `/* microdollar.foldBudgets ${scope.name} */
with s as materialized (
  ${SNAPSHOT}
), payer as materialized (
  select u.*, b.mark < (select s.ended_below from s) as has_more,
    greatest(u.below, b.mark) as new_below,
    ${exceptionsOf('(select s.running from s)::bigint[]')} as new_except
  from (
    ${markOf(scope)}
      and (select s.base from s) < ${UNKNOWN_GENERATION}
  ) as u
  cross join lateral (
    select least((select s.ended_below from s),
      ${tailAfter(scope, '$2::integer')}) as mark
    offset 0
  ) as b
), tail as materialized (
  select m.*, abs(m.position) < u.new_below and abs(m.position) <> all (u.new_except) as counts
  from payer as u
  cross join lateral (
    ${tailRows(scope, COLUMNS, 'u')}
  ) as m
  where m.cost <> 0
), used as materialized (
  select m.kilo_user_id, m.api_key_id, m.project_id, array_agg(m.created_at) as times,
    array_agg(m.cost) as costs
  from tail as m
  where m.counts
  group by m.kilo_user_id, m.api_key_id, m.project_id
), budget as materialized (
  select b.id, b.period, b.is_balance, b.kilo_user_id, b.api_key_id, b.project_id
  from budgets as b
  where ${isOfPayer(scope, 'b')}
    and b.removed_at is null
), spent as materialized (
  select w.id as window_id, sum(m.cost) as cost
  from used as c
  join budget as b
    on not b.is_balance
    and ${counts('b', 'c')}
  ${SPENT_BY_WINDOW}
), closed as materialized (
  select h.id, h.amount_microdollars as amount, h.spent_microdollars as spent, h.window_ids,
    h.expires_at = ${FORWARDED}
      or exists (select from microdollar_usage as m where m.id = h.id) as is_over
  from usage_holds as h
  where ${isHolding(scope, 'h')}
    and (
      exists (
        select
        from (select (select u.new_below from payer as u) as below,
          (select u.new_except from payer as u) as except offset 0) as k
        join microdollar_usage as m on m.id = h.id and ${isCounted('k')}
      )
      or (h.released_at is not null
        and not exists (select from microdollar_usage as m where m.id = h.id))
    )
  for update of h skip locked
), returned as materialized (
  select x.window_id, sum(c.amount) as amount, sum(c.spent) as spent
  from closed as c
  cross join unnest(c.window_ids) as x(window_id)
  group by x.window_id
), other_budget as materialized (
  select b.id, b.period, b.api_key_id
  from budgets as b
  where ${isOfKeys(scope, 'b', '= any (array(select c.api_key_id from used as c))')}
), other_spent as materialized (
  select w.id as window_id, sum(m.cost) as cost
  from other_budget as b
  join used as c on c.api_key_id = b.api_key_id
  ${SPENT_BY_WINDOW}
), forwarded as (
  insert into usage_holds (id, payer_scope, payer_id, kilo_user_id, api_key_id, amount_microdollars,
    spent_microdollars, window_ids, expires_at, released_at)
  select gen_random_uuid(), b.payer_scope, b.payer_id, '', b.api_key_id, sum(x.amount), sum(x.cost),
    array[w.id], ${FORWARDED}, now()
  from (
    select r.window_id, r.amount, 0 as cost from returned as r
    union all
    select o.window_id, 0, o.cost from other_spent as o
  ) as x
  join budget_windows as w on w.id = x.window_id
  join budgets as b on b.id = w.budget_id
  where (b.payer_scope, b.payer_id) is distinct from ('${scope.name}', $1::text)
  group by b.payer_scope, b.payer_id, b.api_key_id, w.id
), held as materialized (
  select x.window_id, max(h.amount_microdollars) as largest
  from usage_holds as h
  cross join unnest(h.window_ids) as x(window_id)
  where ${isHolding(scope, 'h')}
  group by x.window_id
), part as materialized (
  select x.window_id, sum(x.cost) as cost, sum(x.returned) as returned, max(x.largest) as largest
  from (
    select w.id as window_id, 0 as cost, 0 as returned, null::bigint as largest
    from budget as b
    cross join lateral (
      select w.id
      from budget_windows as w
      where w.budget_id = b.id
        and w.window_start >= ${oldestStart('b', 'now()')}
        and w.window_end > now()
      offset 0
    ) as w
    union all
    select p.window_id, p.cost, 0, null from spent as p
    union all
    select r.window_id, r.spent, r.amount, null from returned as r
    union all
    select h.window_id, 0, 0, h.largest from held as h
  ) as x
  group by x.window_id
), touched as materialized (
  select w.id, w.budget_id, b.scope, b.period, b.is_balance, w.window_end,
    w.carry_microdollars as carry, w.spent_microdollars as spent,
    w.limit_microdollars as limit_before, b.removed_at is null and b.is_hard as is_open,
    case when b.removed_at is null and w.window_end > now() then ${limitOf(scope, 'b')}
      else w.limit_microdollars end as limit_now,
    case when b.is_balance
      then coalesce((${balanceOf(scope)})
        - (select coalesce(sum(m.cost) filter (where not m.counts), 0) from tail as m)
        - w.spent_microdollars, 0)
      else x.cost
    end as newly_spent,
    x.returned, x.largest
  from part as x
  join budget_windows as w on w.id = x.window_id
  join budgets as b on b.id = w.budget_id
  where ${isOfPayer(scope, 'b')}
), slot as materialized (
  select w.*, h.slot, h.remaining,
    row_number() over (partition by w.id order by h.slot) as place,
    (count(h.slot) over of_window)::integer as slots,
    coalesce(sum(h.remaining) over of_window, 0) as free
  from touched as w
  left join lateral (
    select h.slot, h.remaining_microdollars as remaining
    from headroom as h
    where h.window_id = w.id
    order by h.remaining_microdollars, h.slot
    limit $3::integer
    for no key update of h skip locked
  ) as h on true
  window of_window as (partition by w.id)
), pooled as materialized (
  select h.*, h.carry + h.limit_now - h.limit_before + h.returned - h.newly_spent + h.free as pool
  from slot as h
), shared as materialized (
  select p.*, case when x.parts = 0 then 0
    else least(div(p.pool, x.parts), ${MOST_OF_A_SLOT}) end as part, x.parts
  from pooled as p
  cross join lateral (
    select case when p.is_open and p.slots > 0 and p.pool > 0
      then least(p.slots, greatest(1, div(p.pool, ${ASKS_PER_SLOT} * greatest($4::bigint, 1, p.largest))))
      else 0 end as parts
  ) as x
), new_slot as materialized (
  select p.*, coalesce(sum(p.new_remaining) over (partition by p.id), 0) as given
  from (
    select p.*,
      case
        when p.slot is null then null
        when p.place > p.parts then 0
        when p.place = 1 then least(p.pool - (p.parts - 1) * p.part, ${MOST_OF_A_SLOT})
        else p.part
      end as new_remaining
    from shared as p
  ) as p
), written as (
  update headroom as h
  set remaining_microdollars = n.new_remaining::bigint
  from new_slot as n
  where h.window_id = n.id
    and h.slot = n.slot
    and n.remaining <> n.new_remaining
), counted as (
  update budget_windows as w
  set limit_microdollars = p.limit_now,
    spent_microdollars = p.spent + p.newly_spent,
    carry_microdollars = p.pool - p.given
  from new_slot as p
  where w.id = p.id
    and p.place = 1
    and (p.limit_now, p.newly_spent, p.pool - p.given) is distinct from (p.limit_before, 0, p.carry)
), taken_away as (
  delete from usage_holds as h
  where h.id = any (array(select c.id from closed as c where c.is_over))
), given_back as (
  update usage_holds as h
  set amount_microdollars = 0,
    window_ids = '{}'
  where h.id = any (array(select c.id from closed as c where not c.is_over))
), marked as (
  update rollup_marks as k
  set settled_below = (select u.new_below from payer as u),
    settled_except = (select u.new_except from payer as u)
  where k.rollup = '${BUDGETS_MARK}'
    and k.payer_scope = '${scope.name}'
    and k.payer_id = $1::text
    and exists (select from payer)
)
select p.budget_id, p.id as window_id, p.scope, p.period, p.is_balance, p.pool, p.slots, p.is_open,
  p.limit_now as limit_microdollars, u.has_more,
  exists (select from usage_alerts as a where ${isAlertOf(scope)}) as has_alerts,
  case when exists (select from usage_alerts as a where ${isAlertOf(scope)} and a.kind = 'spend')
    then array(
      select distinct date_trunc('hour', m.created_at, 'UTC')
      from tail as m
      where m.counts
        and m.created_at > now() - interval '${SPEND_DAYS} days'
    )::text[] end as spend_hours,
  case when p.window_end < 'infinity'
    then (extract(epoch from p.window_end) * 1000000)::bigint end as resets_micros
from new_slot as p
cross join payer as u
where p.place = 1`;
}

const TEXTS = new Map(PAYER_SCOPES.map((scope) => [scope, foldText(scope)]));

export interface FoldLimits {
  rows: number;
  slots: number;
  /** Microdollars. */
  asked: number;
}

export function foldBudgetsStatement(
  scope: PayerScope,
  payerId: string,
  limits: FoldLimits,
): Statement {
  return {
    name: `microdollar_fold_budgets_${scope.name}`,
    text: TEXTS.get(scope) ?? '',
    values: [payerId, limits.rows, limits.slots, limits.asked],
  };
}
