import { plainArray, type Statement } from '../db/statement.js';
import { EXA_LOG, PAYER_SCOPES, type PayerScope, unsettledRows } from '../schema/unsettled.js';
import { COUNTER_LIMIT, payerMarks, SETTLES } from './marks.sql.js';
import { idArray, type SettleLimits } from './settle.sql.js';

export interface SettledExaRow {
  id: string;
  depth: string;
  settled: string;
  missing: string;
}

const counterOf = (scope: PayerScope): string => `e.kilo_user_id = p.user_id
      and ${scope.name === 'user' ? 'e.organization_id is null' : 'e.organization_id = p.id'}
      and e.month = p.month`;

/**
 * Folds payers' Exa requests, by a mark of their own, into their months and, for what that charges
 * beyond the free allowance, into their balance. As settle.sql.ts; the charged part follows from
 * the new total of the locked month row, so it is exact however requests arrive.
 *
 *   part     unsettled requests by payer, user and month
 *   month    parts to settle with their counter row
 *   fit      payers all months of which can take their part, and what that charges
 */
function settleExaText(scope: PayerScope): string {
  return `/* microdollar.settleExa ${scope.name} */
with ${payerMarks(EXA_LOG, scope)}, part as materialized (
  select u.id, m.user_id, m.month, m.settles, sum(m.cost) as cost, count(*) as depth,
    count(*) filter (where m.cost <> 0) as requests
  from payer as u
  cross join lateral (
    select m.user_id, date_trunc('month', m.created_at at time zone 'UTC')::date as month, m.cost,
      ${SETTLES} as settles
    from (
      ${unsettledRows(
        EXA_LOG,
        scope,
        `${scope.userOf('m', 'u')} as user_id, m.created_at, m.cost, m.position`,
        'u',
      )}
    ) as m
  ) as m
  group by u.id, m.user_id, m.month, m.settles
), month as materialized (
  select p.id, p.cost, p.depth, p.requests, e.id as counter_id,
    greatest(0, e.total_cost_microdollars + p.cost - e.free_allowance_microdollars) as charged,
    greatest(0, e.total_cost_microdollars + p.cost - e.free_allowance_microdollars)
      - e.total_charged_microdollars as delta,
    p.requests = 0 or abs(e.total_cost_microdollars + p.cost) < ${COUNTER_LIMIT} as fits,
    e.id is null and p.requests <> 0 and not exists (
      select
      from exa_monthly_usage as e
      where ${counterOf(scope)}
      offset 0
    ) as is_missing
  from part as p
  left join lateral (
    select e.id, e.total_cost_microdollars, e.total_charged_microdollars,
      e.free_allowance_microdollars
    from exa_monthly_usage as e
    where p.requests <> 0
      and ${counterOf(scope)}
    for no key update of e skip locked
  ) as e on true
  where p.settles
), fit as materialized (
  select m.id, coalesce(sum(m.delta), 0) as delta, sum(m.depth) as depth
  from month as m
  group by m.id
  having bool_and(m.fits is true)
    and abs(coalesce(sum(m.delta), 0)
      + (select u.microdollars_used from payer as u where u.id = m.id)) < ${COUNTER_LIMIT}
), month_sum as materialized (
  select array_agg(m.counter_id) as ids, array_agg(m.cost) as costs,
    array_agg(m.charged) as charges, array_agg(m.requests) as requests
  from month as m
  where m.counter_id is not null
    and m.id in (select f.id from fit as f)
), month_updated as (
  update exa_monthly_usage as e
  set total_cost_microdollars = e.total_cost_microdollars + ((select x.costs from month_sum as x))[
      array_position((select x.ids from month_sum as x), e.id)]::bigint,
    total_charged_microdollars = ((select x.charges from month_sum as x))[
      array_position((select x.ids from month_sum as x), e.id)]::bigint,
    request_count = e.request_count + ((select x.requests from month_sum as x))[
      array_position((select x.ids from month_sum as x), e.id)]::integer,
    updated_at = now()
  where e.id = any ((select x.ids from month_sum as x)::uuid[])
), payer_sum as materialized (
  select array_agg(f.id) as ids, array_agg(f.delta) as deltas, array_agg(u.new_below) as belows,
    array_agg(u.new_except::text) as excepts
  from fit as f
  join payer as u on u.id = f.id
), payer_updated as (
  update ${scope.payers} as u
  set microdollars_used = u.microdollars_used + ((select x.deltas from payer_sum as x))[
      array_position((select x.ids from payer_sum as x), u.id)]::bigint,
    exa_settled_below = ((select x.belows from payer_sum as x))[
      array_position((select x.ids from payer_sum as x), u.id)],
    exa_settled_except = ((select x.excepts from payer_sum as x))[
      array_position((select x.ids from payer_sum as x), u.id)]::bigint[]
  where u.id = any ((select x.ids from payer_sum as x)::${scope.idType}[])
)
select u.id::text as id,
  coalesce((select sum(p.depth) from part as p where p.id = u.id), 0) as depth,
  coalesce((select f.depth from fit as f where f.id = u.id), 0) as settled,
  (select count(*) from month as m where m.id = u.id and m.is_missing) as missing
from payer as u`;
}

const TEXTS = new Map(PAYER_SCOPES.map((scope) => [scope, settleExaText(scope)]));

export function settleExaStatement(
  scope: PayerScope,
  ids: readonly string[],
  limits: SettleLimits,
): Statement {
  return {
    name: `microdollar_settle_exa_${scope.name}`,
    text: TEXTS.get(scope) ?? '',
    values: [
      idArray(scope, ids),
      plainArray(ids.map(() => true)),
      limits.youngXids,
      limits.rowsPerPayer,
    ],
  };
}
