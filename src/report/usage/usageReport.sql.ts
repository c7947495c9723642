import { createHash } from 'node:crypto';
import { instantText } from '../../db/instant.sql.js';
import type { Statement } from '../../db/statement.js';
import {
  isOfPayer,
  METRIC_NAMES,
  METRICS,
  payersWithMarks,
  periodStartOf,
  QUARTER_HOURLY,
  sourceColumns,
  tailRows,
} from '../../schema/dimensionRollups.js';
import { ORGANIZATION_SCOPE, type PayerScope, USER_SCOPE } from '../../schema/unsettled.js';
import { GROUPS, type ValidReportQuery } from './query.js';

const ROLLUP = QUARTER_HOURLY;
/** Today and yesterday count as proven while their last verification is younger. */
const LEASE_MINUTES = 10;

/** Numeric columns come as text. */
export type ReportedRow = Record<(typeof METRIC_NAMES)[number], string> & {
  kind: 'row' | 'total' | 'previous';
  /** Local time of the zone at the period's first instant, and the zone's offset then. */
  local_start: string | null;
  offset_minutes: number | null;
  group_1: string | null;
  group_2: string | null;
  is_other: boolean;
  as_of: string;
  is_replica: boolean;
};

/** Payers of one scope: what `=` compares their ids with. */
interface Payers {
  scope: PayerScope;
  ids: string;
}

const payersOf = ({ payer, organizationIds }: ValidReportQuery): Payers[] => [
  payer.kind === 'user'
    ? { scope: USER_SCOPE, ids: '$1::text' }
    : { scope: ORGANIZATION_SCOPE, ids: '$1::uuid' },
  ...(organizationIds.length === 0
    ? []
    : [{ scope: ORGANIZATION_SCOPE, ids: 'any ($10::uuid[])' }]),
];

/** $1 payer, $2 and $3 days of zone $4, $5 days before that are summed too. */
const BOUNDS = `bounds as materialized (
  select ($2::date::timestamp at time zone $4::text) as first,
    (($3::date + 1)::timestamp at time zone $4::text) as last,
    (($2::date - $5::integer)::timestamp at time zone $4::text) as previous
)`;

const within = (instant: string) => `${instant} >= (select b.previous from bounds as b)
      and ${instant} < (select b.last from bounds as b)`;

const filters = (row: string) => `($6::text is null or ${row}.kilo_user_id = $6::text)
      and ($7::uuid is null or ${row}.api_key_id = $7::uuid)`;

/** Rows of the log `m` as rows of the rollup. */
const asCounted = (groups: string) => `${periodStartOf(ROLLUP, 'm.created_at')} as period_start,
    ${groups}${METRICS.map(({ name, of }) => `${of} as ${name}`).join(', ')}`;

const LOG = ({ scope, ids }: Payers, groups: string, condition: string) => `select ${asCounted(
  groups,
)}
    from microdollar_usage as m
    where ${isOfPayer(scope, 'm', ids)}
      and ${condition}
      and ${filters('m')}`;

/**
 * Counter rows of the payer and the tail behind them, in one snapshot; or raw usage, and counter rows
 * only of what is archived. The tail is fetched before its time is looked at: else statistics could
 * reach it by the index on time, through everybody's usage.
 */
function sourceRows(payers: Payers, mode: 'rollup' | 'raw', columns: readonly string[]): string {
  const { scope, ids } = payers;
  const groups = (row: string) => columns.map((name) => `${row}.${name}, `).join('');
  const counters = (condition: string) => `select c.period_start, ${groups('c')}
    ${METRIC_NAMES.map((name) => `c.${name}`).join(', ')}
    from ${ROLLUP.name} as c
    where ${isOfPayer(scope, 'c', ids)}
      and ${condition}
      and ${filters('c')}`;
  if (mode === 'raw') {
    const horizon = `(select coalesce(s.archive_horizon, '-infinity') from ledger_settings as s)`;
    return `${LOG(
      payers,
      groups('m'),
      `${within('m.created_at')}
      and m.created_at >= ${horizon}`,
    )}
    union all
    ${counters(`${within('c.period_start')}
      and c.period_start < ${horizon}`)}`;
  }
  return `${counters(within('c.period_start'))}
    union all
    select ${asCounted(groups('m'))}
    from (
      ${payersWithMarks(ROLLUP, scope)}
      where u.id = ${ids}
    ) as u
    cross join lateral (
      select m.*
      from (
        ${tailRows(scope, sourceColumns(ROLLUP), 'u')}
      ) as m
      offset 0
    ) as m
    where ${within('m.created_at')}
      and ${filters('m')}`;
}

const SUMS = METRIC_NAMES.map((name) => `coalesce(sum(x.${name}), 0) as ${name}`).join(', ');
const ORDERS = {
  cost: 'sum(x.cost_microdollars)',
  requests: 'sum(x.requests)',
  tokens: 'sum(x.input_tokens + x.output_tokens)',
};

/** Whether two rows are of the same groups, of which any may be null: by equalities, which hash. */
const sameGroups = (a: string, b: string) =>
  [1, 2]
    .map(
      (n) => `coalesce(${a}.group_${n}, '') = coalesce(${b}.group_${n}, '')
    and (${a}.group_${n} is null) = (${b}.group_${n} is null)`,
    )
    .join('\n    and ');

/**
 * One report, in one snapshot: a row a period and group, the groups beyond the largest as one `other`;
 * the total; the total of the days before.
 *
 *   source    counted by quarter of an hour
 *   bucket    summed by period of the zone and group
 *   ranked    groups, the largest first
 */
