import { createHash } from 'node:crypto';
import { instantText } from '../../db/instant.sql.js';
import type { Statement } from '../../db/statement.js';
import { METRIC_NAMES, type MetricName } from '../../schema/dimensionRollups.js';
import { proofOf } from './proof.sql.js';
import { GROUPS, type ValidReportQuery } from './query.js';
import {
  BOUNDS,
  isUtc,
  payersOf,
  type ReportSource,
  rollupsOf,
  type SumType,
  sourceRows,
} from './sources.sql.js';

/**
 * One line of the chart: a group, what is beyond the largest, or all of the days before. Lists are in
 * the form `{1,2}`, one entry a period, in no order.
 */
export type ReportedSeries = Record<MetricName, string> & {
  is_previous: boolean;
  is_other: boolean;
  group_1: string | null;
  group_2: string | null;
  /** First instants of the periods, seconds since 1970; and the zone's offsets then, minutes. */
  starts: string;
  offsets: string | null;
  /** Sums of the lists. */
  totals: string;
};

/** One row a series; of none, one row without. */
export type ReportedRow = (ReportedSeries | { [Name in keyof ReportedSeries]: null }) & {
  /** The source answers for the range; else there are no series. */
  is_proven: boolean;
  as_of: string;
  is_replica: boolean;
};

const sumsOf = (row: string) =>
  METRIC_NAMES.map((name) => `sum(${row}.${name}) as ${name}`).join(', ');
const ORDERS = {
  cost: 'sum(x.cost_microdollars)',
  requests: 'sum(x.requests)',
  tokens: 'sum(x.input_tokens + x.output_tokens)',
};

/** One row, of which the planner expects a thousand: a plan for few is a loop over what may be many. */
const MANY = 'generate_series(1, (select 1)) as many';

/** The places of the largest, one group each: found in a list, for a join with so few would be a loop. */
const placed = (name: string) => `names as materialized (
  select array_agg(r.${name} order by r.place) as largest
  from ranked as r
), placed as not materialized (
  select x.*, case when not x.is_previous
      then array_position((select n.largest from names as n), x.${name}) end as place
  from summed as x
)`;

/** The same of pairs: by equalities, which hash, for any may be null. */
const placedPairs = (names: readonly string[]) => `placed as materialized (
  select x.*, r.place
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
)`;

/** A few groups: summed by period and group first, then the largest are told apart. */
function sumFirst(names: readonly string[], order: string, sumType: SumType): string {
  const columns = names.map((name) => `x.${name}`).join(', ');
  const type = sumType === 'integer' ? 'bigint' : sumType;
  return `summed as materialized (
  select x.is_previous, x.start, ${columns}, ${sumsOf('x')}
  from source as x
  group by x.is_previous, x.start, ${columns}
), ranked as materialized (
  ${largest(columns, order, 'summed')}
), ${names.length === 1 ? placed(names[0] as string) : placedPairs(names)}, period as (
  select x.is_previous, x.place, x.start, ${METRIC_NAMES.map((name) => `x.${name}`).join(', ')}
  from placed as x
  where x.place is not null
    and x.requests <> 0
  union all
  select x.is_previous, null, x.start,
    ${METRIC_NAMES.map((name) => `sum(x.${name})::${type}`).join(', ')}
  from placed as x
  where x.place is null
  group by x.is_previous, x.start
  having sum(x.requests) <> 0
)`;
}

/**
 * Members may be as many as rows, and have names: the largest first, looked up for each row; of the others
 * only what they have together.
 */
