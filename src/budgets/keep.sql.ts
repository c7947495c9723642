import { plainArray, type Statement } from '../db/statement.js';
import { BUDGETS_MARK } from '../schema/budgets.js';
import { markColumns, tailRows } from '../schema/dimensionRollups.js';
import type { PayerScope } from '../schema/unsettled.js';
import { balanceOf } from './matching.sql.js';

/** Owners of holds that are not released, with their heartbeats. */
export const HOLD_OWNERS_STATEMENT: Statement = {
  name: 'microdollar_hold_owners',
  text: `/* microdollar.holdOwners */
select o.owner, g.beat
from (
  select distinct h.owner
  from usage_holds as h
  where h.owner is not null
    and h.released_at is null
) as o
left join gateway_instances as g on g.owner = o.owner`,
  values: [],
};

export interface ReleasedPayerRow {
  payer_scope: 'user' | 'organization';
  payer_id: string;
  holds: string;
}

/**
 * Releases holds of owners that are dead, and those without an owner whose time is over; not those
 * whose usage is recorded: the fold takes them. Nor those of a gateway's request whose usage is to
 * come, as an estimate of its intent or from a response in the background: what they spend would
 * have been given to others. Waits for nobody. One row a payer.
 */
export function releaseExpiredStatement(dead: readonly string[], limit: number): Statement {
  return {
    name: 'microdollar_release_expired',
    text: `/* microdollar.releaseExpired */
with expired as materialized (
  select h.id
  from usage_holds as h
  where h.released_at is null
    and (h.owner = any ($1::uuid[]) or (h.owner is null and h.expires_at < now()))
    and not exists (select from microdollar_usage as m where m.id = h.id)
    and not exists (select from gateway_intents as i where i.id = h.id)
    and not exists (
      select from gateway_responses as r where r.usage_id = h.id and r.settled_at is null)
  limit $2::integer
  for no key update of h skip locked
), released as (
  update usage_holds as h
  set released_at = now()
  where h.id = any (array(select e.id from expired as e))
  returning h.payer_scope, h.payer_id
)
select r.payer_scope, r.payer_id, count(*) as holds
from released as r
group by r.payer_scope, r.payer_id`,
    values: [plainArray(dead), limit],
  };
}

/** Holds that were given back a day ago: usage that comes later names no hold any more. */
export const FORGET_RELEASED_STATEMENT: Statement = {
  name: 'microdollar_forget_released',
  text: `/* microdollar.forgetReleased */
delete from usage_holds as h
where h.window_ids = '{}'
  and h.released_at < now() - interval '1 day'`,
  values: [],
};

/** Forgets instances that hold nothing any more; a gateway's with intents stays. */
export function forgetInstancesStatement(owners: readonly string[]): Statement {
  return {
    name: 'microdollar_forget_instances',
    text: `/* microdollar.forgetInstances */
delete from gateway_instances as g
where g.owner = any ($1::uuid[])
  and not exists (select from gateway_intents as i where i.owner = g.owner)
  and not exists (
    select from usage_holds as h where h.owner = g.owner and h.released_at is null)`,
    values: [plainArray(owners)],
  };
}

export interface SweptBudgetsRow {
  /** Last payer of the page; null when there are no more. */
  last_id: string | null;
  payers: number;
  /** Those that a fold would change. */
  ids: string[];
}

/**
 * A page of payers that have budgets, and which of them to fold: usage past the mark, holds that were
 * closed, a balance whose limit is another, or that an alert is on and Exa has moved, a raise that ended
 * lately. The first page is a text of its own: one for both could not begin at its place by index.
 */
export function sweepBudgetsStatement(
  scope: PayerScope,
  afterId: string | null,
  limit: number,
): Statement {
  const isFirst = afterId === null;
  return {
    name: `microdollar_sweep_budgets_${scope.name}${isFirst ? '' : '_after'}`,
    text: `/* microdollar.sweepBudgets ${scope.name} */
with page as materialized (
  select k.payer_id, k.payer_id::${scope.idType} as id, ${markColumns('k', '0')}
  from rollup_marks as k
  where k.rollup = '${BUDGETS_MARK}'
    and k.payer_scope = '${scope.name}'${isFirst ? '' : '\n    and k.payer_id > $2::text'}
  order by k.payer_id
  limit $1::integer
)
select (select max(u.payer_id) from page as u) as last_id,
  (select count(*)::integer from page) as payers,
  array(
    select u.payer_id
    from page as u
    where exists (
        ${tailRows(scope, '1', 'u')}
      )
      or exists (
        select
        from usage_holds as h
        where h.payer_scope = '${scope.name}'
          and h.payer_id = u.payer_id
          and h.window_ids <> '{}'
          and (h.released_at is not null
            or exists (select from microdollar_usage as m where m.id = h.id))
      )
      or exists (
        select
        from budgets as b
        where b.payer_scope = '${scope.name}'
          and b.payer_id = u.payer_id
          and b.removed_at is null
          and (b.raise_until between now() - interval '1 day' and now()
            or (b.is_balance and exists (
              select
              from budget_windows as w
              join ${scope.payers} as p on p.id = u.id
              where w.budget_id = b.id
                and w.limit_microdollars <> p.total_microdollars_acquired
            )))
      )
      or exists (
        select
        from usage_alerts as a
        join budgets as b
          on b.payer_scope = a.payer_scope
          and b.payer_id = a.payer_id
          and b.is_balance
          and b.removed_at is null
        join budget_windows as w on w.budget_id = b.id
        where a.payer_scope = '${scope.name}'
          and a.payer_id = u.payer_id
          and a.kind = 'balance'
          and a.removed_at is null
          and w.spent_microdollars <> (${balanceOf(scope, 'u.id')})
      )
  ) as ids`,
    values: isFirst ? [limit] : [limit, afterId],
  };
}
