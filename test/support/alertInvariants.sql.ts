import { type Invariant, ofRows } from './invariant.js';

/**
 * I15: every threshold that what is settled has crossed is in the outbox, once; nothing else is. As in
 * invariants.sql.ts, each statement returns one row per violation, and shares no expression with the product.
 */

/** Of alerts in force: crossed now, by window, as the budgets have settled it. */
const CROSSED_BUDGETS = `
select format('I15 alert %s: %s of %s is spent in the window of %s, past %s percent, and told %s times',
  a.id, w.spent_microdollars, w.limit_microdollars, w.window_start, t, told.times) as message
from usage_alerts as a
join budgets as b on b.id = a.budget_id and b.removed_at is null
join budget_windows as w on w.budget_id = b.id
cross join unnest(a.thresholds) as t
cross join lateral (
  select count(*) as times
  from usage_alert_events as e
  where e.alert_id = a.id and e.window_start = w.window_start and e.threshold = t
) as told
where a.removed_at is null
  and a.kind = 'budget'
  and w.window_end > a.set_at
  and w.spent_microdollars > 0
  and w.spent_microdollars >= t * w.limit_microdollars / 100.0
  and told.times <> 1`;

const CROSSED_BALANCES = `
select format('I15 alert %s: %s of %s is spent, less than %s is left, and told %s times', a.id,
  w.spent_microdollars, w.limit_microdollars, a.thresholds[1], told.times) as message
from usage_alerts as a
join budgets as b
  on b.payer_scope = a.payer_scope
  and b.payer_id = a.payer_id
  and b.is_balance
  and b.removed_at is null
join budget_windows as w on w.budget_id = b.id
cross join lateral (
  select count(*) as times
  from usage_alert_events as e
  where e.alert_id = a.id and e.window_start = a.armed_at and e.threshold = a.thresholds[1]
) as told
where a.removed_at is null
  and a.kind = 'balance'
  and w.limit_microdollars < a.thresholds[1] + w.spent_microdollars
  and told.times <> 1`;

/** Usage of an hour that the mark of the budgets has passed; not where another program's rows are in it. */
const CROSSED_HOURS = `
select format('I15 alert %s: %s in the hour of %s, usual is %s, past %s percent, and told %s times', a.id,
  spent.amount, h.hour_start, h.usual_microdollars, t, told.times) as message
from usage_alerts as a
join usage_alert_hours as h on h.alert_id = a.id
cross join unnest(a.thresholds) as t
cross join lateral (
  select sum(r.cost)::numeric as amount, bool_or(r.position is null and r.cost <> 0) as has_foreign
  from microdollar_usage as r
  join rollup_marks as k
    on k.rollup = 'budgets'
    and k.payer_scope = a.payer_scope
    and k.payer_id = a.payer_id
  where case when a.payer_scope = 'user'
      then r.organization_id is null and r.kilo_user_id = a.payer_id
      else r.organization_id::text = a.payer_id end
    and r.created_at >= h.hour_start
    and r.created_at < h.hour_start + interval '1 hour'
    and (r.position is null or (abs(r.position) < k.settled_below
      and not exists (select from unnest(k.settled_except) as e where e = abs(r.position))))
) as spent
cross join lateral (
  select count(*) as times
  from usage_alert_events as e
  where e.alert_id = a.id and e.window_start = h.hour_start and e.threshold = t
) as told
where a.removed_at is null
  and a.kind = 'spend'
  and h.hour_start + interval '1 hour' > a.set_at
  and not spent.has_foreign
  and spent.amount > 0
  and spent.amount >= a.floor_microdollars
  and spent.amount >= t * h.usual_microdollars / 100.0
  and told.times <> 1`;

/** What was told is a crossing by its own figures. */
const TOLD_WITHOUT_CROSSING = `
select format('I15 event %s of alert %s: %s of %s is no crossing of %s', e.id, e.alert_id,
  e.spent_microdollars, e.limit_microdollars, e.threshold) as message
from usage_alert_events as e
left join usage_alerts as a on a.id = e.alert_id
where case a.kind
  when 'balance' then e.limit_microdollars >= e.threshold + e.spent_microdollars
  when 'budget' then e.spent_microdollars <= 0
    or e.spent_microdollars < e.threshold * e.limit_microdollars / 100.0
  when 'spend' then e.spent_microdollars <= 0
    or e.spent_microdollars < e.threshold * e.limit_microdollars / 100.0
  else true end`;

/**
 * Nor were its figures made up: all that was ever charged in its window, refunds left out, is as much.
 * Where nothing was archived.
 */
const TOLD_WITHOUT_USAGE = `
select format('I15 event %s of alert %s: spent %s, but no more than %s was ever charged', e.id, e.alert_id,
  e.spent_microdollars, charged.amount) as message
from usage_alert_events as e
join usage_alerts as a on a.id = e.alert_id and a.kind <> 'balance'
left join budgets as b on b.id = e.budget_id
cross join lateral (
  select coalesce(sum(r.cost), 0) as amount
  from microdollar_usage as r
  where case when a.payer_scope = 'user'
      then r.organization_id is null and r.kilo_user_id = a.payer_id
      else r.organization_id::text = a.payer_id end
    and (b.kilo_user_id is null or r.kilo_user_id = b.kilo_user_id)
    and (b.api_key_id is null or r.api_key_id = b.api_key_id)
    and (b.project_id is null or r.project_id = b.project_id)
    and r.created_at >= e.window_start
    and r.created_at < e.window_end
    and r.cost > 0
) as charged
where e.spent_microdollars > charged.amount
  and not exists (select from microdollar_usage_daily where archived_cost_microdollars <> 0)`;

/** The unique index may be missing, or broken. */
const TOLD_TWICE = `
select format('I15 alert %s: the window of %s was told %s times at %s', alert_id, window_start, count(*),
  threshold) as message
from usage_alert_events
group by alert_id, window_start, threshold
having count(*) > 1`;

const DELIVERIES = `
select format('I15 delivery %s: its event or webhook is not there', d.id) as message
from usage_alert_deliveries as d
where not exists (select from usage_alert_events as e where e.id = d.event_id)
  or not exists (select from usage_alert_webhooks as h where h.id = d.webhook_id)`;

export const ALERTS: readonly Invariant[] = [
  ...ofRows(['usage_alerts'], [CROSSED_BUDGETS, CROSSED_BALANCES, CROSSED_HOURS]),
  ...ofRows(['usage_alert_events'], [TOLD_WITHOUT_CROSSING, TOLD_WITHOUT_USAGE, TOLD_TWICE]),
  ...ofRows(['usage_alert_deliveries'], [DELIVERIES]),
];
