import { METRIC_NAMES } from '../../schema/dimensionRollups.js';
import type { ValidReportQuery } from './query.js';

/**
 * Who sums by period. The client does where there are not too many rows: to make sums, and texts of them,
 * takes the server longer than texts of the rows. Else the server does, and tells the largest groups apart.
 */
export type Form = 'rows' | 'sums';

/** Of the form `rows`: what a client can take, 5 MB and a row a group. More is cut, and known by it. */
export const MAX_COUNTED = 50_000;
export const MAX_SERIES = 2_000;

/**
 * Members may be as many as rows. Of long periods many rows make few sums, and of an organization's without
 * groups.
 */
export const formOf = ({ by, grain, payer }: ValidReportQuery): Form => {
  const isFew = by.length === 0 && payer.kind === 'organization';
  const isLong = grain === 'week' || grain === 'month';
  return isFew || isLong || by.includes('member') ? 'sums' : 'rows';
};

/** Sums a row, of rows. */
const sumsOf = (row: string) =>
  METRIC_NAMES.map((name) => `sum(${row}.${name}) as ${name}`).join(', ');
/**
 * Periods as one list, of start as seconds since 1970 and sums, one after the other: a row a period costs
 * more than its sums.
 */
const listOf = (row: string) => `string_agg(concat_ws(',', date_part('epoch', ${row}.start)::bigint,
      ${METRIC_NAMES.map((name) => `${row}.${name}`).join(', ')}), ',') as list,
    count(*) as counted`;

const ORDERS = {
  cost: 'sum(x.cost_microdollars)',
  requests: 'sum(x.requests)',
  tokens: 'sum(x.input_tokens + x.output_tokens)',
};

const PROVEN = 'where (select p.is_proven from proof as p)';

/**
 * Common table expressions of the parts of the source, rows of a period and group, to `series`: is_previous,
 * is_other, groups by number, list of the periods, and how many it has. Where parts are told one by one, a
 * group may be there more than once; none is other. In the form `rows` the list is of their entries.
 */
export function seriesOf(query: ValidReportQuery, parts: readonly string[], form: Form): string {
  const { by, metric } = query;
  const names = by.map((_, index) => `group_${index + 1}`);
  const columns = names.map((name) => `x.${name}, `).join('');
  // Each by itself: what goes through a union costs a fifth more a row.
  if (form === 'rows') return series(parts.map((part) => rowsOf(part, columns)));
  if (by.length === 0) return series(parts.map(sumsOfPart));
  const source = `source as not materialized (
  select x.*
  from (
    ${parts.join('\n    union all\n    ')}
  ) as x
  ${PROVEN}
)`;
  if (by.length === 1 && by[0] === 'member') return `${source}, ${rankFirst(ORDERS[metric])}`;
  return `${source}, ${sumAndRank(names, ORDERS[metric])}`;
}

const series = (selects: readonly string[]) => `series as (
  ${selects.join('\n  union all\n  ')}
)`;

/** `select`s of null have no type of their own. */
const groupsOf = (columns: string) => {
  const missing = [1, 2].filter((place) => !columns.includes(`group_${place}`));
  return `${columns}${missing.map((place) => `null::text as group_${place}, `).join('')}`;
};

const rowsOf = (part: string, columns: string) => `select x.is_previous, false as is_other,
    ${groupsOf(columns)}string_agg(x.entry, ',') as list, count(*) as counted
  from (
    select x.*
    from (
    ${part}
    ) as x
    ${PROVEN}
    limit ${MAX_COUNTED + 1}
  ) as x
  group by ${columns}x.is_previous`;

const sumsOfPart = (part: string) => `select x.is_previous, false as is_other,
    ${groupsOf('')}${listOf('x')}
  from (
    select x.is_previous, x.start, ${sumsOf('x')}
    from (
    ${part}
    ) as x
    ${PROVEN}
    group by x.is_previous, x.start
  ) as x
  group by x.is_previous`;

/** One row, of which the planner expects a thousand: a plan for few is a loop over what may be many. */
const MANY = 'generate_series(1, (select 1)) as many';

/**
 * Groups may be as many as rows, each with a list of few: the largest are told apart first, and of the
 * others only what they have together in a period. By equalities, which hash, for any may be null.
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
), ${byPlace(names.length === 1 ? 'r.group_1, null::text as group_2' : 'r.group_1, r.group_2')}`;
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
    x.list, x.counted
  from (
    select x.is_previous, x.place, ${listOf('x')}
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
