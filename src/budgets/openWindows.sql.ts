import { oldestOpen, SNAPSHOT } from '../counter/marks.sql.js';
import { UNKNOWN_GENERATION } from '../counter/position.sql.js';
import { firstInstantIn } from '../db/instant.sql.js';
import type { Statement } from '../db/statement.js';
import { BUDGETS_MARK, SLOTS } from '../schema/budgets.js';
import {
  isCounted,
  isOfPayer as isUsageOf,
  markColumns,
  QUARTER_HOURLY,
} from '../schema/dimensionRollups.js';
import { ARCHIVE_HORIZON, frozenDays, isFrozen, isInFrozen } from '../schema/frozen.js';
import { PAYER_SCOPES, type PayerScope } from '../schema/unsettled.js';
import { counts, isCurrent, isOfPayer, markOf, organizationsOf } from './matching.sql.js';

export interface OpenedPayerRow {
  is_payer: boolean;
  is_elsewhere: boolean;
  /** Not where the ledger does not know the cluster (R6): its positions lie above every mark. */
  is_known_cluster: boolean;
  /** The mark was there, and had begun. */
  has_begun: boolean;
}

const markRow = (scope: PayerScope): string => `select k.payer_id
  from rollup_marks as k
  where k.rollup = '${BUDGETS_MARK}'
    and k.payer_scope = '${scope.name}'
    and k.payer_id = $1::text`;

/** A mark that has not begun: nothing is below it. */
const NOT_BEGUN = 0;

/**
 * The balance of a payer as a budget, and the mark of its budgets, where they are not there yet. Committed
 * before the mark begins (`beginText`): who takes usage away and does not see it yet, does so by a
 * snapshot that is older than the one the mark begins with (schema/budgeted.ts).
 */
function openPayerText(scope: PayerScope): string {
  return `/* microdollar.openBudgets ${scope.name} */
with payer as materialized (
  select u.id::text as id, u.is_elsewhere from ${scope.payers} as u where u.id = $1::${scope.idType}
), s as materialized (
  ${SNAPSHOT}
), marked as (
  insert into rollup_marks (rollup, payer_scope, payer_id, settled_below)
  select '${BUDGETS_MARK}', '${scope.name}', p.id, ${NOT_BEGUN}
  from payer as p
  cross join s
  where s.base < ${UNKNOWN_GENERATION}
    and not p.is_elsewhere
  on conflict do nothing
), balance as (
  insert into budgets (scope, payer_scope, payer_id, period, limit_microdollars, is_balance)
  select '${scope.name}', '${scope.name}', p.id, 'total', 0, true
  from payer as p
  where not p.is_elsewhere
    and not exists (
      select from budgets as b where ${isOfPayer(scope, 'b')} and b.is_balance and b.removed_at is null)
  on conflict do nothing
)
select exists (select from payer) as is_payer,
  coalesce((select p.is_elsewhere from payer as p), false) as is_elsewhere,
  (select s.base < ${UNKNOWN_GENERATION} from s) as is_known_cluster,
  exists (
    ${markRow(scope)}
      and k.settled_below > ${NOT_BEGUN}
  ) as has_begun`;
}

/**
 * The mark begins at the oldest transaction that is open: what had ended is summed when a window is
 * opened, the rest is folded. Where somebody has it, a fold takes all that it finds instead, from
 * the beginning: slower, and the same.
 */
const beginText = (scope: PayerScope): string => `/* microdollar.beginBudgets ${scope.name} */
with s as materialized (
  ${SNAPSHOT}
), free as materialized (
  ${markRow(scope)}
    and k.settled_below = ${NOT_BEGUN}
  for no key update of k skip locked
)
update rollup_marks as k
set settled_below = (select ${oldestOpen('s')} from s)
where k.rollup = '${BUDGETS_MARK}'
  and k.payer_scope = '${scope.name}'
  and k.payer_id = any (array(select f.payer_id from free as f))`;

/**
 * Locks the mark of payer $1 where it is free; the rest of the transaction then sees all that its
 * last holder wrote, for its statements have later snapshots. One row, or none.
 */
const lockText = (scope: PayerScope): string => `/* microdollar.lockBudgets ${scope.name} */
${markRow(scope)}
for no key update of k skip locked`;

/**
 * Bounds of the window of budget `b` that `now` is in, by the days that reports have too; of three in a row,
 * for clocks that are put back show the day before once more.
 */