function rankFirst(name: string, order: string): string {
  return `ranked as materialized (
  ${largest(`x.${name}`, order, 'source')}
), names as materialized (
  select jsonb_object_agg(r.${name}, r.place) as places
  from ranked as r
), period as (
  select x.is_previous, x.place, x.start, ${sumsOf('x')}
  from (
    select x.*, case when not x.is_previous
        then ((select n.places from names as n) -> x.${name})::integer end as place
    from source as x
  ) as x
  group by x.is_previous, x.place, x.start
  having sum(x.requests) <> 0
)`;
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

const UNGROUPED = `ranked as (
  select 1 as place
), period as (
  select x.is_previous, case when not x.is_previous then 1 end as place, x.start,
    ${sumsOf('x')}
  from source as x
  group by x.is_previous, x.start
  having sum(x.requests) <> 0
)`;

function periodsOf(
  { by, metric }: ValidReportQuery,
  names: readonly string[],
  sumType: SumType,
): string {
  const [first] = names;
  if (first === undefined) return UNGROUPED;
  const order = ORDERS[metric];
  return isByMember({ by }) ? rankFirst(first, order) : sumFirst(names, order, sumType);
}

const isByMember = ({ by }: Pick<ValidReportQuery, 'by'>) => by.length === 1 && by[0] === 'member';

/** The faster one for a query, where no number is too large for it. */
export const sumTypeOf = ({ by }: ValidReportQuery): SumType =>
  by.length === 0 || isByMember({ by }) ? 'numeric' : 'integer';

/**
 * One report, in one statement, so in one snapshot, with the proof that its source answers for the range.
 *
 *   source    counted by whole days, by quarters of an hour, or not at all
 *   ranked    the largest groups
 *   period    summed by period of the zone and group; the days before by the period they stand beside
 *   series    the periods of a group as lists: a row a period costs more than its sums
 */
function write(query: ValidReportQuery, source: ReportSource, sumType: SumType): string {
  const names = query.by.map((_, index) => `group_${index + 1}`);
  const { before, rows } = sourceRows(
    query,
    source,
    query.by.map((group) => GROUPS[group]),
    sumType,
  );
  const proofs = rollupsOf(query, source).map((rollup, index) =>
    proofOf(rollup, payersOf(query), `unproven_${index + 1}`),
  );
  const groups = ['group_1', 'group_2'].map((name) =>
    names.includes(name) ? `r.${name}` : `null::text as ${name}`,
  );
  const offset = `date_part('epoch',
        (p.start at time zone $4::text) - (p.start at time zone 'UTC'))::integer / 60`;
  return `/* usage.report ${source} ${sumType} */
with ${[BOUNDS, ...before, ...proofs.map(({ days }) => days)].join(', ')}, proof as materialized (
  select ${['true', ...proofs.map(({ isEmpty }) => isEmpty)].join('\n  and ')} as is_proven
), source as not materialized (
  select x.*
  from (
    ${rows}
  ) as x
  where (select p.is_proven from proof as p)
), ${periodsOf(query, names, sumType)}, series as (
  select p.is_previous, p.place, array_agg(date_part('epoch', p.start)::bigint)::text as starts,
    ${isUtc(query) ? 'null' : `array_agg(${offset})::text`} as offsets,
    ${METRIC_NAMES.map((name) => `array_agg(p.${name})::text as ${name}`).join(', ')},
    array[${METRIC_NAMES.map((name) => `sum(p.${name})`).join(', ')}]::text as totals
  from period as p
  group by p.is_previous, p.place
)
select proof.is_proven, pg_is_in_recovery() as is_replica,
  ${instantText('coalesce(pg_last_xact_replay_timestamp(), now())')} as as_of,
  s.is_previous, s.place is null as is_other, ${groups.join(', ')}, s.starts, s.offsets,
  ${METRIC_NAMES.map((name) => `s.${name}`).join(', ')}, s.totals
from proof
left join series as s on true
left join ranked as r on r.place = s.place
order by s.is_previous, s.place is null${names.map((name) => `, r.${name} nulls last`).join('')}`;
}

/** Texts by what they depend on: a few hundred at most. */
const written = new Map<string, Pick<Statement, 'name' | 'text'>>();

export function usageReportStatement(
  query: ValidReportQuery,
  source: ReportSource,
  sumType: SumType,
): Statement {
  const { by, metric, grain, compare, payer, organizationIds } = query;
  const shape = [source, sumType, by.join(), metric, grain, compare, isUtc(query), payer.kind];
  const key = [...shape, organizationIds.length > 0].join(' ');
  let statement = written.get(key);
  if (statement === undefined) {
    const text = write(query, source, sumType);
    const name = createHash('sha256').update(text).digest('hex').slice(0, 32);
    statement = { name: `microdollar_report_${name}`, text };
    written.set(key, statement);
  }
  return { ...statement, values: valuesOf(query) };
}

function valuesOf(query: ValidReportQuery): unknown[] {
  const { payer, organizationIds } = query;
  const isAlone = organizationIds.length === 0;
  return [
    payer.id,
    query.from,
    query.until,
    query.zone,
    query.compare ? query.days : 0,
    isAlone ? query.member : payer.id,
    query.apiKeyId,
    query.grain,
    query.top,
    ...(isAlone ? [] : [organizationIds]),
  ];
}
