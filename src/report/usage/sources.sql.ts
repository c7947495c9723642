import {
  DAILY_BY_DIMENSION,
  type DimensionRollup,
  isOfPayer,
  METRIC_NAMES,
  METRICS,
  PERIOD_ORIGIN,
  payersWithMarks,
  periodStartOf,
  QUARTER_HOURLY,
  sourceColumns,
  tailRows,
} from '../../schema/dimensionRollups.js';
import { ARCHIVE_HORIZON, frozenDays, isFrozen, isInFrozen } from '../../schema/frozen.js';
import { ORGANIZATION_SCOPE, type PayerScope, USER_SCOPE } from '../../schema/unsettled.js';
import type { ValidReportQuery } from './query.js';

/**
 * Where the sums of a report come from: quarters of an hour; whole UTC days, and quarters where these are
 * not whole days of the zone; or raw usage.
 */
export type ReportSource = 'days' | 'quarters' | 'raw';

/**
 * What sums are made of. Numerics hold any; where sums are as many as rows, integers of 32 bits take half
 * the time (their sums have 64), and a counter row that has more fails the statement.
 */
export type SumType = 'integer' | 'numeric';

/** Payers of one scope: what `=` compares their ids with. */
export interface Payers {
  scope: PayerScope;
  ids: string;
}

/** Whose usage is reported; of all scopes of a user the organizations too, $10. */
export const payersOf = ({ payer, organizationIds }: ValidReportQuery): Payers[] => [
  payer.kind === 'user'
    ? { scope: USER_SCOPE, ids: '$1::text' }
    : { scope: ORGANIZATION_SCOPE, ids: '$1::uuid' },
  ...(organizationIds.length === 0
    ? []
    : [{ scope: ORGANIZATION_SCOPE, ids: 'any ($10::uuid[])' }]),
];

/** Zones whose days are UTC days: nothing to put right. */
export const isUtc = ({ zone }: ValidReportQuery): boolean => /^(Etc\/)?(UTC|GMT|UCT)$/i.test(zone);

/** The rollups that are read. */
export function rollupsOf(query: ValidReportQuery, source: ReportSource): DimensionRollup[] {
  if (source === 'raw') return [];
  if (source === 'quarters') return [QUARTER_HOURLY];
  return isUtc(query) ? [DAILY_BY_DIMENSION] : [DAILY_BY_DIMENSION, QUARTER_HOURLY];
}

/**
 * $1 payer, $2 and $3 days of zone $4, $5 days before that are summed too; by $8 (grain), $9 groups.
 * Named here, for not every report uses all.
 */
export const BOUNDS = `bounds as materialized (
  select ($2::date::timestamp at time zone $4::text) as first,
    (($3::date + 1)::timestamp at time zone $4::text) as last,
    (($2::date - $5::integer)::timestamp at time zone $4::text) as previous,
    $8::text as grain, $9::integer as top
)`;

const FIRST = '(select b.first from bounds as b)';
const LAST = '(select b.last from bounds as b)';
const PREVIOUS = '(select b.previous from bounds as b)';
const within = (instant: string) => `${instant} >= ${PREVIOUS}
      and ${instant} < ${LAST}`;

const filters = (row: string) => `($6::text is null or ${row}.kilo_user_id = $6::text)
      and ($7::uuid is null or ${row}.api_key_id = $7::uuid)`;

/** The period that an instant of the range is in, or stands beside. */
const periodOf = ({ start, isPrevious }: Shape, instant: string) =>
  `${isPrevious(instant)} as is_previous, ${start(instant)} as start`;

/** In UTC plain arithmetic. */
const UTC_LENGTHS = { hour: '1 hour', day: '24 hours', week: '168 hours' };
/** A Monday. */
const WEEK_ORIGIN = `timestamptz '2000-01-03 00:00:00+00'`;

/** By the zone's calendar, a look-up a row. */
const calendarStart = (query: ValidReportQuery) => (instant: string) =>
  query.grain === 'month' || !isUtc(query)
    ? `date_trunc($8::text, ${instant}, $4::text)`
    : `date_bin('${UTC_LENGTHS[query.grain]}', ${instant}, ${WEEK_ORIGIN})`;

/**
 * Where the days before count too, each stands beside the day that comes as many days later, at the
 * same local time.
 */
