import type { Statement } from '../db/statement.js';
import { microsOf } from '../record/instants.sql.js';
import { MAX_ATTEMPTS } from './backOff.js';
import type { EventRow } from './payload.js';

/** Longer than any try takes. */
const LEASE = `interval '60 seconds'`;

export const isPending = (row: string): string => `${row}.delivered_at is null
    and ${row}.dead_at is null`;

/** Null of the open end of a window. */
const finiteMicros = (instant: string): string =>
  `case when isfinite(${instant}) then ${microsOf(instant)} end`;

/** Columns of `EventRow`, of event `e`, its alert `a` and its budget `b`. */
export const EVENT_COLUMNS = `e.id as event_id, e.alert_id, a.kind, a.payer_scope, a.payer_id, e.budget_id,
  b.scope as budget_scope, b.period as budget_period, b.kilo_user_id as member_id, b.api_key_id,
  b.project_id, ${finiteMicros('e.window_start')} as window_start_micros,
  ${finiteMicros('e.window_end')} as window_end_micros, e.threshold, e.limit_microdollars,
  e.spent_microdollars, ${microsOf('e.created_at')} as event_created_micros`;

export const EVENT_OF = (id: string): string => `usage_alert_events as e on e.id = ${id}
join usage_alerts as a on a.id = e.alert_id
left join budgets as b on b.id = e.budget_id`;

export interface ClaimedRow extends EventRow {
  id: string;
  /** This try, from 1; who has it may say how it ended. */
  attempts: number;
  webhook_id: string;
  is_failing: boolean;
  url: string;
  secret: string;
  /** While it signs as well. */
  previous_secret: string | null;
}

export interface ClaimLimits {
  free: number;
  /** Of them for webhooks whose last try failed. */
  freeForFailing: number;
  /** At once to one webhook, by everybody. */
  perWebhook: number;
}

/**
 * Takes deliveries that are due, for a lease: nobody else tries them meanwhile, and after it somebody does,
 * if this process died. Committed before anything is sent. Webhooks that answer come first; those that
 * do not get one try at a time and a part of the places, so that they starve nobody.
 */
export function claimStatement({ free, freeForFailing, perWebhook }: ClaimLimits): Statement {
  return {
    name: 'microdollar_claim_alert_deliveries',
    text: `/* microdollar.claimAlertDeliveries */
with due as materialized (
  select distinct d.webhook_id
  from usage_alert_deliveries as d
  where ${isPending('d')}
    and d.next_attempt_at <= now()
), webhook as materialized (
  select h.id, h.failing_since is not null as is_failing, (
      select count(*)
      from usage_alert_deliveries as d
      where d.webhook_id = h.id
        and ${isPending('d')}
        and d.leased_until > now()
    ) as in_flight
  from due as d
  join usage_alert_webhooks as h on h.id = d.webhook_id
  where h.removed_at is null
    and h.disabled_at is null
), candidate as materialized (
  select d.id, w.is_failing,
    row_number() over (partition by w.is_failing order by d.next_attempt_at, d.id) as place
  from webhook as w
  cross join lateral (
    select d.id, d.next_attempt_at
    from usage_alert_deliveries as d
    where d.webhook_id = w.id
      and ${isPending('d')}
      and d.next_attempt_at <= now()
      and d.attempts < ${MAX_ATTEMPTS}
      and (d.leased_until is null or d.leased_until <= now())
    order by d.next_attempt_at
    limit greatest(0, case when w.is_failing then 1 else $3::integer end - w.in_flight)
    for no key update of d skip locked
  ) as d
), chosen as materialized (
  select c.id
  from candidate as c
  where not c.is_failing
    or c.place <= $2::integer
  order by c.is_failing, c.place
  limit $1::integer
), claimed as (
  update usage_alert_deliveries as d
  set attempts = d.attempts + 1,
    leased_until = now() + ${LEASE},
    last_attempt_at = now()
  where d.id = any (array(select c.id from chosen as c))
  returning d.id, d.event_id, d.webhook_id, d.attempts
)
select d.id, d.attempts, d.webhook_id, h.failing_since is not null as is_failing, h.url, h.secret,
  case when h.previous_secret_until > now() then h.previous_secret end as previous_secret,
  ${EVENT_COLUMNS}
from claimed as d
join usage_alert_webhooks as h on h.id = d.webhook_id
join ${EVENT_OF('d.event_id')}`,
    values: [free, freeForFailing, perWebhook],
  };
}

