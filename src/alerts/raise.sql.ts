import { hasCreditSince } from '../accounts/grants/grants.sql.js';
import { isOfPayer } from '../budgets/matching.sql.js';
import type { Statement } from '../db/statement.js';
import { PAYER_SCOPES, type PayerScope } from '../schema/unsettled.js';

export interface RaisedRow {
  /** Events that were not there yet. */
  raised: string;
}

/** Alerts `a` of payer $1 and this kind that are in force. */
export const alertsOfPayer = (scope: PayerScope, kind: 'budget' | 'balance' | 'spend'): string =>
  `select a.*
  from usage_alerts as a
  where ${isOfPayer(scope, 'a')}
    and a.kind = '${kind}'
    and a.removed_at is null`;

/**
 * CTEs `raised` and `queued`, of `crossed`: an event where there is none of its alert, window and
 * threshold, and its delivery to every webhook that is in force. A later crossing of the same one, by
 * usage after a refund, finds it there.
 */
export const raiseCrossed = (scope: PayerScope): string => `raised as (
  insert into usage_alert_events (alert_id, budget_id, window_start, window_end, threshold,
    limit_microdollars, spent_microdollars)
  select c.alert_id, c.budget_id, c.window_start, c.window_end, c.threshold, c.limit_microdollars,
    c.spent_microdollars
  from crossed as c
  on conflict (alert_id, window_start, threshold) do nothing
  returning id
), queued as (
  insert into usage_alert_deliveries (event_id, webhook_id)
  select e.id, h.id
  from raised as e
  join usage_alert_webhooks as h
    on h.removed_at is null
    and h.disabled_at is null
    and (h.payer_scope is null or (${isOfPayer(scope, 'h')}))
)`;

/**
 * Thresholds of budgets and balances of payer $1 that are crossed by what the fold of this transaction
 * left in windows $2. It holds the payer's mark: nobody else decides meanwhile.
 *
 *   balance   the payer's balance as a window, with each alert on it
 *   crossed   percent of a limit that are spent, where anything is; less left than an amount
 *   rearmed   balances that a top-up led out of the window that had its event: a new one begins. A
 *             refund alone leads nowhere: what crosses back and forth is one crossing. What was taken back,
 *             or expired, since then hides no top-up. One that somebody has locked is left to the next
 *             fold
 */
const raiseText = (scope: PayerScope): string => `/* microdollar.raiseAlerts ${scope.name} */
with balance as materialized (
  select a.id as alert_id, b.id as budget_id, a.armed_at, a.thresholds[1] as threshold,
    w.limit_microdollars, w.spent_microdollars,
    w.limit_microdollars - w.spent_microdollars as left_microdollars
  from (${alertsOfPayer(scope, 'balance')}) as a
  join budgets as b
    on ${isOfPayer(scope, 'b')}
    and b.is_balance
    and b.removed_at is null
  join budget_windows as w
    on w.budget_id = b.id
    and w.id = any ($2::bigint[])
), crossed as materialized (
  select a.id as alert_id, w.budget_id, w.window_start, w.window_end, t.threshold,
    w.limit_microdollars, w.spent_microdollars
  from (${alertsOfPayer(scope, 'budget')}) as a
  join budget_windows as w
    on w.budget_id = a.budget_id
    and w.id = any ($2::bigint[])
    and w.window_end > a.set_at
  cross join unnest(a.thresholds) as t(threshold)
  where w.spent_microdollars > 0
    and w.spent_microdollars * 100 >= t.threshold::numeric * w.limit_microdollars
  union all
  select b.alert_id, b.budget_id, b.armed_at, 'infinity', b.threshold, b.limit_microdollars,
    b.spent_microdollars
  from balance as b
  where b.left_microdollars < b.threshold
), ${raiseCrossed(scope)}, rearmed as (
  update usage_alerts as a
  set armed_at = greatest(now(), a.armed_at + interval '1 microsecond')
  where a.id = any (array(
    select o.id
    from balance as b
    join usage_alerts as o on o.id = b.alert_id
    where b.left_microdollars >= b.threshold
      and exists (
        select
        from usage_alert_events as e
        where e.alert_id = b.alert_id
          and e.window_start = b.armed_at
          and (e.limit_microdollars < b.limit_microdollars
            or ${hasCreditSince(scope, 'e.created_at')})
      )
    for no key update of o skip locked
  ))
)
select count(*) as raised
from raised`;

const TEXTS = new Map(PAYER_SCOPES.map((scope) => [scope, raiseText(scope)]));

export function raiseAlertsStatement(
  scope: PayerScope,
  payerId: string,
  windowIds: readonly string[],
): Statement {
  return {
    name: `microdollar_raise_alerts_${scope.name}`,
    text: TEXTS.get(scope) ?? '',
    values: [payerId, windowIds],
  };
}
