import { plainArray, type Statement } from '../../db/statement.js';
import {
  counterId,
  DIMENSION_ROLLUPS,
  type DimensionRollup,
  keyAndSums,
  keyPlaces,
  METRIC_NAMES,
  markedPayers,
  tailRows,
} from '../../schema/dimensionRollups.js';
import {
  EXA_LOG,
  type Log,
  type PayerScope,
  USAGE_LOG,
  unsettledRows,
} from '../../schema/unsettled.js';
import { isPaidBy, STATE_TABLES } from './payerTables.js';

/** Ids of the next rows of a log. */
export function listIdsStatement(
  log: Log,
  scope: PayerScope,
  id: string,
  limit: number,
): Statement {
  return {
    name: `shards_list_ids_${log.table}_${scope.name}`,
    text: `/* shards.listIds */
select r.id
from ${log.table} as r
where ${isPaidBy(scope)}
order by r.created_at, r.id
limit $2::integer`,
    values: [id, limit],
  };
}

/** Which of the ids are there, of this payer. */
export function findIdsStatement(
  log: Log,
  scope: PayerScope,
  id: string,
  ids: readonly string[],
): Statement {
  return {
    name: `shards_find_ids_${log.table}_${scope.name}`,
    text: `/* shards.findIds */
select r.id
from ${log.table} as r
where r.id = any ($2::uuid[])
  and ${isPaidBy(scope)}`,
    values: [id, plainArray(ids)],
  };
}

/** Before it an archive has taken what there was; as text, to the microsecond. */
export const HORIZON: Statement = {
  name: 'shards_horizon',
  text: `/* shards.horizon */
select s.archive_horizon::text as horizon
from ledger_settings as s`,
  values: [],
};

/** Which of these rows are of a time since then. */
export function findSinceStatement(log: Log, ids: readonly string[], since: string): Statement {
  return {
    name: `shards_find_since_${log.table}`,
    text: `/* shards.findSince */
select r.id
from ${log.table} as r
where r.id = any ($1::uuid[])
  and r.created_at >= $2::timestamptz`,
    values: [plainArray(ids), since],
  };
}

/** Whether any row of the payer is not in its counters yet, in whatever rollup. */
export function hasTailStatement(scope: PayerScope, id: string): Statement {
  const dimensions = DIMENSION_ROLLUPS.map(
    (rollup) => `exists (
    select
    from (${markedPayers(rollup, scope)}) as k
    cross join lateral (
      ${tailRows(scope, 'm.id', 'k')}
    ) as m
  )`,
  );
  return {
    name: `shards_has_tail_${scope.name}`,
    text: `/* shards.hasTail */
select exists (
    select
    from ${scope.payers} as u
    cross join lateral (
      ${unsettledRows(USAGE_LOG, scope, 'm.id', 'u')}
      union all
      ${unsettledRows(EXA_LOG, scope, 'm.id', 'u')}
    ) as m
    where u.id::text = any ($1::text[])
  ) or ${dimensions.join(' or ')} as has_tail`,
    values: [[id]],
  };
}

const takenOff = (rollup: DimensionRollup): string => `${rollup.name}_sum as materialized (
  select ${keyAndSums(rollup)}
  from gone as m
  group by ${keyPlaces(rollup)}
), ${rollup.name}_updated as (
  update ${rollup.name} as t
  set ${METRIC_NAMES.map((name) => `${name} = t.${name} - s.${name}`).join(',\n    ')}
  from ${rollup.name}_sum as s
  where t.id = ${counterId(rollup, 's')}
)`;

/**
 * Deletes usage of a payer that is elsewhere, and takes it off the counters that have it, in one statement:
 * what is reported stays what is stored. The payer and its marks are locked, and have counted every row.
 */
