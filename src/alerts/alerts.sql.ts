import { isOfPayer } from '../budgets/matching.sql.js';
import type { Statement } from '../db/statement.js';
import { microsOf } from '../record/instants.sql.js';
import type { AlertKind } from '../schema/alerts.js';
import { isPayerElsewhere } from '../schema/elsewhere.js';
import type { PayerScope } from '../schema/unsettled.js';

/** In the statement that gives the payer something: who was deleted before its snapshot gets nothing. */
export const isNotDeleted = (scope: string, id: string): string => `not exists (
    select
    from kilocode_users as u
    where ${scope} = 'user'
      and u.id = ${id}
      and u.deleted_at is not null
  )`;

export interface AlertToSet {
  kind: AlertKind;
  payerId: string;
  budgetId: string | null;
  thresholds: readonly number[];
  floorMicrodollars: number;
  createdBy: string | null;
}

/**
 * Of one payer, kind and budget there is one alert: again changes it. What is changed looks at windows of
 * now and later, and at hours anew. No row: the budget is in force no more, or the user was deleted. In the
 * transaction of a fold, under the payer's mark. The budget is locked, so that whoever removes it, or
 * sets it in another zone, finds the alert; where they were first, this fails at once, and is repeated.
 */
export function setAlertStatement(scope: PayerScope, alert: AlertToSet): Statement {
  return {
    name: `microdollar_set_alert_${scope.name}`,
    text: `/* microdollar.setAlert ${scope.name} */
with budget as materialized (
  select b.id
  from budgets as b
  where b.id = $3::uuid
    and ${isOfPayer(scope, 'b')}
    and b.removed_at is null
  for share of b nowait
), written as (
  insert into usage_alerts as a (kind, payer_scope, payer_id, budget_id, thresholds,
    floor_microdollars, created_by)
  select $2::text, '${scope.name}', $1::text, $3::uuid, $4::bigint[], $5::bigint, $6::text
  where ($3::uuid is null or exists (select from budget))
    and ${isNotDeleted(`'${scope.name}'`, '$1::text')}
  on conflict (payer_scope, payer_id, kind, coalesce(budget_id::text, ''))
    where removed_at is null
  do update
  set thresholds = excluded.thresholds,
    floor_microdollars = excluded.floor_microdollars,
    set_at = case
      when (a.thresholds, a.floor_microdollars)
        is distinct from (excluded.thresholds, excluded.floor_microdollars) then now()
      else a.set_at end
  returning a.id, a.set_at
), forgotten as (
  delete from usage_alert_hours as h
  using written as w
  where h.alert_id = w.id
    and w.set_at = now()
)
select w.id
from written as w`,
    values: [
      alert.payerId,
      alert.kind,
      alert.budgetId,
      alert.thresholds,
      alert.floorMicrodollars,
      alert.createdBy,
    ],
  };
}

export interface AlertRow {
  id: string;
  kind: AlertKind;
  payer_scope: 'user' | 'organization';
  payer_id: string;
  budget_id: string | null;
  thresholds: string[];
  floor_microdollars: string;
  created_micros: string;
  raised_micros: string | null;
}

/** Alerts in force of payer $1 (scope), $2 (id), null = everybody, or the one with id $3; at most $4. */
export const LIST_ALERTS = `/* alerts.list */
select a.id, a.kind, a.payer_scope, a.payer_id, a.budget_id, a.thresholds, a.floor_microdollars,
  ${microsOf('a.created_at')} as created_micros, (
    select ${microsOf('max(e.created_at)')}
    from usage_alert_events as e
    where e.alert_id = a.id
  ) as raised_micros
from usage_alerts as a
where a.removed_at is null
  and ($2::text is null or (a.payer_scope = $1::text and a.payer_id = $2::text))
  and ($3::uuid is null or a.id = $3::uuid)
order by a.created_at, a.id
limit $4::integer`;

export interface AlertPayerRow {
  payer_scope: 'user' | 'organization';
  payer_id: string;
}

export const REMOVE_ALERT = `/* alerts.remove */
update usage_alerts as a
set removed_at = now()
where a.id = $1::uuid
  and a.removed_at is null
  and (${isPayerElsewhere('a')}) is not true
returning a.id`;

/** Payers whose usage is to be folded soon; at most $1. */
export function alertedPayersStatement(limit: number): Statement {
  return {
    name: 'microdollar_alerted_payers',
    text: `/* microdollar.alertedPayers */
select distinct a.payer_scope, a.payer_id
from usage_alerts as a
where a.removed_at is null
limit $1::integer`,
    values: [limit],
  };
}
