import type { Statement } from '../../db/statement.js';
import {
  countedRows,
  counterId,
  type DimensionRollup,
  keyAndSums,
  keyColumns,
  keyPlaces,
  labelOf,
  METRIC_NAMES,
} from '../../schema/dimensionRollups.js';

/** Part of a UTC day: `minutes` from `offset` on, whole periods; of all users, or of one. */
export interface Slice {
  day: string;
  offset: number;
  minutes: number;
  kiloUserId?: string | undefined;
}

export interface SliceFinding {
  kind: 'wrong' | 'missing' | 'orphan';
  kilo_user_id: string;
  organization_id: string | null;
  period_start: string;
  /** The rest of the key. */
  dimensions: Record<string, string | null>;
  /** The columns of the row are not those that its id was made of. */
  is_misfiled: boolean;
  counter_id: string | null;
  reported_cost: string;
  true_cost: string;
  /** Reported minus true. */
  request_drift: string;
}

export interface ComparedSlice {
  raw_rows: string;
  raw_cost: string;
  keys: string;
  wrong: string;
  wrong_cost: string;
  findings: SliceFinding[] | null;
  /** Payers with wrong keys, all of them. */
  users: string[];
  organizations: string[];
}

const FINDINGS_PER_SLICE = 500;

/** First and last instant of the slice; of `infinity` too, which is a day of its own. */
export const SLICE_FROM = `(($2::date::timestamp + $3::integer * interval '1 minute')
      at time zone 'UTC')`;
export const SLICE_UNTIL = `(($2::date::timestamp + $3::integer * interval '1 minute'
      + ($4::integer * interval '1 minute' - interval '1 microsecond')) at time zone 'UTC')`;

export const sliceValues = ({ day, offset, minutes, kiloUserId }: Slice) => [
  day,
  offset,
  minutes,
  ...(kiloUserId === undefined ? [] : [kiloUserId]),
];

/** Whether row `row` is of the slice's user. */
export const isOfSliceUser = ({ kiloUserId }: Slice, row: string): string =>
  kiloUserId === undefined ? 'true' : `${row}.kilo_user_id = $5::text`;

/** In names of statements. */
export const sliceLabelOf = ({ kiloUserId }: Slice): string =>
  kiloUserId === undefined ? '' : '_one';

/**
 * Compares what is counted of the raw rows of a slice with its counter rows, in one snapshot and in both
 * directions. $1 is not used: places are those of the rebuild. Of rows with one id the columns are
 * compared, for an id costs more to make than they do.
 */
export function compareSliceStatement(rollup: DimensionRollup, slice: Slice): Statement {
  const inSlice = (row: string, instant: string) =>
    `${row}.${instant} between ${SLICE_FROM} and ${SLICE_UNTIL} and ${isOfSliceUser(slice, row)}`;
  const differs = METRIC_NAMES.map((name) => `r.${name}`).join(', ');
  const counted = METRIC_NAMES.map((name) => `c.${name}`).join(', ');
  const keyOf = (row: string) =>
    keyColumns(rollup)
      .map((name) => `${row}.${name}`)
      .join(', ');
  const dimensions = rollup.dimensions.map((name) => `'${name}', w.${name}`).join(', ');
  return {
    name: `microdollar_compare_${labelOf(rollup)}${sliceLabelOf(slice)}`,
    text: `/* microdollar.verifyDimensions */
with given as (
  select $1::text[] as nothing
), raw as materialized (
  select ${counterId(rollup, 's')} as id, s.*
  from (
    select ${keyAndSums(rollup)}
    from ${countedRows(rollup, inSlice('m', 'created_at'))}
    group by ${keyPlaces(rollup)}
  ) as s
), counter as materialized (
  select c.*
  from ${rollup.name} as c
  where ${inSlice('c', 'period_start')}
), wrong as materialized (
  select case when c.id is null then 'missing' when r.id is null then 'orphan' else 'wrong' end
      as kind,
    ${keyColumns(rollup)
      .map((name) => `case when r.id is null then c.${name} else r.${name} end as ${name}`)
      .join(',\n    ')},
    c.id as counter_id, coalesce(c.id <> ${counterId(rollup, 'c')}, false) as is_misfiled,
    coalesce(c.cost_microdollars, 0) as reported_cost, coalesce(r.cost_microdollars, 0) as true_cost,
    coalesce(c.requests, 0) - coalesce(r.requests, 0) as request_drift
  from raw as r
  full join counter as c on c.id = r.id
  where r.id is null
    or c.id is null
    or (${keyOf('r')}) is distinct from (${keyOf('c')})
    or (${differs}) is distinct from (${counted})
)
select (select coalesce(sum(requests), 0) from raw) as raw_rows,
  (select coalesce(sum(cost_microdollars), 0) from raw) as raw_cost,
  (select count(*) from raw) as keys,
  (select count(*) from wrong) as wrong,
  (select coalesce(sum(abs(reported_cost - true_cost)), 0) from wrong) as wrong_cost,
  (select json_agg(f) from (
    select w.kind, w.kilo_user_id, w.organization_id, w.period_start::text,
      json_build_object(${dimensions}) as dimensions, w.is_misfiled, w.counter_id,
      w.reported_cost::text, w.true_cost::text, w.request_drift::text
    from wrong as w
    order by w.period_start, w.kilo_user_id
    limit ${FINDINGS_PER_SLICE}
  ) as f) as findings,
  array(select distinct w.kilo_user_id from wrong as w where w.organization_id is null) as users,
  array(
    select distinct w.organization_id::text from wrong as w where w.organization_id is not null
  ) as organizations`,
    values: [null, ...sliceValues(slice)],
  };
}