const startOf = (query: ValidReportQuery) => (instant: string) => {
  const start = calendarStart(query);
  if (!query.compare) return start(instant);
  const later = isUtc(query)
    ? `(${instant} + make_interval(hours => 24 * $5::integer))`
    : `(((${instant} at time zone $4::text) + make_interval(days => $5::integer))
        at time zone $4::text)`;
  return `case when ${instant} < ${FIRST} then ${start(later)} else ${start(instant)} end`;
};

const isPreviousOf = (query: ValidReportQuery) => (instant: string) =>
  query.compare ? `${instant} < ${FIRST}` : 'false';

/** The days whose noon is in a period are counted there whole. */
const noonOf = (dayStart: string) => `(${dayStart} + interval '12 hours')`;

interface Shape {
  payers: Payers;
  /** Columns that the report is grouped by. */
  columns: readonly string[];
  /** Start of the period of an instant, and whether it is before the range. */
  start: (instant: string) => string;
  isPrevious: (instant: string) => string;
  sumType: SumType;
}

/** Each with a comma after it. Compared as bytes: names are sorted for an order, and a locale costs. */
const groupsOf = ({ columns }: Shape, row: string) =>
  columns
    .map((column, index) => `${row}.${column}::text collate "C" as group_${index + 1}, `)
    .join('');

const sumsOf = ({ sumType }: Shape, row: string, sign = '') =>
  METRIC_NAMES.map((name) => `${sign}${row}.${name}::${sumType} as ${name}`).join(', ');

/** Log rows `m` as the rollups count them. */
const logged = ({ sumType }: Shape, sign = '') =>
  METRICS.map(({ name, of }) => `${sign}(${of})::${sumType} as ${name}`).join(', ');

/** Counter rows `c` of the payer. */
const counters = (
  rollup: DimensionRollup,
  { payers }: Shape,
  condition: string,
) => `${rollup.name} as c
    where ${isOfPayer(payers.scope, 'c', payers.ids)}
      and ${condition}
      and ${filters('c')}`;

/**
 * The payer's tail `m` behind the mark of a rollup. It is fetched before its time is looked at: else
 * statistics could reach it by the index on time, through everybody's usage.
 */
const tail = (rollup: DimensionRollup, { payers: { scope, ids } }: Shape) => `(
      ${payersWithMarks(rollup, scope)}
      where u.id = ${ids}
    ) as u
    cross join lateral (
      select m.*
      from (
        ${tailRows(scope, sourceColumns(rollup), 'u')}
      ) as m
      offset 0
    ) as m`;

/** Rows is_previous, start, groups by number, metrics; more common table expressions before them. */
export function sourceRows(
  query: ValidReportQuery,
  source: ReportSource,
  columns: readonly string[],
  sumType: SumType,
): { before: string[]; rows: string } {
  const isWhole = isUtc(query);
  const times = { start: startOf(query), isPrevious: isPreviousOf(query) };
  const rows = payersOf(query).map((payers) => {
    const shape = { payers, columns, sumType, ...times };
    if (source === 'quarters') return quarters(shape);
    if (source === 'raw') return raw(shape);
    // A day of UTC is whole in its period; another's noon says which it is.
    return isWhole
      ? days(shape, (dayStart) => dayStart)
      : `${days(shape, noonOf)}\n    union all\n    ${edges(shape)}`;
  });
  const before = {
    raw: [frozenDays(QUARTER_HOURLY)],
    days: isWhole ? [] : [pieces(times)],
    quarters: [],
  }[source];
  return { before, rows: rows.join('\n    union all\n    ') };
}

/** Counter rows and the tail behind them, in one snapshot. */
function quarters(shape: Shape): string {
  const quarter = periodStartOf(QUARTER_HOURLY, 'm.created_at');
  return `select ${periodOf(shape, 'c.period_start')}, ${groupsOf(shape, 'c')}${sumsOf(shape, 'c')}
    from ${counters(QUARTER_HOURLY, shape, within('c.period_start'))}
    union all
    select ${periodOf(shape, quarter)}, ${groupsOf(shape, 'm')}${logged(shape)}
    from ${tail(QUARTER_HOURLY, shape)}
    where ${within('m.created_at')}
      and ${filters('m')}`;
}

