import { microsOf } from '../record/instants.sql.js';
import { EVENT_COLUMNS, EVENT_OF, isPending } from './deliveries.sql.js';
import type { EventRow } from './payload.js';

export type DeliveryState = 'pending' | 'delivered' | 'dead';

export interface DeliveryRow extends EventRow {
  /** Null: no webhook was there for it. */
  id: string | null;
  webhook_id: string | null;
  url: string | null;
  state: DeliveryState | null;
  attempts: number | null;
  next_attempt_micros: string | null;
  last_attempt_micros: string | null;
  last_status: number | null;
  last_error: string | null;
  delivered_micros: string | null;
  dead_micros: string | null;
}

/**
 * Events and their deliveries, the newest first. $1 scope and $2 id of the payer, null = everybody, $3
 * state, null = any, also without one, $4 most rows, $5 whether those to webhooks of everybody, which are
 * the operator's, are shown too.
 */
export const LIST_DELIVERIES = `/* alerts.listDeliveries */
select d.id, d.webhook_id, h.url,
  case when d.delivered_at is not null then 'delivered' when d.dead_at is not null then 'dead'
    when d.id is not null then 'pending' end as state,
  d.attempts, ${microsOf('d.next_attempt_at')} as next_attempt_micros,
  ${microsOf('d.last_attempt_at')} as last_attempt_micros, d.last_status, d.last_error,
  ${microsOf('d.delivered_at')} as delivered_micros, ${microsOf('d.dead_at')} as dead_micros,
  ${EVENT_COLUMNS}
from usage_alert_events as e
join usage_alerts as a on a.id = e.alert_id
left join budgets as b on b.id = e.budget_id
left join (
  usage_alert_deliveries as d
  join usage_alert_webhooks as h on h.id = d.webhook_id
) on d.event_id = e.id
  and ($5::boolean or h.payer_id is not null)
where ($2::text is null or (a.payer_scope = $1::text and a.payer_id = $2::text))
  and ($3::text is null
    or ($3 = 'delivered' and d.delivered_at is not null)
    or ($3 = 'dead' and d.dead_at is not null)
    or ($3 = 'pending' and d.id is not null and ${isPending('d')}))
order by e.created_at desc, e.id, d.id
limit $4::integer`;

/** Who pays for what delivery $1 is about. */
export const FIND_DELIVERY = `/* alerts.findDelivery */
select a.payer_scope, a.payer_id, d.dead_at is not null as is_dead, h.payer_id is null as is_shared,
  h.removed_at is not null or h.disabled_at is not null as is_closed
from usage_alert_deliveries as d
join usage_alert_webhooks as h on h.id = d.webhook_id
join ${EVENT_OF('d.event_id')}
where d.id = $1::uuid`;

/** Dead letter $1, or those of webhook $2, are tried again from the beginning, if it takes any. */
export const REPLAY_DELIVERIES = `/* alerts.replay */
update usage_alert_deliveries as d
set dead_at = null,
  attempts = 0,
  next_attempt_at = now(),
  leased_until = null
from usage_alert_webhooks as h
where h.id = d.webhook_id
  and h.removed_at is null
  and h.disabled_at is null
  and d.dead_at is not null
  and (d.id = $1::uuid or d.webhook_id = $2::uuid)
returning d.id`;