export const windowBounds = (now: string): string => `select x.window_start, x.window_end
    from (
      select ${firstInstantIn('b.time_zone', '(l.start + k * l.length)')} as window_start,
        ${firstInstantIn('b.time_zone', '(l.start + (k + 1) * l.length)')} as window_end
      from (
        select date_trunc(nullif(b.period, 'total'), ${now} at time zone b.time_zone) as start,
          ('1 ' || nullif(b.period, 'total'))::interval as length
      ) as l
      cross join generate_series(-1, 1) as k
      where b.period <> 'total'
    ) as x
    where x.window_start <= ${now}
      and x.window_end > ${now}
    union all
    select '-infinity', 'infinity'
    where b.period = 'total'`;

export interface OtherPayerRow {
  organization_id: string;
  /** Its budgets have a mark, and it has begun. */
  has_begun: boolean;
  /** Nobody else has the mark. */
  is_locked: boolean;
}

/**
 * The marks of organizations that pay for keys of payer $1, where they are free: until the transaction ends
 * none of them counts usage, so that a window which is opened for a key finds what they have passed, and
 * they find the window.
 */
const othersText = (scope: PayerScope): string => `/* microdollar.lockOtherPayers ${scope.name} */
select g.organization_id,
  exists (
    select from rollup_marks as k
    where k.rollup = '${BUDGETS_MARK}'
      and k.payer_scope = 'organization'
      and k.payer_id = g.organization_id::text
      and k.settled_below > ${NOT_BEGUN}
  ) as has_begun,
  k.payer_id is not null as is_locked
from (${organizationsOf(scope)}) as g
left join lateral (
  select k.payer_id
  from rollup_marks as k
  where k.rollup = '${BUDGETS_MARK}'
    and k.payer_scope = 'organization'
    and k.payer_id = g.organization_id::text
  for no key update of k skip locked
) as k on true`;

export interface OpenedWindowsRow {
  /** Windows of keys that others may pay for: to be opened under the marks of these, too. */
  is_key_left: boolean;
}

/**
 * Costs of what is up to mark `mark` in window `b`: raw usage, and what the archive took away
 * (schema/frozen.ts). `isOf`: whether a row is of who is asked for.
 */
const countedCosts = (isOf: (row: string) => string, mark: string): string => `select m.cost
      from microdollar_usage as m
      where ${isOf('m')}
        and m.created_at >= b.window_start
        and m.created_at < b.window_end
        and ${isCounted(mark)}
      union all
      select -m.cost
      from microdollar_usage as m
      where ${isOf('m')}
        and m.created_at >= b.window_start
        and m.created_at < least(b.window_end, ${ARCHIVE_HORIZON})
        and ${isInFrozen(QUARTER_HOURLY, 'm')}
      union all
      select c.cost_microdollars
      from ${QUARTER_HOURLY.name} as c
      where ${isOf('c')}
        and c.period_start >= b.window_start
        and c.period_start < least(b.window_end, ${ARCHIVE_HORIZON})
        and ${isFrozen('c.period_start')}`;

/**
 * Opens the windows of now that are not there, under the mark's lock. What is up to the mark is
 * summed. Rollup and budgets have marks of their own, so of a row that is still there one may know and
 * the other not. The limit is taken in by the fold that follows, as a change from 0 (I13). A balance is
 * summed by that fold. $2: the marks of others who may pay are held; without it the windows of keys stay
 * closed where there are any.
 */
