import { plainArray, type Statement, textArray } from '../db/statement.js';
import {
  EXA_LOG,
  PAYER_SCOPES,
  type PayerScope,
  USAGE_LOG,
  unsettledRows,
} from '../schema/unsettled.js';
import { COUNTER_LIMIT, payerMarks, SETTLES } from './marks.sql.js';

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
}

/** Whether payer `u` has Exa requests that its counter does not know yet. */
export const hasExa = (scope: PayerScope): string => `exists (
    ${unsettledRows(EXA_LOG, scope, 'm.cost', 'u')}
  )`;

/** Counter row of part `p`: day of a user, in the payer's scope. */
const counterOf = (scope: PayerScope): string => `d.kilo_user_id = p.user_id
      and ${scope.name === 'user' ? 'd.organization_id is null' : 'd.organization_id = p.id'}
      and d.usage_date = p.day`;

/**
 * Folds payers and answers what they have used, in one statement and one snapshot. Waits for
 * nothing: rows that others hold are skipped, and their payers are answered all the same.
 *
 * CTEs in reading order, after those of `payerMarks`:
 *   part     unsettled rows by payer, user and day; `settles`: ended in S, below the new mark (R2)
 *   day      parts to settle with their counter row, where it exists and was free
 *   fit      payers every counter row of which can take its part (R4: all or none)
 *   day_sum, daily_updated, payer_sum, payer_updated   counter rows, then sum and mark together
 *
 * Counter rows are found by arrays of their ids, and by nothing else, so that no statistics can make
 * it a join that reads the table. The arrays are uncorrelated subqueries, which are not run
 * again for a row that moved on since S (EvalPlanQual). Never by ctid (R13).
 */
function settleText(scope: PayerScope): string {
  return `/* microdollar.settle ${scope.name} */
with ${payerMarks(USAGE_LOG, scope)}, part as materialized (
  select u.id, m.user_id, m.day, m.settles, sum(m.cost) as cost, count(*) as depth
  from payer as u
  cross join lateral (
    select m.user_id, (m.created_at at time zone 'UTC')::date as day, m.cost, ${SETTLES} as settles
    from (
      ${unsettledRows(
        USAGE_LOG,
        scope,
        `${scope.userOf('m', 'u')} as user_id, m.created_at, m.cost, m.position`,
        'u',
      )}
    ) as m
  ) as m
  group by u.id, m.user_id, m.day, m.settles
), day as materialized (
  select p.id, p.cost, p.depth, d.id as counter_id,
    p.cost = 0 or abs(d.total_cost_microdollars + p.cost) < ${COUNTER_LIMIT} as fits,
    d.id is null and p.cost <> 0 and not exists (
      select
      from microdollar_usage_daily as d
      where ${counterOf(scope)}
    ) as is_missing
  from part as p
  left join lateral (
    select d.id, d.total_cost_microdollars
    from microdollar_usage_daily as d
    where p.cost <> 0
      and ${counterOf(scope)}
    for no key update of d skip locked
  ) as d on true
  where p.settles
), fit as materialized (
  select d.id, sum(d.cost) as cost, sum(d.depth) as depth
  from day as d
  group by d.id
  having bool_and(d.fits is true)
    and abs(sum(d.cost) + (select u.microdollars_used from payer as u where u.id = d.id))
      < ${COUNTER_LIMIT}
), day_sum as materialized (
  select array_agg(d.counter_id) as ids, array_agg(d.cost) as costs
  from day as d
  where d.cost <> 0
    and d.id in (select f.id from fit as f)
), daily_updated as (
  update microdollar_usage_daily as d
  set total_cost_microdollars = d.total_cost_microdollars + ((select x.costs from day_sum as x))[
      array_position((select x.ids from day_sum as x), d.id)]::bigint,
    updated_at = now()
  where d.id = any ((select x.ids from day_sum as x)::uuid[])
), payer_sum as materialized (
  select array_agg(f.id) as ids, array_agg(f.cost) as costs, array_agg(u.new_below) as belows,
    array_agg(u.new_except::text) as excepts
  from fit as f
  join payer as u on u.id = f.id
), payer_updated as (
  update ${scope.payers} as u
  set microdollars_used = u.microdollars_used + ((select x.costs from payer_sum as x))[
      array_position((select x.ids from payer_sum as x), u.id)]::bigint,
    settled_below = ((select x.belows from payer_sum as x))[
      array_position((select x.ids from payer_sum as x), u.id)],
    settled_except = ((select x.excepts from payer_sum as x))[
      array_position((select x.ids from payer_sum as x), u.id)]::bigint[]
  where u.id = any ((select x.ids from payer_sum as x)::${scope.idType}[])
)
select u.id::text as id, u.microdollars_used + coalesce(p.cost, 0) as balance,
  ${hasExa(scope)} as has_exa,
  coalesce(p.depth, 0) as depth,
  coalesce((select f.depth from fit as f where f.id = u.id), 0) as settled,
  (select count(*) from day as d where d.id = u.id and d.is_missing) as missing
from payer as u
left join lateral (
  select sum(p.cost) as cost, sum(p.depth) as depth
  from part as p
  where p.id = u.id
) as p on true`;
}

/** The same answer without a fold, for payers that are left for later. */
function readText(scope: PayerScope): string {
  return `/* microdollar.readBalances ${scope.name} */
select u.id::text as id, u.microdollars_used + u.cost as balance, u.has_exa, u.depth, 0 as settled,
  0 as missing
from unnest($1::${scope.idType}[]) as t(id)
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
  PAYER_SCOPES.map((scope) => [scope, { settle: settleText(scope), read: readText(scope) }]),
);

export const idArray = (scope: PayerScope, ids: readonly string[]): string =>
  scope.idType === 'text' ? textArray(ids) : plainArray(ids);

export interface SettleLimits {
  /** Transaction ids: an open transaction that is younger may hold the mark (R3). */
  youngXids: number;
  /** Rows of one payer, the mark then stops before the next; null = all. */
  rowsPerPayer: number | null;
}

export function settleStatement(
  scope: PayerScope,
  ids: readonly string[],
  isFolded: readonly boolean[],
  limits: SettleLimits,
): Statement {
  return {
    name: `microdollar_settle_${scope.name}`,
    text: TEXTS.get(scope)?.settle ?? '',
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

/** By the exact view, where Exa's unsettled rows charge something: rows of `id` and `balance`. */
export function exactBalancesStatement(scope: PayerScope, ids: readonly string[]): Statement {
  const view = scope.name === 'user' ? 'kilocode_user_balances' : 'organization_balances';
  const idName = scope.name === 'user' ? 'kilo_user_id' : 'organization_id';
  return {
    name: `microdollar_exact_balances_${scope.name}`,
    text: `/* microdollar.exactBalances */
select b.${idName}::text as id, b.microdollars_used as balance
from ${view} as b
where b.${idName} = any ($1::${scope.idType}[])`,
    values: [idArray(scope, ids)],
  };
}
