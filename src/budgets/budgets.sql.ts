import { ORGANIZATION_NAME } from '../accounts/listAccounts.js';
import type { BudgetPeriod, BudgetScope, BudgetSetter } from '../schema/budgets.js';
import { isElsewhereSql, isPayerElsewhere } from '../schema/elsewhere.js';

/** Statements on definitions. None touches what is accounted for: the fold that follows takes them in. */

export interface TargetRow {
  /** Whether what the budget is about, and its payer, exist. */
  is_known: boolean;
  kilo_user_id: string | null;
  organization_id: string | null;
}

/** Who pays with key $1, if it is not revoked. */
export const FIND_KEY = `/* budgets.findKey */
select true as is_known, k.kilo_user_id, k.organization_id
from api_keys as k
where k.id = $1::uuid
  and k.revoked_at is null
  and (${isElsewhereSql('k.kilo_user_id', 'k.organization_id')}) is not true`;

/**
 * Whether user $1, organization $2 and membership of both exist; null is not asked for. And whether the
 * payer, which is the organization where there is one, is elsewhere.
 */
export const FIND_PAYER = `/* budgets.findPayer */
select
  $1::text is null or exists (select from kilocode_users as u where u.id = $1 and u.deleted_at is null)
    as is_user,
  $2::uuid is null or exists (select from organizations as o where o.id = $2) as is_organization,
  not $3::boolean or exists (
    select from organization_memberships as m where m.organization_id = $2 and m.kilo_user_id = $1
  ) as is_member,
  coalesce(${isElsewhereSql('$1', '$2')}, false) as is_elsewhere`;

export interface BudgetKey {
  scope: BudgetScope;
  payerScope: 'user' | 'organization';
  payerId: string;
  kiloUserId: string | null;
  apiKeyId: string | null;
  projectId: string | null;
  period: BudgetPeriod;
}

export const keyValues = (key: BudgetKey): unknown[] => [
  key.scope,
  key.payerScope,
  key.payerId,
  key.kiloUserId,
  key.apiKeyId,
  key.projectId,
  key.period,
];

/**
 * A zone cannot change under windows that are there: the budget is replaced. $8 the zone, null keeps it,
 * $9 whose.
 */
export const RETIRE_OTHER_ZONE = `/* budgets.retire */
update budgets as b
set removed_at = now(),
  updated_at = now()
where b.scope = $1::text
  and b.payer_scope = $2::text
  and b.payer_id = $3::text
  and b.kilo_user_id is not distinct from $4::text
  and b.api_key_id is not distinct from $5::uuid
  and b.project_id is not distinct from $6::text
  and b.period = $7::text
  and b.set_by = $9::text
  and not b.is_balance
  and b.removed_at is null
  and b.time_zone <> $8::text
returning b.id, b.is_hard`;

/** Alerts on the budgets $1 that were retired are on $2 from now on, where it has none of its own. */
export const MOVE_ALERTS = `/* budgets.moveAlerts */
update usage_alerts as a
set budget_id = $2::uuid
where a.budget_id = any ($1::uuid[])
  and a.removed_at is null
  and not exists (
    select from usage_alerts as o where o.budget_id = $2::uuid and o.removed_at is null)`;

/**
 * $8 zone, $9 whose, $10 limit, $11 hard, $12 by whom, $13 whether the one that it replaces was hard. Null
 * keeps the zone, and whether it is hard.
 */
export const SET_BUDGET = `/* budgets.set */
insert into budgets as b (scope, payer_scope, payer_id, kilo_user_id, api_key_id, project_id, period,
  time_zone, set_by, limit_microdollars, is_hard, created_by)
values ($1::text, $2::text, $3::text, $4::text, $5::uuid, $6::text, $7::text, coalesce($8::text, 'UTC'),
  $9::text, $10::bigint, coalesce($11::boolean, $13::boolean, true), $12::text)
on conflict (payer_scope, payer_id, scope, period, is_balance, coalesce(kilo_user_id, ''),
  coalesce(api_key_id::text, ''), coalesce(project_id, ''), set_by) where removed_at is null
do update
set limit_microdollars = excluded.limit_microdollars,
  is_hard = coalesce($11::boolean, b.is_hard),
  updated_at = now()
returning b.id, b.time_zone`;

export interface RetiredRow {
  id: string;
  is_hard: boolean;
}

export interface SetRow {
  id: string;
  /** Another one: somebody else set it meanwhile, and it is to be retired. */
  time_zone: string;
}

export interface ChangedRow {
  id: string;
  payer_scope: 'user' | 'organization';
  payer_id: string;
}

/** A budget that somebody set; a balance is the ledger's own. */
const ONE_IN_FORCE = `where b.id = $1::uuid
  and b.removed_at is null
  and not b.is_balance
  and (${isPayerElsewhere('b')}) is not true`;

/** Null keeps: $2 limit, $3 hard, $4 raise, $5 its end. */
export const CHANGE_BUDGET = `/* budgets.change */
update budgets as b
set limit_microdollars = coalesce($2::bigint, b.limit_microdollars),
  is_hard = coalesce($3::boolean, b.is_hard),
  raise_microdollars = coalesce($4::bigint, b.raise_microdollars),
  raise_until = case when $4::bigint is null then b.raise_until else $5::timestamptz end,
  updated_at = now()
${ONE_IN_FORCE}
returning b.id, b.payer_scope, b.payer_id`;

export const REMOVE_BUDGET = `/* budgets.remove */
update budgets as b
set removed_at = now(),
  updated_at = now()
${ONE_IN_FORCE}
returning b.id, b.payer_scope, b.payer_id`;

/** The alerts on budget $1. After its removal, so that one that was being set beside it is seen. */
export const SILENCE_BUDGET = `/* budgets.silence */
update usage_alerts as a
set removed_at = now()
where a.budget_id = $1::uuid
  and a.removed_at is null`;

export const FIND_BUDGET = `/* budgets.find */
select b.id, b.payer_scope, b.payer_id, b.scope, b.set_by,
  case
    when b.payer_scope = 'user' then b.payer_id
    when b.scope = 'key' then k.kilo_user_id
    else b.kilo_user_id
  end as only_user
from budgets as b
left join api_keys as k on k.id = b.api_key_id
${ONE_IN_FORCE}`;

export interface FoundRow extends ChangedRow {
  scope: BudgetScope;
  set_by: BudgetSetter;
  /** Whose usage alone it counts; null of several. */
  only_user: string | null;
}

export interface PayerRow {
  payer_scope: 'user' | 'organization';
  payer_id: string;
  name: string | null;
}

/** Payers with budgets other than their balance, at most $1, after the one of scope $2 and id $3. */
export const PAYERS_WITH_BUDGETS = `/* budgets.payers */
select p.payer_scope, p.payer_id, coalesce(${ORGANIZATION_NAME}, u.name) as name
from (
  select distinct b.payer_scope, b.payer_id collate "C" as payer_id
  from budgets as b
  where b.removed_at is null
    and not b.is_balance
    and ($2::text is null
      or (b.payer_scope, b.payer_id collate "C") > ($2::text, $3::text collate "C"))
  order by b.payer_scope, payer_id
  limit $1::integer
) as p
left join organizations as o on p.payer_scope = 'organization' and o.id::text = p.payer_id
left join kilocode_users as u on p.payer_scope = 'user' and u.id = p.payer_id
order by p.payer_scope, p.payer_id`;