export function cleanUsageStatement(
  scope: PayerScope,
  id: string,
  ids: readonly string[],
): Statement {
  return {
    name: `shards_clean_usage_${scope.name}`,
    text: `/* shards.cleanUsage */
with gone as (
  delete from microdollar_usage as r
  where r.id = any ($2::uuid[])
    and ${isPaidBy(scope)}
  returning r.*
), metadata_gone as (
  delete from microdollar_usage_metadata as d
  where d.id = any ($2::uuid[])
    and d.id in (select g.id from gone as g)
), day_sum as materialized (
  select g.kilo_user_id, (g.created_at at time zone 'UTC')::date as day, sum(g.cost) as cost
  from gone as g
  group by g.kilo_user_id, day
), day_updated as (
  update microdollar_usage_daily as r
  set total_cost_microdollars = r.total_cost_microdollars - s.cost,
    updated_at = now()
  from day_sum as s
  where r.kilo_user_id = s.kilo_user_id
    and r.usage_date = s.day
    and ${isPaidBy(scope)}
), ${DIMENSION_ROLLUPS.map(takenOff).join(', ')}
update ${scope.payers} as u
set microdollars_used = u.microdollars_used - (select coalesce(sum(g.cost), 0) from gone as g)
where u.id = $1::${scope.idType}
  and exists (select from gone)`,
    values: [id, plainArray(ids)],
  };
}

/** The same of Exa, a month at a time: what is charged follows from the whole of it. */
export function cleanExaMonthStatement(scope: PayerScope, id: string): Statement {
  return {
    name: `shards_clean_exa_${scope.name}`,
    text: `/* shards.cleanExaMonth */
with month as materialized (
  select date_trunc('month', r.created_at at time zone 'UTC')::date as month
  from exa_usage_log as r
  where ${isPaidBy(scope)}
  order by r.created_at
  limit 1
), gone as (
  delete from exa_usage_log as r
  using month as m
  where ${isPaidBy(scope)}
    and date_trunc('month', r.created_at at time zone 'UTC')::date = m.month
  returning r.id
), month_gone as (
  delete from exa_monthly_usage as r
  using month as m
  where ${isPaidBy(scope)}
    and r.month = m.month
  returning r.total_charged_microdollars
), charged as (
  update ${scope.payers} as u
  set microdollars_used = u.microdollars_used
    - (select coalesce(sum(g.total_charged_microdollars), 0) from month_gone as g)
  where u.id = $1::${scope.idType}
    and exists (select from month_gone)
)
select count(*)::integer as rows
from gone`,
    values: [id],
  };
}

/** What a payer's name, mail and name of an organization become: only its id stays known. */
const BLANK: Readonly<Record<PayerScope['name'], string>> = {
  user: 'email = null, name = null, kilo_pass_threshold = null',
  organization: 'name = u.id::text',
};

/**
 * With its last row gone: counters, marks and state, and of the payer all but that it is known. One
 * statement: an amount that was archived is in its balance and its days until they go together.
 */
export function forgetPayerStatement(scope: PayerScope, id: string): Statement {
  const tables = [
    'microdollar_usage_daily',
    'exa_monthly_usage',
    ...DIMENSION_ROLLUPS.map(({ name }) => name),
  ];
  const counters = tables.map(
    (name) => `${name}_gone as (
  delete from ${name} as r
  where ${isPaidBy(scope)}
)`,
  );
  const state = STATE_TABLES.filter(({ name }) => name !== 'rollup_marks')
    .flatMap(({ name, isOf }) => {
      const condition = isOf(scope);
      return condition === null ? [] : [{ name, condition }];
    })
    .map(
      ({ name, condition }) => `${name}_gone as (
  delete from ${name} as r
  where ${condition}
)`,
    );
  return {
    name: `shards_forget_payer_${scope.name}`,
    text: `/* shards.forgetPayer */
with ${[...counters, ...state].join(', ')}, marks_gone as (
  delete from rollup_marks as k
  where k.payer_scope = '${scope.name}'
    and k.payer_id = $1::text
)
update ${scope.payers} as u
set ${BLANK[scope.name]}, microdollars_used = 0, total_microdollars_acquired = 0,
  opening_microdollars_used = 0
where u.id = $1::${scope.idType}
  and u.is_elsewhere
returning u.id`,
    values: [id],
  };
}
