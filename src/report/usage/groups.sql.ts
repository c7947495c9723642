import { METRIC_NAMES } from '../../schema/dimensionRollups.js';
import type { ValidReportQuery } from './query.js';
import type { SumType } from './sources.sql.js';

/** Sums a row, of rows. */
const sumsOf = (row: string) =>
  METRIC_NAMES.map((name) => `sum(${row}.${name}) as ${name}`).join(', ');
/** Periods as lists: a row a period costs more than its sums. `start` as seconds since 1970. */
const listsOf = (row: string) => `array_agg(date_part('epoch', ${row}.start)::bigint) as starts,
    ${METRIC_NAMES.map((name) => `array_agg(${row}.${name}) as ${name}`).join(', ')}`;
const LISTS = `starts, ${METRIC_NAMES.join(', ')}`;

const ORDERS = {
  cost: 'sum(x.cost_microdollars)',
  requests: 'sum(x.requests)',
  tokens: 'sum(x.input_tokens + x.output_tokens)',
};

/** What is told of a period; one of which all was taken off again is none. */
const PERIOD = `period as (
  select x.is_previous, x.start, GROUPS${sumsOf('x')}
  from source as x
  group by GROUPSx.is_previous, x.start
  having sum(x.requests) <> 0
)`;

/**
 * Common table expressions from `source`, rows of a period and group, to `series`: is_previous, is_other,
 * groups by number, and lists of the periods.
 */
export function seriesOf(query: ValidReportQuery, sumType: SumType): string {
  const { by, metric } = query;
  if (by.length === 0) return UNGROUPED;
  if (isByMember(query)) return rankFirst(ORDERS[metric]);
  const names = by.map((_, index) => `group_${index + 1}`);
  return by.includes('member')
    ? sumAndRank(names, ORDERS[metric])
    : listFirst(names, ORDERS[metric], sumType);
}

const isByMember = ({ by }: ValidReportQuery) => by.length === 1 && by[0] === 'member';

/**
 * The faster one for a query, where no number is too large for it: few sums of many rows are as fast by
 * numerics, which need no cast.
 */
export const sumTypeOf = (query: ValidReportQuery): SumType =>
  query.by.length === 0 || isByMember(query) ? 'numeric' : 'integer';

const period = (groups: string) => PERIOD.replaceAll('GROUPS', groups);

const UNGROUPED = `${period('')}, series as (
  select x.is_previous, false as is_other, null::text as group_1, null::text as group_2,
    ${listsOf('x')}
  from period as x
  group by x.is_previous
)`;

/**
 * A few groups: every one as lists, then the largest are told apart; the lists of the others are taken
 * apart again, where there are any.
 */
function listFirst(names: readonly string[], order: string, sumType: SumType): string {
  const columns = names.map((name) => `x.${name}, `).join('');
  const lists = LISTS.split(', ');
  const type = sumType === 'integer' ? 'bigint' : sumType;
  return `${period(columns)}, listed as (
  select x.is_previous, ${columns}${order} as size, ${listsOf('x')}
  from period as x
  group by ${columns}x.is_previous
), ranked as materialized (
  select x.*, row_number() over (
    partition by x.is_previous order by x.size desc, ${columns.slice(0, -2)}) as place
  from listed as x
), series as (
  select x.is_previous, false as is_other, ${columns}${names.length === 1 ? 'null as group_2, ' : ''}
    ${lists.map((name) => `x.${name}`).join(', ')}
  from ranked as x
  where x.is_previous
    or x.place <= $9::integer
  union all
  select false, true, null, null, array_agg(o.start),
    ${METRIC_NAMES.map((name) => `array_agg(o.${name})`).join(', ')}
  from (
    select u.start, ${METRIC_NAMES.map((name) => `sum(u.${name})::${type} as ${name}`).join(', ')}
    from ranked as x
    cross join lateral unnest(${lists.map((name) => `x.${name}`).join(', ')})
      as u(start, ${METRIC_NAMES.join(', ')})
    where not x.is_previous
      and x.place > $9::integer
    group by u.start
  ) as o
  having count(*) > 0
)`;
}

/** One row, of which the planner expects a thousand: a plan for few is a loop over what may be many. */
const MANY = 'generate_series(1, (select 1)) as many';

/**
 * Pairs with members are as many as rows, each with a list of few: the largest are told apart first. By
 * equalities, which hash, for any may be null.
 */
function sumAndRank(names: readonly string[], order: string): string {
  const columns = names.map((name) => `x.${name}`).join(', ');
  return `summed as materialized (
  select x.is_previous, x.start, ${columns}, ${sumsOf('x')}
  from source as x
  group by x.is_previous, x.start, ${columns}
), ranked as materialized (
  ${largest(columns, order, 'summed')}
), period as (
  select x.is_previous, r.place, x.start, ${sumsOf('x')}
  from (
    select x.* from ${MANY}, summed as x offset 0
  ) as x
  left join ranked as r
    on not x.is_previous
    and ${names
      .map(
        (name) => `coalesce(x.${name}, '') = coalesce(r.${name}, '')
    and (x.${name} is null) = (r.${name} is null)`,
      )
      .join('\n    and ')}
  group by x.is_previous, r.place, x.start
  having sum(x.requests) <> 0
), ${byPlace('r.group_1, r.group_2')}`;
}

/** One of which all was taken off again is none. */
const largest = (columns: string, order: string, from: string) => `select
    (row_number() over ())::integer as place, x.*
  from (
    select ${columns}
    from ${from} as x
    where not x.is_previous
    group by ${columns}
    having sum(x.requests) <> 0
    order by ${order} desc, ${columns}
    limit $9::integer
  ) as x`;

const byPlace = (groups: string) => `series as (
  select x.is_previous, not x.is_previous and x.place is null as is_other, ${groups},
    ${LISTS}
  from (
    select x.is_previous, x.place, ${listsOf('x')}
    from period as x
    group by x.is_previous, x.place
  ) as x
  left join ranked as r on r.place = x.place
)`;

/**
 * Members may be as many as rows, and have names: the largest first, looked up for each row; of the others
 * only what they have together.
 */
function rankFirst(order: string): string {
  return `ranked as materialized (
  ${largest('x.group_1', order, 'source')}
), names as materialized (
  select jsonb_object_agg(r.group_1, r.place) as places
  from ranked as r
), period as (
  select x.is_previous, x.place, x.start, ${sumsOf('x')}
  from (
    select x.*, case when not x.is_previous
        then ((select n.places from names as n) -> x.group_1)::integer end as place
    from source as x
  ) as x
  group by x.is_previous, x.place, x.start
  having sum(x.requests) <> 0
), ${byPlace('r.group_1, null::text as group_2')}`;
}
