import type { Statement } from '../../db/statement.js';
import {
  DIMENSION_ROLLUPS,
  type DimensionRollup,
  keyColumns,
  keyPlaces,
  labelOf,
  METRIC_NAMES,
  METRICS,
  periodStartOf,
  QUARTER_HOURLY,
} from '../../schema/dimensionRollups.js';
import { ARCHIVE_HORIZON, frozenDays, isFrozen, isInFrozen } from '../../schema/frozen.js';
import type { PayerScope } from '../../schema/unsettled.js';
import { isPaidBy } from './payerTables.js';

/**
 * What the archive took of a payer's usage, by a rollup: of frozen days the counter less the rows it
 * counts.
 */
const archivedOf = (rollup: DimensionRollup, scope: PayerScope): string => {
  const key = keyColumns(rollup);
  return `select ${key.join(', ')}, ${METRIC_NAMES.map((name) => `sum(x.${name}) as ${name}`).join(', ')}
    from (
      select ${[...key, ...METRIC_NAMES].map((name) => `c.${name}`).join(', ')}
      from ${rollup.name} as c
      where ${isPaidBy(scope, 'c')}
        and c.period_start < ${ARCHIVE_HORIZON}
        and ${isFrozen('c.period_start')}
      union all
      select ${key
        .map((name) =>
          name === 'period_start' ? periodStartOf(rollup, 'm.created_at') : `m.${name}`,
        )
        .join(', ')}, ${METRICS.map(({ of }) => `-(${of})`).join(', ')}
      from microdollar_usage as m
      where ${isPaidBy(scope, 'm')}
        and m.created_at < ${ARCHIVE_HORIZON}
        and ${isInFrozen(rollup, 'm')}
    ) as x
    group by ${key.join(', ')}
    having ${METRIC_NAMES.map((name) => `sum(x.${name}) <> 0`).join(' or ')}`;
};

/**
 * The same by the quarters, which have every dimension and every day that was ever frozen: a rollup that came
 * later may have none of its own.
 */
const archivedByQuarters = (rollup: DimensionRollup, scope: PayerScope): string => {
  const key = keyColumns(rollup);
  const day = periodStartOf(rollup, 'q.period_start');
  return `select ${[
    ...key.map((name) => (name === 'period_start' ? `${day} as period_start` : `q.${name}`)),
    ...METRIC_NAMES.map((name) => `sum(q.${name}) as ${name}`),
  ].join(', ')}
    from (
    ${archivedOf(QUARTER_HOURLY, scope)}
    ) as q
    group by ${keyPlaces(rollup)}`;
};

/** One row: `archived`, JSON. */
export function readArchivedStatement(
  rollup: DimensionRollup,
  scope: PayerScope,
  id: string,
): Statement {
  return {
    name: `shards_archived_${labelOf(rollup)}_${scope.name}`,
    text: `/* shards.readArchived */
with ${frozenDays(QUARTER_HOURLY)}, archived as (
  ${archivedByQuarters(rollup, scope)}
)
select coalesce(jsonb_agg(to_jsonb(a)), '[]')::text as archived
from archived as a`,
    values: [id],
  };
}

export const ARCHIVED_ROLLUPS = DIMENSION_ROLLUPS;

/** Days of what the quarters have `archived` that are not frozen here: there it would be taken for wrong. */
export function findUnfrozenStatement(archived: string): Statement {
  return {
    name: 'shards_unfrozen',
    text: `/* shards.findUnfrozen */
with ${frozenDays(QUARTER_HOURLY)}
select distinct (a.period_start at time zone 'UTC')::date::text as day
from jsonb_to_recordset($1::jsonb) as a(period_start timestamptz)
where not ${isFrozen('a.period_start')}
order by day
limit 5`,
    values: [archived],
  };
}

/**
 * Adds to counter rows what was archived elsewhere, less what was added before. By id, which follows from the
 * key; under the payer's mark. Of days that the rollup has not frozen here reports come from the quarters.
 */
export function addArchivedStatement(
  rollup: DimensionRollup,
  scope: PayerScope,
  id: string,
  archived: string,
  counterId: string,
): Statement {
  const key = keyColumns(rollup);
  const columns = [...key, ...METRIC_NAMES];
  return {
    name: `shards_add_archived_${labelOf(rollup)}_${scope.name}`,
    text: `/* shards.addArchived */
with ${frozenDays(rollup)}, here as (
  ${archivedOf(rollup, scope)}
), difference as (
  select ${key.join(', ')}, ${METRIC_NAMES.map((name) => `sum(x.${name}) as ${name}`).join(', ')}
  from (
    select ${columns.map((name) => `a.${name}`).join(', ')}
    from jsonb_populate_recordset(null::${rollup.name}, $2::jsonb) as a
    where ${isFrozen('a.period_start')}
    union all
    select ${[...key.map((name) => `h.${name}`), ...METRIC_NAMES.map((name) => `-h.${name}`)].join(', ')}
    from here as h
  ) as x
  group by ${key.join(', ')}
)
insert into ${rollup.name} as t (id, ${columns.join(', ')})
select ${counterId}, ${columns.map((name) => `p.${name}`).join(', ')}
from difference as p
where ${METRIC_NAMES.map((name) => `p.${name} <> 0`).join(' or ')}
on conflict (id) do update
set ${METRIC_NAMES.map((name) => `${name} = t.${name} + excluded.${name}`).join(',\n  ')}`,
    values: [id, archived],
  };
}

/** Days with archived usage, opened here without waiting. */
export function openArchivedDaysStatement(days: string): Statement {
  return {
    name: 'shards_open_archived_days',
    text: `/* shards.openArchivedDays */
insert into microdollar_usage_daily (kilo_user_id, organization_id, usage_date)
select d.kilo_user_id, d.organization_id, d.usage_date
from jsonb_to_recordset($1::jsonb) as d(kilo_user_id text, organization_id uuid, usage_date date)
order by d.kilo_user_id, d.usage_date
on conflict do nothing`,
    values: [days],
  };
}

/** Sets what was archived of days, and adds the difference to their totals and the payer's. */
export function setArchivedDaysStatement(scope: PayerScope, id: string, days: string): Statement {
  return {
    name: `shards_set_archived_days_${scope.name}`,
    text: `/* shards.setArchivedDays */
with given as materialized (
  select * from jsonb_to_recordset($2::jsonb) as d(kilo_user_id text, organization_id uuid,
    usage_date date, archived_cost_microdollars bigint)
), difference as materialized (
  select d.id, coalesce(g.archived_cost_microdollars, 0) - d.archived_cost_microdollars as cost
  from microdollar_usage_daily as d
  left join given as g
    on g.kilo_user_id = d.kilo_user_id
    and g.organization_id is not distinct from d.organization_id
    and g.usage_date = d.usage_date
  where ${isPaidBy(scope, 'd')}
), changed as (
  update microdollar_usage_daily as d
  set archived_cost_microdollars = d.archived_cost_microdollars + x.cost,
    total_cost_microdollars = d.total_cost_microdollars + x.cost
  from difference as x
  where x.id = d.id
    and x.cost <> 0
)
update ${scope.payers} as u
set microdollars_used = u.microdollars_used + (select coalesce(sum(x.cost), 0) from difference as x)
where u.id = $1::${scope.idType}`,
    values: [id, days],
  };
}
