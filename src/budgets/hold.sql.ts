import type { Statement } from '../db/statement.js';
import { isPayerElsewhere } from '../schema/elsewhere.js';
import { ORGANIZATION_SCOPE, USER_SCOPE } from '../schema/unsettled.js';
import { freeSlot, limitOf, lowered } from './matching.sql.js';

export interface HoldRow {
  payer_scope: 'user' | 'organization';
  payer_id: string;
  kilo_user_id: string;
  api_key_id: string | null;
  project_id: string | null;
  created_micros: string;
}

export type FoundHoldRow =
  | (HoldRow & { id: string; is_released: boolean })
  /** There is none, or it went with the fold of its usage: whether that is recorded. */
  | { id: null; is_settled: boolean };

export function findHoldStatement(id: string): Statement {
  return {
    name: 'microdollar_find_hold',
    text: `/* microdollar.findHold */
select h.id, h.payer_scope, h.payer_id, h.kilo_user_id, h.api_key_id, h.project_id,
  h.released_at is not null as is_released,
  (extract(epoch from h.created_at) * 1000000)::bigint as created_micros,
  exists (select from microdollar_usage as m where m.id = $1::uuid) as is_settled
from (select) as one
left join usage_holds as h on h.id = $1::uuid`,
    values: [id],
  };
}

export interface ReleasedRow {
  /** `locked`: another transaction has the row. */
  status: 'released' | 'duplicate' | 'settled' | 'locked' | 'elsewhere' | 'absent';
  payer_scope: 'user' | 'organization' | null;
  payer_id: string | null;
}

const OPEN_HOLD = `select h.id, h.payer_scope, h.payer_id, h.amount_microdollars as amount, h.window_ids
  from usage_holds as h
  where h.id = $1::uuid
    and h.released_at is null
    and (${isPayerElsewhere('h')}) is not true
    and not exists (select from microdollar_usage as m where m.id = h.id)
  for no key update of h skip locked`;

/** Why a hold is not among the open ones that were locked. */
const closedAs = (released: string): string => `case
    when exists (select from microdollar_usage as m where m.id = $1::uuid) then 'settled'
    when h.id is null then 'absent'
    when h.released_at is not null then '${released}'
    when ${isPayerElsewhere('h')} then 'elsewhere'
    else 'locked'
  end`;

/** Marks a hold as released; the next fold of its payer gives the amount back. Waits for nobody. */
export function releaseHoldStatement(id: string): Statement {
  return {
    name: 'microdollar_release_hold',
    text: `/* microdollar.releaseHold */
with open as materialized (
  ${OPEN_HOLD}
), released as (
  update usage_holds as h
  set released_at = now()
  where h.id = any (array(select o.id from open as o))
)
select h.payer_scope, h.payer_id,
  case when exists (select from open) then 'released'
    else ${closedAs('duplicate')} end as status
from (select) as one
left join usage_holds as h on h.id = $1::uuid`,
    values: [id],
  };
}

/** Of budget `b`, whoever pays. */
const LIMIT_NOW = `case b.payer_scope
        when 'user' then ${limitOf(USER_SCOPE, 'b', 'b.payer_id')}
        else ${limitOf(ORGANIZATION_SCOPE, 'b', 'b.payer_id')}
      end`;

export interface ExtendedRow {
  status:
    | 'granted'
    | 'duplicate'
    | 'busy'
    | 'short'
    | 'settled'
    | 'released'
    | 'locked'
    | 'elsewhere'
    | 'absent';
  payer_scope: 'user' | 'organization' | null;
  payer_id: string | null;
  /** Microdollars held afterwards, and what is left of the window that has least. */
  amount: string | null;
  available: string | null;
  window_ids: string[] | null;
}

/**
 * Raises what a hold has to $2 in all, from one slot of each of its windows, or from none.
 *
 *   open    the hold, of its locked version: a fold that takes it away is over, or skips it
 *   need    its windows, and what is asked of each
 *   slot    one locked slot a window, and what the hold leaves in it (see reserve.sql.ts)
 */
export function extendHoldStatement(id: string, amount: number, slot: number): Statement {
  return {
    name: 'microdollar_extend_hold',
    text: `/* microdollar.extendHold */
with open as materialized (
  ${OPEN_HOLD}
), need as materialized (
  select w.id as window_id, w.carry_microdollars + case
      when b.removed_at is null and w.window_end > now()
      then ${lowered(LIMIT_NOW, 'w.limit_microdollars')}
      else 0
    end as carry, $2::bigint - o.amount as amount
  from open as o
  join budget_windows as w on w.id = any (o.window_ids)
  join budgets as b on b.id = w.budget_id
  where $2::bigint > o.amount
), room as materialized (
  select n.window_id, sum(h.remaining_microdollars) + n.carry as total,
    n.carry >= 0 and max(h.remaining_microdollars) >= n.amount as is_enough
  from need as n
  join headroom as h on h.window_id = n.window_id
  group by n.window_id, n.carry, n.amount
), slot as materialized (
  select n.window_id, h.slot, h.remaining - n.amount as remaining
  from need as n
  cross join lateral (
    ${freeSlot('n.window_id', 'n.amount', '$3')}
  ) as h
  where n.carry >= 0
), fit as materialized (
  select (select count(*) from need) > 0
    and (select count(*) from need) = (select count(*) from slot) as is_whole
), taken as (
  update headroom as h
  set remaining_microdollars = s.remaining
  from slot as s
  where h.window_id = s.window_id
    and h.slot = s.slot
    and (select f.is_whole from fit as f)
), extended as (
  update usage_holds as h
  set amount_microdollars = $2::bigint
  where h.id = any (array(select o.id from open as o where (select f.is_whole from fit as f)))
)
select h.payer_scope, h.payer_id,
  case
    when not exists (select from open) then ${closedAs('released')}
    when not exists (select from need) then 'duplicate'
    when (select f.is_whole from fit as f) then 'granted'
    when (select bool_and(r.is_enough) from room as r) then 'busy'
    else 'short'
  end as status,
  case when (select f.is_whole from fit as f) then $2::bigint
    else coalesce((select o.amount from open as o), h.amount_microdollars) end as amount,
  (select min(r.total) from room as r)
    - case when (select f.is_whole from fit as f) then $2::bigint - (select o.amount from open as o)
      else 0 end as available,
  h.window_ids
from (select) as one
left join usage_holds as h on h.id = $1::uuid`,
    values: [id, amount, slot],
  };
}
