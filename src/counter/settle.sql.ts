import { plainArray, type Statement, textArray } from '../db/statement.js';
import {
  EXA_LOG,
  PAYER_SCOPES,
  type PayerScope,
  USAGE_LOG,
  unsettledRows,
  unsettledRowsBelow,
} from '../schema/unsettled.js';
import { COUNTER_LIMIT, payerMarks, SETTLES, unseen } from './marks.sql.js';

/** What a payer has used, and what is left of its tail. */
export interface SettledRow {
  id: string;
  /** Microdollars, exact (I5), but without what Exa's unsettled rows charge: `has_exa`. */
  balance: string;
  has_exa: boolean;
  /** Unsettled rows seen, and those that this statement settled. */
  depth: string;
  settled: string;
  /** Days whose counter row is missing: to be opened, then settled again. */
  missing: string;
  /** Of a part: rows behind it have ended too, in the snapshot of the same statement. */
  has_more?: boolean;
}

/**
 * Whether payer `u` has Exa requests that its counter does not know yet; asked of the payer only if
 * anybody has any.
 */
const hasExa = (
  scope: PayerScope,
): string => `(select exists (select from exa_usage_log)) and exists (
      ${unsettledRows(EXA_LOG, scope, 'm.cost', 'u')}
    )`;

/** Counter row of part `p`: day of a user, in the payer's scope. */
const counterOf = (scope: PayerScope): string => `d.kilo_user_id = p.user_id
      and ${scope.name === 'user' ? 'd.organization_id is null' : 'd.organization_id = p.id'}
      and d.usage_date = p.day`;

/** Value of column `name` for the updated row `id`, from arrays side by side. */
const fromArrays = (sums: string, name: string, id: string): string =>
  `((select x.${name} from ${sums} as x))[array_position((select x.ids from ${sums} as x), ${id})]`;

/**
 * Folds payers and answers what they have used, in one statement and one snapshot. Waits for
 * nothing: rows that others hold are skipped, and their payers are answered all the same.
 *
 * CTEs in reading order, after those of `payerMarks`:
 *   part     unsettled rows by payer, user and day; `cost` of those that this fold settles: ended in
 *            S, below the new mark (R2). One empty part for a payer without any
 *   day      parts with their counter row, where it exists and was free; `fits`: every counter row of
 *            the payer can take its part (R4: all or none)
 *   folded   one row a payer
 *   day_sum, daily_updated, payer_sum, payer_updated   counter rows, then sum and mark together
 *
 * `offset 0`: by a plan that was made while the table was empty it is looked up, too, and not hashed whole.
 * What is known of a payer is carried along: no CTE is searched for each row of another. Counter rows
 * are found by arrays of their ids, and by nothing else, so that no statistics can make it a join
 * that reads the table; the arrays are uncorrelated subqueries, which are not run again for a row
 * that moved on since S (EvalPlanQual). Never by ctid (R13).
 *
 * @param isPart what lies at or above the new mark is not read: a tail may have millions of rows. All that is
 *   settled lies below it (R2), so the fold is the same; `balance` and `depth` are of what was read
 */
function settleText(scope: PayerScope, isPart: boolean): string {
  const columns = `${scope.userOf('m', 'u')} as user_id, m.created_at, m.cost, m.position`;
  const rows = isPart
    ? unsettledRowsBelow(USAGE_LOG, scope, columns, 'u', 'u.new_below')
    : unsettledRows(USAGE_LOG, scope, columns, 'u');
  return `/* microdollar.settle ${scope.name} */
with ${payerMarks(USAGE_LOG, scope)}, part as materialized (
  select u.id, min(u.microdollars_used) as used, min(u.new_below) as new_below,
    min(u.new_except) as new_except, bool_or(u.has_exa) as has_exa, m.user_id, m.day,
    coalesce(sum(m.cost) filter (where m.settles), 0) as cost,
    count(*) filter (where m.settles) as rows_settling,
    coalesce(sum(m.cost), 0) as tail_cost, count(m.cost) as tail_rows
  from (
    select u.*, ${hasExa(scope)} as has_exa
    from payer as u
  ) as u
  left join lateral (
    select m.user_id, (m.created_at at time zone 'UTC')::date as day, m.cost, ${SETTLES} as settles
    from (
      ${rows}
    ) as m
  ) as m on true
  group by u.id, m.user_id, m.day
), day as materialized (
  select p.*, d.id as counter_id,
    bool_and(
      p.cost = 0
      or (abs(p.cost) < ${COUNTER_LIMIT}
        and abs(d.total_cost_microdollars + p.cost) < ${COUNTER_LIMIT}) is true
    ) over payer
      and abs(p.used + sum(p.cost) over payer) < ${COUNTER_LIMIT}
      and abs(sum(p.cost) over payer) < ${COUNTER_LIMIT} as fits,
    p.cost <> 0 and d.id is null and not exists (
      select
      from microdollar_usage_daily as d
      where ${counterOf(scope)}
      offset 0
    ) as is_missing
  from part as p
  left join lateral (
    select d.id, d.total_cost_microdollars
    from microdollar_usage_daily as d
    where p.cost <> 0
      and ${counterOf(scope)}
    for no key update of d skip locked
  ) as d on true
  window payer as (partition by p.id)
), folded as materialized (
  select d.id, min(d.used) as used, min(d.new_below) as new_below, min(d.new_except) as new_except,
    bool_or(d.has_exa) as has_exa, sum(d.cost) as cost, sum(d.tail_cost) as tail_cost,
    sum(d.tail_rows) as tail_rows, count(*) filter (where d.is_missing) as missing,
    case when bool_and(d.fits) then sum(d.rows_settling) else 0 end as settled
  from day as d
  group by d.id
), day_sum as materialized (
  select array_agg(d.counter_id) as ids, array_agg(d.cost::bigint) as costs
  from day as d
  where d.fits
    and d.cost <> 0
), daily_updated as (
  update microdollar_usage_daily as d
  set total_cost_microdollars = d.total_cost_microdollars + ${fromArrays('day_sum', 'costs', 'd.id')},
    updated_at = now()
  where d.id = any ((select x.ids from day_sum as x)::uuid[])
), payer_sum as materialized (
  select array_agg(f.id) as ids, array_agg(f.cost::bigint) as costs,
    array_agg(f.new_below) as belows,
    case when bool_or(f.new_except <> '{}') then array_agg(f.new_except::text) end as excepts
  from folded as f
  where f.settled > 0
), payer_updated as (
  update ${scope.payers} as u
  set microdollars_used = u.microdollars_used + ${fromArrays('payer_sum', 'costs', 'u.id')},
    settled_below = ${fromArrays('payer_sum', 'belows', 'u.id')},
    settled_except = case when (select x.excepts is null from payer_sum as x) then '{}'
      else ${fromArrays('payer_sum', 'excepts', 'u.id')}::bigint[] end
  where u.id = any ((select x.ids from payer_sum as x)::${scope.idType}[])
)
select f.id::text as id, f.used + f.tail_cost as balance, f.has_exa, f.tail_rows as depth, f.settled,
  f.missing${isPart ? ', f.new_below < (select s.mark from s) as has_more' : ''}
from folded as f`;
}