/** Delivered: whoever tried it, and whatever became of the lease. */
export function deliveredStatement(id: string, status: number): Statement {
  return {
    name: 'microdollar_alert_delivered',
    text: `/* microdollar.alertDelivered */
with done as (
  update usage_alert_deliveries as d
  set delivered_at = now(),
    dead_at = null,
    leased_until = null,
    last_status = $2::integer,
    last_error = null
  where d.id = $1::uuid
    and d.delivered_at is null
  returning d.webhook_id
)
update usage_alert_webhooks as h
set failing_since = null
where h.id = any (array(select d.webhook_id from done as d))
  and h.failing_since is not null`,
    values: [id, status],
  };
}

export interface FailedTry {
  id: string;
  attempts: number;
  status: number | null;
  error: string | null;
  /** Until the next try, ms; null: there is none. */
  pauseMs: number | null;
  /** The webhook wants no more (410). */
  isGone: boolean;
}

/** Failed, where nobody else tries it by now. One row where it is dead. */
export function failedStatement(failed: FailedTry): Statement {
  return {
    name: 'microdollar_alert_failed',
    text: `/* microdollar.alertFailed */
with failed as (
  update usage_alert_deliveries as d
  set leased_until = null,
    last_status = $3::integer,
    last_error = $4::text,
    next_attempt_at = now() + coalesce($5::double precision, 0) * interval '1 millisecond',
    dead_at = case when $5::double precision is null then now() end
  where d.id = $1::uuid
    and d.attempts = $2::integer
    and ${isPending('d')}
  returning d.webhook_id, d.dead_at
), webhook as (
  update usage_alert_webhooks as h
  set failing_since = coalesce(h.failing_since, now()),
    disabled_at = case when $6::boolean then coalesce(h.disabled_at, now()) else h.disabled_at end,
    disabled_reason = case when $6::boolean then 'it answered 410 Gone' else h.disabled_reason end
  where h.id = any (array(select f.webhook_id from failed as f))
)
select from failed as f
where f.dead_at is not null`,
    values: [
      failed.id,
      failed.attempts,
      failed.status,
      failed.error,
      failed.pauseMs,
      failed.isGone,
    ],
  };
}

/** Given up before it was sent, by a process that stops: somebody tries it at once, as if it had not. */
export function givenBackStatement(id: string, attempts: number): Statement {
  return {
    name: 'microdollar_alert_given_back',
    text: `/* microdollar.alertGivenBack */
update usage_alert_deliveries as d
set leased_until = null,
  attempts = d.attempts - 1
where d.id = $1::uuid
  and d.attempts = $2::integer
  and ${isPending('d')}`,
    values: [id, attempts],
  };
}

/**
 * What waits for a webhook that is removed or disabled becomes dead letters, one row each; so does what
 * nobody lived to tell the last try of.
 */
export const BURY_STATEMENT: Statement = {
  name: 'microdollar_bury_alert_deliveries',
  text: `/* microdollar.buryAlertDeliveries */
update usage_alert_deliveries as d
set dead_at = now(),
  leased_until = null,
  last_error = case when h.removed_at is not null then 'the webhook was removed'
    when h.disabled_at is not null then 'the webhook is disabled'
    else 'the process of the last try ended before it could tell' end
from usage_alert_webhooks as h
where h.id = d.webhook_id
  and (h.removed_at is not null or h.disabled_at is not null or d.attempts >= ${MAX_ATTEMPTS})
  and ${isPending('d')}
  and (d.leased_until is null or d.leased_until <= now())
returning d.id`,
  values: [],
};

export interface OutboxRow {
  pending: string;
  dead: string;
  /** Age of the oldest that is pending, seconds; 0: none is. */
  oldest_age_seconds: number;
}

export const OUTBOX_STATEMENT: Statement = {
  name: 'microdollar_alert_outbox',
  text: `/* microdollar.alertOutbox */
select
  (select count(*) from usage_alert_deliveries as d where ${isPending('d')}) as pending,
  (select count(*) from usage_alert_deliveries as d where d.dead_at is not null) as dead,
  coalesce((
    select extract(epoch from now() - min(d.created_at))::double precision
    from usage_alert_deliveries as d
    where ${isPending('d')}
  ), 0) as oldest_age_seconds`,
  values: [],
};
