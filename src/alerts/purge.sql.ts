import { isOfPayer } from '../budgets/matching.sql.js';
import type { Statement } from '../db/statement.js';
import { PAYER_SCOPES, type PayerScope } from '../schema/unsettled.js';

/**
 * Whether event `e` was heard by everybody so many days ago: its window is over, and nothing of it waits
 * or is a dead letter. $n is the number of days, an expression.
 */
const isOld = (days: string): string => `e.created_at < now() - ${days} * interval '1 day'
  and e.window_end < now() - ${days} * interval '1 day'
  and not exists (
    select
    from usage_alert_deliveries as d
    where d.event_id = e.id
      and (d.delivered_at is null or d.delivered_at > now() - ${days} * interval '1 day')
  )`;

export interface PurgeablePayerRow {
  payer_scope: 'user' | 'organization';
  payer_id: string;
}

/** Payers with events that are old, after one, in the order of their ids. */
export function purgeablePayersStatement(
  days: number,
  after: PurgeablePayerRow | null,
  limit: number,
): Statement {
  return {
    name: 'microdollar_purgeable_alert_payers',
    text: `/* microdollar.purgeableAlertPayers */
select distinct a.payer_scope, a.payer_id
from usage_alert_events as e
join usage_alerts as a on a.id = e.alert_id
where ${isOld('$1::integer')}
  and ($2::text is null or (a.payer_scope, a.payer_id) > ($2::text, $3::text))
order by a.payer_scope, a.payer_id
limit $4::integer`,
    values: [days, after?.payer_scope ?? null, after?.payer_id ?? null, limit],
  };
}

/**
 * Forgets old events of payer $1 with their deliveries, at most $3. In a transaction that holds the payer's
 * mark: an event is what keeps its threshold from being told again, so its alert does not look at
 * windows of that time any more (A1).
 */
const purgeText = (scope: PayerScope): string => `/* microdollar.purgeAlerts ${scope.name} */
with old as materialized (
  select e.id, e.alert_id, e.window_end
  from usage_alert_events as e
  join usage_alerts as a on a.id = e.alert_id
  where ${isOfPayer(scope, 'a')}
    and ${isOld('$2::integer')}
  limit $3::integer
), passed as (
  update usage_alerts as a
  set set_at = o.until
  from (
    select o.alert_id, max(o.window_end) as until from old as o group by o.alert_id
  ) as o
  where a.id = o.alert_id
    and a.set_at < o.until
), deliveries as (
  delete from usage_alert_deliveries as d
  where d.event_id = any (array(select o.id from old as o))
), events as (
  delete from usage_alert_events as e
  where e.id = any (array(select o.id from old as o))
  returning e.id
)
select count(*)::integer as purged
from events`;

const TEXTS = new Map(PAYER_SCOPES.map((scope) => [scope, purgeText(scope)]));

export function purgeAlertsStatement(
  scope: PayerScope,
  payerId: string,
  days: number,
  limit: number,
): Statement {
  return {
    name: `microdollar_purge_alerts_${scope.name}`,
    text: TEXTS.get(scope) ?? '',
    values: [payerId, days, limit],
  };
}