/** Raw usage, and counter rows only of what is archived. */
function raw(shape: Shape): string {
  const { scope, ids } = shape.payers;
  const logRows = (sign: string, condition: string) =>
    `select ${periodOf(shape, 'm.created_at')}, ${groupsOf(shape, 'm')}${logged(shape, sign)}
    from microdollar_usage as m
    where ${isOfPayer(scope, 'm', ids)}
      and ${within('m.created_at')}${condition}
      and ${filters('m')}`;
  const archived = `${within('c.period_start')}
      and c.period_start < ${ARCHIVE_HORIZON}
      and ${isFrozen('c.period_start')}`;
  const both = `
      and m.created_at < ${ARCHIVE_HORIZON}
      and ${isInFrozen(QUARTER_HOURLY, 'm')}`;
  return `${logRows('', '')}
    union all
    ${logRows('-', both)}
    union all
    select ${periodOf(shape, 'c.period_start')}, ${groupsOf(shape, 'c')}${sumsOf(shape, 'c')}
    from ${counters(QUARTER_HOURLY, shape, archived)}`;
}

/** UTC days, each whole in the period that an instant of it is in. */
function days(shape: Shape, inDay: (dayStart: string) => string): string {
  const place = inDay('c.period_start');
  const tailPlace = inDay(periodStartOf(DAILY_BY_DIMENSION, 'm.created_at'));
  // On the column itself, so that the index is used.
  const before = inDay === noonOf ? ` - interval '12 hours'` : '';
  const isInRange = `c.period_start >= ${PREVIOUS}${before}
      and c.period_start < ${LAST}${before}`;
  return `select ${periodOf(shape, place)}, ${groupsOf(shape, 'c')}${sumsOf(shape, 'c')}
    from ${counters(DAILY_BY_DIMENSION, shape, isInRange)}
    union all
    select ${periodOf(shape, tailPlace)}, ${groupsOf(shape, 'm')}${logged(shape)}
    from ${tail(DAILY_BY_DIMENSION, shape)}
    where ${within(tailPlace)}
      and ${filters('m')}`;
}

type Times = Pick<Shape, 'start' | 'isPrevious'>;

/**
 * Parts of local days that are in another period than the noon of their UTC day: from `at` to before
 * `until`, in the period `start`, while the day is counted in the period `day_start`.
 */
function pieces({ start, isPrevious }: Times): string {
  // Null where the instant lies outside the range.
  const placeOf = (
    instant: string,
  ) => `case when ${within(instant)} then ${start(instant)} end as start,
      case when ${within(instant)} then ${isPrevious(instant)} end as is_previous`;
  return `piece as materialized (
  select greatest(l.at, d.at) as at, least(l.next, d.at + interval '24 hours') as until,
    l.start, l.is_previous, n.start as day_start, n.is_previous as is_day_previous
  from (
    select x.at, x.next, ${placeOf('x.at')}
    from (
      select (($2::date - $5::integer + g)::timestamp at time zone $4::text) as at,
        (($2::date - $5::integer + g + 1)::timestamp at time zone $4::text) as next
      from generate_series(-1, $3::date - $2::date + $5::integer + 1) as g
    ) as x
  ) as l
  cross join lateral generate_series(date_bin('24 hours', l.at, ${PERIOD_ORIGIN}),
    l.next - interval '1 microsecond', interval '24 hours') as d(at)
  cross join lateral (select ${placeOf(noonOf('d.at'))}) as n
  where (l.start, l.is_previous) is distinct from (n.start, n.is_previous)
)`;
}

/** What the days have in the wrong period: added where it belongs, and taken off where it was. */
function edges(shape: Shape): string {
  const inPiece = (row: string, instant: string) => `${row}.${instant} >= p.at
      and ${row}.${instant} < p.until`;
  const signed = (row: string, metrics: (sign?: string) => string, from: string) =>
    [
      { start: 'p.start', isPrevious: 'p.is_previous', sign: '' },
      { start: 'p.day_start', isPrevious: 'p.is_day_previous', sign: '-' },
    ].map(
      ({ start, isPrevious, sign }) => `select ${isPrevious}, ${start}, ${groupsOf(shape, row)}
      ${metrics(sign)}
    ${from}
      and ${start} is not null`,
    );
  return [
    ...signed(
      'c',
      (sign) => sumsOf(shape, 'c', sign),
      `from piece as p
    cross join lateral (
      select c.*
      from ${counters(QUARTER_HOURLY, shape, inPiece('c', 'period_start'))}
      offset 0
    ) as c
    where true`,
    ),
    ...signed(
      'm',
      (sign) => logged(shape, sign),
      `from ${tail(QUARTER_HOURLY, shape)}
    join piece as p
      on ${inPiece('m', 'created_at')}
    where ${filters('m')}`,
    ),
  ].join('\n    union all\n    ');
}