/** The same answer without a fold, for payers that are left for later. */
function readText(scope: PayerScope): string {
  return `/* microdollar.readBalances ${scope.name} */
select u.id::text as id, u.microdollars_used + u.cost as balance, u.has_exa, u.depth, 0 as settled,
  0 as missing
from unnest(${unseen(1, `${scope.idType}[]`)}) as t(id)
cross join lateral (
  select u.id, u.microdollars_used, m.cost, m.depth, ${hasExa(scope)} as has_exa
  from ${scope.payers} as u
  cross join lateral (
    select coalesce(sum(m.cost), 0) as cost, count(*) as depth
    from (
      ${unsettledRows(USAGE_LOG, scope, 'm.cost', 'u')}
    ) as m
  ) as m
  where u.id = t.id
  limit 1
) as u`;
}

const TEXTS = new Map(
  PAYER_SCOPES.map((scope) => [
    scope,
    { settle: settleText(scope, false), part: settleText(scope, true), read: readText(scope) },
  ]),
);

export const idArray = (scope: PayerScope, ids: readonly string[]): string =>
  scope.idType === 'text' ? textArray(ids) : plainArray(ids);

export interface SettleLimits {
  /** Transaction ids: an open transaction that is younger may hold the mark (R3). */
  youngXids: number;
  /**
   * Rows of one payer, the mark then stops before the next; null = all. With it `balance` and `depth`
   * know nothing of the rest.
   */
  rowsPerPayer: number | null;
}

export function settleStatement(
  scope: PayerScope,
  ids: readonly string[],
  isFolded: readonly boolean[],
  limits: SettleLimits,
): Statement {
  const isPart = limits.rowsPerPayer !== null;
  return {
    name: `microdollar_settle_${isPart ? 'part_' : ''}${scope.name}`,
    text: TEXTS.get(scope)?.[isPart ? 'part' : 'settle'] ?? '',
    values: [idArray(scope, ids), plainArray(isFolded), limits.youngXids, limits.rowsPerPayer],
  };
}

export function readBalancesStatement(scope: PayerScope, ids: readonly string[]): Statement {
  return {
    name: `microdollar_read_balances_${scope.name}`,
    text: TEXTS.get(scope)?.read ?? '',
    values: [idArray(scope, ids)],
  };
}

const balanceOf = (scope: PayerScope) =>
  scope.name === 'user'
    ? { view: 'kilocode_user_balances', idName: 'kilo_user_id' }
    : { view: 'organization_balances', idName: 'organization_id' };

/** Of one payer, by the exact view: one row of `balance`, microdollars; none of a payer that is not. */
export function balanceStatement(scope: PayerScope, id: string): Statement {
  const { view, idName } = balanceOf(scope);
  return {
    name: `microdollar_balance_${scope.name}`,
    text: `/* microdollar.balance */
select b.microdollars_used as balance
from ${view} as b
where b.${idName} = $1::${scope.idType}`,
    values: [id],
  };
}

/** By the exact view, where Exa's unsettled rows charge something: rows of `id` and `balance`. */
export function exactBalancesStatement(scope: PayerScope, ids: readonly string[]): Statement {
  const { view, idName } = balanceOf(scope);
  return {
    name: `microdollar_exact_balances_${scope.name}`,
    text: `/* microdollar.exactBalances */
select b.${idName}::text as id, b.microdollars_used as balance
from ${view} as b
where b.${idName} = any ($1::${scope.idType}[])`,
    values: [idArray(scope, ids)],
  };
}