function openWindowsText(scope: PayerScope): string {
  const ofPayer = (row: string): string => `not b.is_balance
        and ${isUsageOf(scope, row, `$1::${scope.idType}`)}
        and ${counts('b', row)}`;
  const ofOther = (row: string): string => `${row}.organization_id = o.organization_id
        and ${row}.api_key_id = b.api_key_id`;
  return `/* microdollar.openWindows ${scope.name} */
with mark as materialized (
  ${markOf(scope)}
), ${frozenDays(QUARTER_HOURLY)}, other as materialized (
  select g.organization_id, ${markColumns('k', '0')}
  from (${organizationsOf(scope)}) as g
  left join rollup_marks as k
    on k.rollup = '${BUDGETS_MARK}'
    and k.payer_scope = 'organization'
    and k.payer_id = g.organization_id::text
), absent as materialized (
  select b.id, b.is_balance, b.kilo_user_id, b.api_key_id, b.project_id, x.window_start, x.window_end
  from budgets as b
  cross join lateral (
    ${windowBounds('now()')}
  ) as x
  where ${isOfPayer(scope, 'b')}
    and b.removed_at is null
    and not exists (
      select
      from budget_windows as w
      where w.budget_id = b.id
        and ${isCurrent('w', 'b')}
    )
), missing as materialized (
  select a.*
  from absent as a
  where $2::boolean
    or a.api_key_id is null
    or not exists (select from other)
), opened as (
  insert into budget_windows (budget_id, window_start, window_end, limit_microdollars,
    spent_microdollars, carry_microdollars)
  select b.id, b.window_start, b.window_end, 0, x.cost, -x.cost
  from missing as b
  cross join mark as k
  cross join lateral (
    select coalesce(sum(x.cost), 0) as cost
    from (
      ${countedCosts(ofPayer, 'k')}
      union all
      select x.cost
      from other as o
      cross join lateral (
        ${countedCosts(ofOther, 'o')}
      ) as x
      where b.api_key_id is not null
    ) as x
  ) as x
  returning id
), slots as (
  insert into headroom (window_id, slot)
  select o.id, g
  from opened as o
  cross join generate_series(0, ${SLOTS - 1}) as g
)
select (select count(*) from absent) > (select count(*) from missing) as is_key_left`;
}

const TEXTS = new Map(
  PAYER_SCOPES.map((scope) => [
    scope,
    {
      payer: openPayerText(scope),
      begin: beginText(scope),
      lock: lockText(scope),
      windows: openWindowsText(scope),
      others: othersText(scope),
    },
  ]),
);

const statement = (
  scope: PayerScope,
  name: 'payer' | 'begin' | 'lock' | 'windows' | 'others',
  payerId: string,
  ...values: unknown[]
): Statement => ({
  name: `microdollar_budgets_${name}_${scope.name}`,
  text: TEXTS.get(scope)?.[name] ?? '',
  values: [payerId, ...values],
});

export const openPayerStatement = (scope: PayerScope, payerId: string): Statement =>
  statement(scope, 'payer', payerId);

export const beginBudgetsStatement = (scope: PayerScope, payerId: string): Statement =>
  statement(scope, 'begin', payerId);

export const lockBudgetsStatement = (scope: PayerScope, payerId: string): Statement =>
  statement(scope, 'lock', payerId);

export const openWindowsStatement = (
  scope: PayerScope,
  payerId: string,
  hasOthers = false,
): Statement => statement(scope, 'windows', payerId, hasOthers);

export const lockOtherPayersStatement = (scope: PayerScope, payerId: string): Statement =>
  statement(scope, 'others', payerId);

export interface InvolvedPayerRow {
  payer_scope: PayerScope['name'];
  payer_id: string;
  /** It has holds of these keys: what they give back is forwarded to the windows of the others. */
  is_holder: boolean;
}

/**
 * Payers, other than $1 and $2, whose windows $3 are, or the budgets of keys $4; and organizations that
 * hold by such a key.
 */
export function findInvolvedStatement(
  scope: PayerScope,
  payerId: string,
  windowIds: readonly string[],
  keys: readonly string[],
): Statement {
  return {
    name: 'microdollar_budgets_involved',
    text: `/* microdollar.findInvolved */
with keys as materialized (
  select k.id from unnest($4::uuid[]) as k(id)
  union
  select b.api_key_id
  from budget_windows as w
  join budgets as b on b.id = w.budget_id
  where w.id = any ($3::bigint[])
    and b.api_key_id is not null
)
select b.payer_scope, b.payer_id, false as is_holder
from budget_windows as w
join budgets as b on b.id = w.budget_id
where w.id = any ($3::bigint[])
  and (b.payer_scope, b.payer_id) is distinct from ($1::text, $2::text)
union
select b.payer_scope, b.payer_id, false
from keys as k
join budgets as b on b.api_key_id = k.id
where b.removed_at is null
  and (b.payer_scope, b.payer_id) is distinct from ($1::text, $2::text)
union
select 'organization', g.organization_id::text, true
from keys
join budgets as b on b.api_key_id = keys.id
join api_keys as k on k.id = keys.id
join organization_memberships as g on g.kilo_user_id = k.kilo_user_id
where b.removed_at is null
  and ('organization', g.organization_id::text) is distinct from ($1::text, $2::text)
  and exists (
    select
    from usage_holds as h
    where h.payer_scope = 'organization'
      and h.payer_id = g.organization_id::text
      and h.window_ids <> '{}'
      and h.api_key_id = b.api_key_id
  )`,
    values: [scope.name, payerId, windowIds, keys],
  };
}