export function usageReportStatement(query: ValidReportQuery, mode: 'rollup' | 'raw'): Statement {
  const columns = query.by.map((group) => GROUPS[group]);
  const group = (n: number) => {
    const column = columns[n - 1];
    return column === undefined ? 'null::text' : `s.${column}::text`;
  };
  const text = `/* usage.report */
with ${BOUNDS}, source as (
  ${payersOf(query)
    .map((payers) => sourceRows(payers, mode, columns))
    .join('\n    union all\n  ')}
), bucket as materialized (
  select s.period_start < (select b.first from bounds as b) as is_previous,
    date_trunc($8::text, s.period_start, $4::text) as start,
    ${group(1)} as group_1, ${group(2)} as group_2,
    ${METRIC_NAMES.map((name) => `sum(s.${name}) as ${name}`).join(', ')}
  from source as s
  group by 1, 2, 3, 4
), ranked as materialized (
  select x.group_1, x.group_2,
    row_number() over (order by ${ORDERS[query.metric]} desc, x.group_1, x.group_2) as place
  from bucket as x
  where not x.is_previous
  group by x.group_1, x.group_2
), period as (
  select x.start, r.place > $9::integer as is_other,
    case when r.place <= $9::integer then x.group_1 end as group_1,
    case when r.place <= $9::integer then x.group_2 end as group_2, ${SUMS}
  from bucket as x
  join ranked as r
    on ${sameGroups('x', 'r')}
  where not x.is_previous
  group by 1, 2, 3, 4
)
select r.*, pg_is_in_recovery() as is_replica,
  ${instantText('coalesce(pg_last_xact_replay_timestamp(), now())')} as as_of
from (
  select 'row' as kind, to_char(p.start at time zone $4::text, 'YYYY-MM-DD"T"HH24:MI:SS') as local_start,
    (extract(epoch from (p.start at time zone $4::text) - (p.start at time zone 'UTC')) / 60)::integer
      as offset_minutes,
    p.group_1, p.group_2, p.is_other, ${METRIC_NAMES.map((name) => `p.${name}`).join(', ')}, p.start
  from period as p
  union all
  select 'total', null, null, null, null, false, ${SUMS}, null
  from bucket as x
  where not x.is_previous
  union all
  select 'previous', null, null, null, null, false, ${SUMS}, null
  from bucket as x
  where x.is_previous
) as r
order by r.kind, r.start, r.is_other, r.group_1 nulls last, r.group_2 nulls last`;
  return {
    name: `microdollar_report_${createHash('sha256').update(text).digest('hex').slice(0, 32)}`,
    text,
    values: [
      query.payer.id,
      query.from,
      query.until,
      query.zone,
      query.compare ? query.days : 0,
      query.organizationIds.length === 0 ? query.member : query.payer.id,
      query.apiKeyId,
      query.grain,
      query.top,
      ...(query.organizationIds.length === 0 ? [] : [query.organizationIds]),
    ],
  };
}

/**
 * Whether counter rows and tail are proven for every UTC day of the range that has anything of the payer
 * (I10). A day is: frozen by the archive; verified after its end, today and yesterday by a lease; or,
 * where all usage is the ledger's own, folded from the log from its beginning. None with known drift.
 */
export function isProvenStatement(query: ValidReportQuery): Statement {
  // Each payer and table by an index of its own: together they would be looked for by time alone.
  const anything = payersOf(query).flatMap(({ scope, ids }) => {
    const own = (row: string, instant: string) =>
      `${isOfPayer(scope, row, ids.replace('$10', '$6'))}
        and ${row}.${instant} >= d.day::timestamp at time zone 'UTC'
        and ${row}.${instant} < (d.day + 1)::timestamp at time zone 'UTC'`;
    return [
      `exists (select from microdollar_usage as m where ${own('m', 'created_at')})`,
      `exists (select from ${ROLLUP.name} as c where ${own('c', 'period_start')})`,
    ];
  });
  return {
    name: `microdollar_report_proof_${query.payer.kind}${query.organizationIds.length > 0 ? '_all' : ''}`,
    text: `/* usage.report proof */
with ${BOUNDS}, day as (
  select d::date as day, (now() at time zone 'UTC')::date as today, c.state, c.verified_at,
    coalesce(c.drift_keys, 0) as drift_keys
  from bounds as b
  cross join generate_series((b.previous at time zone 'UTC')::date::timestamp,
    (b.last - interval '1 microsecond') at time zone 'UTC', interval '1 day') as d
  left join rollup_coverage as c
    on c.rollup = '${ROLLUP.name}'
    and c.period = d::date
)
select not exists (
  select
  from day as d
  cross join ledger_settings as s
  left join rollup_starts as r on r.rollup = '${ROLLUP.name}'
  where (d.drift_keys = 0 and (
      d.state = 'archived'
      or (s.installed_empty and d.day::timestamp at time zone 'UTC' > r.started_at)
      or (d.state = 'verified' and d.day < d.today - 1
        and d.verified_at >= (d.day + 1)::timestamp at time zone 'UTC')
      or (d.state = 'verified' and d.day >= d.today - 1
        and d.verified_at >= now() - interval '${LEASE_MINUTES} minutes'))
    ) is not true
    and (${anything.join('\n      or ')})
) as is_proven`,
    values: [
      query.payer.id,
      query.from,
      query.until,
      query.zone,
      query.compare ? query.days : 0,
      ...(query.organizationIds.length === 0 ? [] : [query.organizationIds]),
    ],
  };
}
