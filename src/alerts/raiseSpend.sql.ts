import { markOf } from '../budgets/matching.sql.js';
import type { Statement } from '../db/statement.js';
import { SPEND_DAYS } from '../schema/alerts.js';
import {
  isOfPayer,
  markColumns,
  QUARTER_HOURLY,
  startOf,
  tailRows,
} from '../schema/dimensionRollups.js';
import { PAYER_SCOPES, type PayerScope } from '../schema/unsettled.js';
import { alertsOfPayer, raiseCrossed } from './raise.sql.js';

/** Cost of a range that has no rows in it is 0. */
const costOf = (rows: string, column: string, from: string, until: string): string =>
  `coalesce((
      select sum(c.cost)
      from ${rows} as c
      where c.${column} >= ${from}
        and c.${column} < ${until}
    ), 0)`;

/** What the payer spent in a range: counter rows, by the index on their time, and the tail of the rollup. */
const spentOf = (scope: PayerScope, from: string, until: string): string =>
  `${costOf(
    `(
        select c.period_start, c.cost_microdollars as cost
        from ${QUARTER_HOURLY.name} as c
        where ${isOfPayer(scope, 'c', `$1::${scope.idType}`)}
      )`,
    'period_start',
    from,
    until,
  )} + ${costOf('rollup_tail', 'created_at', from, until)}`;

const WEEK_BEFORE = `w.hour_start - interval '${SPEND_DAYS} days'`;

/**
 * Hours $2 (UTC) in which the fold of this transaction counted usage of payer $1, against the usual: the mean
 * of the hours of the seven days before, idle ones too. That is taken once an hour, from the rollup of
 * quarter hours and its tail; so what comes late changes no hour that was looked at. Spent is what the
 * budgets have counted: rollup and its tail, less the tail of the budgets, in one snapshot.
 *
 *   *_tail     usage that the rollup, or the budgets, have not counted
 *   opened     hours that an alert looks at for the first time
 *   forgotten  hours that are not looked at any more
 *   crossed    as many percent of the usual, and at least the floor
 */
const raiseText = (scope: PayerScope): string => `/* microdollar.raiseSpend ${scope.name} */
with alert as materialized (
  ${alertsOfPayer(scope, 'spend')}
), hour as materialized (
  select h.hour_start, h.hour_start + interval '1 hour' as hour_end
  from unnest($2::timestamptz[]) as h(hour_start)
), rollup_tail as materialized (
  select m.created_at, m.cost
  from (
    select $1::${scope.idType} as id, ${markColumns('k', startOf(QUARTER_HOURLY))}
    from (select) as one
    left join rollup_marks as k
      on k.rollup = '${QUARTER_HOURLY.name}'
      and k.payer_scope = '${scope.name}'
      and k.payer_id = $1::text
  ) as u
  cross join lateral (
    ${tailRows(scope, 'm.created_at, m.cost', 'u')}
  ) as m
), budget_tail as materialized (
  select m.created_at, m.cost
  from (${markOf(scope)}) as u
  cross join lateral (
    ${tailRows(scope, 'm.created_at, m.cost', 'u')}
  ) as m
), wanted as materialized (
  select a.id as alert_id, h.hour_start, h.hour_end, a.thresholds, a.floor_microdollars,
    k.usual_microdollars
  from alert as a
  join hour as h on h.hour_end > a.set_at
  left join usage_alert_hours as k
    on k.alert_id = a.id
    and k.hour_start = h.hour_start
), opened as (
  insert into usage_alert_hours (alert_id, hour_start, usual_microdollars)
  select w.alert_id, w.hour_start, div(
    ${spentOf(scope, WEEK_BEFORE, 'w.hour_start')},
    ${SPEND_DAYS * 24})
  from wanted as w
  where w.usual_microdollars is null
  on conflict do nothing
  returning alert_id, hour_start, usual_microdollars
), spent as materialized (
  select h.hour_start, ${spentOf(scope, 'h.hour_start', 'h.hour_end')}
      - ${costOf('budget_tail', 'created_at', 'h.hour_start', 'h.hour_end')} as spent_microdollars
  from hour as h
  where h.hour_start in (select w.hour_start from wanted as w)
), forgotten as (
  delete from usage_alert_hours as h
  where h.alert_id in (select o.alert_id from opened as o)
    and h.hour_start < now() - interval '${SPEND_DAYS + 1} days'
), crossed as materialized (
  select w.alert_id, null::uuid as budget_id, w.hour_start as window_start,
    w.hour_end as window_end, t.threshold, u.usual as limit_microdollars, s.spent_microdollars
  from wanted as w
  join spent as s on s.hour_start = w.hour_start
  cross join lateral (
    select coalesce(w.usual_microdollars, (
      select o.usual_microdollars
      from opened as o
      where o.alert_id = w.alert_id
        and o.hour_start = w.hour_start
    )) as usual
  ) as u
  cross join unnest(w.thresholds) as t(threshold)
  where s.spent_microdollars > 0
    and s.spent_microdollars >= w.floor_microdollars
    and s.spent_microdollars * 100 >= t.threshold * u.usual
), ${raiseCrossed(scope)}
select count(*) as raised
from raised`;

const TEXTS = new Map(PAYER_SCOPES.map((scope) => [scope, raiseText(scope)]));

export function raiseSpendStatement(
  scope: PayerScope,
  payerId: string,
  hours: readonly string[],
): Statement {
  return {
    name: `microdollar_raise_spend_${scope.name}`,
    text: TEXTS.get(scope) ?? '',
    values: [payerId, hours],
  };
}
