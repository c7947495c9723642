import {
  DAILY_BY_DIMENSION,
  DAILY_BY_USER,
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
import {
  type Bounds,
  boundsOf,
  firstInstant,
  isUtc,
  type Times,
  timesOf,
  within,
} from './calendar.sql.js';
import type { Form } from './groups.sql.js';
import type { ValidReportQuery } from './query.js';

/**
 * Where the sums of a report come from: quarters of an hour; whole UTC days, by user alone or by dimension,
 * and quarters where these are not whole days of the zone; or raw usage.
 */
export type ReportSource = 'userDays' | 'days' | 'quarters' | 'raw';

const DAILY = { userDays: DAILY_BY_USER, days: DAILY_BY_DIMENSION };

/** What is asked, the one with the fewest rows first: a rollup that does not answer for the range says so. */
export function sourcesOf({ grain, by, apiKeyId }: ValidReportQuery): ReportSource[] {
  const isByUser = apiKeyId === null && by.every((group) => group === 'member');
  const days: ReportSource[] = isByUser ? ['userDays', 'days'] : ['days'];
  return [...(grain === 'hour' ? [] : days), 'quarters', 'raw'];
}

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

/** The rollups that are read. */
export function rollupsOf(query: ValidReportQuery, source: ReportSource): DimensionRollup[] {
  if (source === 'raw') return [];
  if (source === 'quarters') return [QUARTER_HOURLY];
  return isUtc(query) ? [DAILY[source]] : [DAILY[source], QUARTER_HOURLY];
}

/** Whether only a member's part is reported, $6; of all scopes of a user it is theirs. */
export const isOfMember = ({ member, organizationIds }: ValidReportQuery) =>
  member !== null || organizationIds.length > 0;

/** What is reported alone, as `and` conditions. */
function filtersOf(query: ValidReportQuery, { scope }: Payers): Shape['filters'] {
  const isPart = isOfMember(query) && scope === ORGANIZATION_SCOPE;
  return (row) =>
    `${isPart ? `\n      and ${row}.kilo_user_id = $6::text` : ''}${
      query.apiKeyId === null ? '' : `\n      and ${row}.api_key_id = $7::uuid`
    }`;
}

/** The days whose noon is in a period are counted there whole. */
export const NOON_HOURS = 12;
const noonOf = (dayStart: string) => `(${dayStart} + interval '${NOON_HOURS} hours')`;

/** Whether entries are of days that are counted where their noon is. */
export const isByNoon = (query: ValidReportQuery, source: ReportSource): boolean =>
  source in DAILY && !isUtc(query);

interface Shape extends Times {
  payers: Payers;
  bounds: Bounds;
  /** Columns that the report is grouped by. */
  columns: readonly string[];
  filters: (row: string) => string;
  /** Are there days before the range, which are not told by group. */
  isCompared: boolean;
  form: Form;
}

/**
 * Groups of row `row` and its period, which in the form `rows` the client knows by the entry. Compared as
 * bytes: names are sorted for an order, and a locale costs.
 */
const placeOf = (
  { columns, isCompared, form }: Shape,
  row: string,
  { start, isPrevious }: { start: string; isPrevious: string },
) => {
  const groups = columns.map((column, index) => {
    const name = `${row}.${column}::text collate "C"`;
    return `${isCompared ? `case when not ${isPrevious} then ${name} end` : name} as group_${index + 1}, `;
  });
  return `${isPrevious} as is_previous, ${form === 'rows' ? '' : `${start} as start, `}${groups.join('')}`;
};

/** The same in the period that an instant of the range is in, or stands beside. */
const placeAt = (shape: Shape, row: string, instant: string) =>
  placeOf(shape, row, { start: shape.start(instant), isPrevious: shape.isPrevious(instant) });

type Signed = (sum: string) => string;
const asTheyAre: Signed = (sum) => sum;
type Sums = readonly { name: string; of: string }[];

/** Sums as columns; in the form `rows` as an entry of a list, which tells its period by an instant. */
const told = ({ form }: Shape, instant: string, sums: Sums) =>
  form === 'rows'
    ? `concat_ws(',', floor(date_part('epoch', ${instant}))::bigint,
      ${sums.map(({ of }) => of).join(', ')}) as entry`
    : sums.map(({ name, of }) => `${of} as ${name}`).join(', ');

/** Of counter rows `c`, which have it. */
const counted = ({ form }: Shape) =>
  form === 'rows' ? 'c.entry' : METRIC_NAMES.map((name) => `c.${name}`).join(', ');

/** Of log rows `m` as the rollups count them. */
const logged = (shape: Shape, instant: string, signed = asTheyAre) =>
  told(
    shape,
    instant,
    METRICS.map(({ name, of }) => ({ name, of: signed(`(${of})::numeric`) })),
  );

/** Counter rows `c` of the payer. */
const counters = (
  rollup: DimensionRollup,
  { payers, filters }: Shape,
  condition: string,
) => `${rollup.name} as c
    where ${isOfPayer(payers.scope, 'c', payers.ids)}
      and ${condition}${filters('c')}`;

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

/**
 * Rows is_previous, groups by number, start and metrics (in the form `rows` instead of these `entry`), in
 * parts; common table expressions before them.
 */
export function sourceRows(
  query: ValidReportQuery,
  source: ReportSource,
  columns: readonly string[],
  form: Form,
): { before: string[]; parts: string[] } {
  const isWhole = isUtc(query);
  const times = timesOf(query);
  const bounds = boundsOf(query);
  const parts = payersOf(query).flatMap((payers) => {
    const filters = filtersOf(query, payers);
    const isCompared = query.compare;
    const shape = { payers, bounds, filters, columns, isCompared, form, ...times };
    if (source === 'quarters') return quarters(shape);
    if (source === 'raw') return raw(shape);
    // A day of UTC is whole in its period; another's noon says which it is.
    return isWhole
      ? daysOf(DAILY[source], shape, (dayStart) => dayStart)
      : [...daysOf(DAILY[source], shape, noonOf), ...edges(shape)];
  });
  const days = isWhole ? [] : [pieces(bounds, times)];
  const before = {
    raw: [frozenDays(QUARTER_HOURLY)],
    userDays: days,
    days,
    quarters: [],
  }[source];
  return { before, parts };
}

/** Counter rows and the tail behind them, in one snapshot. */
function quarters(shape: Shape): string[] {
  const quarter = periodStartOf(QUARTER_HOURLY, 'm.created_at');
  return [
    `select ${placeAt(shape, 'c', 'c.period_start')}${counted(shape)}
    from ${counters(QUARTER_HOURLY, shape, within(shape.bounds, 'c.period_start'))}`,
    `select ${placeAt(shape, 'm', quarter)}${logged(shape, quarter)}
    from ${tail(QUARTER_HOURLY, shape)}
    where ${within(shape.bounds, 'm.created_at')}${shape.filters('m')}`,
  ];
}

/** Raw usage, and counter rows only of what is archived. */
function raw(shape: Shape): string[] {
  const { scope, ids } = shape.payers;
  const logRows = (signed: Signed, condition: string) =>
    `select ${placeAt(shape, 'm', 'm.created_at')}${logged(shape, 'm.created_at', signed)}
    from microdollar_usage as m
    where ${isOfPayer(scope, 'm', ids)}
      and ${within(shape.bounds, 'm.created_at')}${condition}${shape.filters('m')}`;
  const archived = `${within(shape.bounds, 'c.period_start')}
      and c.period_start < ${ARCHIVE_HORIZON}
      and ${isFrozen('c.period_start')}`;
  const both = `
      and m.created_at < ${ARCHIVE_HORIZON}
      and ${isInFrozen(QUARTER_HOURLY, 'm')}`;
  return [
    logRows(asTheyAre, ''),
    logRows((sum) => `-${sum}`, both),
    `select ${placeAt(shape, 'c', 'c.period_start')}${counted(shape)}
    from ${counters(QUARTER_HOURLY, shape, archived)}`,
  ];
}

/** UTC days, each whole in the period that an instant of it is in. */
function daysOf(
  rollup: DimensionRollup,
  shape: Shape,
  inDay: (dayStart: string) => string,
): string[] {
  const place = inDay('c.period_start');
  const day = periodStartOf(rollup, 'm.created_at');
  const tailPlace = inDay(day);
  // On the column itself, so that the index is used.
  const before = inDay === noonOf ? ` - interval '${NOON_HOURS} hours'` : '';
  const { previous, last } = shape.bounds;
  const isInRange = `c.period_start >= ${previous}${before}
      and c.period_start < ${last}${before}`;
  return [
    `select ${placeAt(shape, 'c', place)}${counted(shape)}
    from ${counters(rollup, shape, isInRange)}`,
    `select ${placeAt(shape, 'm', tailPlace)}${logged(shape, day)}
    from ${tail(rollup, shape)}
    where ${within(shape.bounds, tailPlace)}${shape.filters('m')}`,
  ];
}

/**
 * Parts of local days that are in another period than the noon of their UTC day: from `at` to before
 * `until`, in the period `start`, while the day is counted in the period `day_start`.
 */
function pieces(bounds: Bounds, { start, isPrevious }: Times): string {
  // Null where the instant lies outside the range.
  const periodAt = (
    instant: string,
  ) => `case when ${within(bounds, instant)} then ${start(instant)} end as start,
      case when ${within(bounds, instant)} then ${isPrevious(instant)} end as is_previous`;
  return `piece as materialized (
  select greatest(l.at, d.at) as at, least(l.next, d.at + interval '24 hours') as until,
    l.start, l.is_previous, d.at as day_at, n.start as day_start, n.is_previous as is_day_previous
  from (
    select x.at, x.next, ${periodAt('x.at')}
    from (
      select ${firstInstant('($2::date - $5::integer + g)::timestamp')} as at,
        ${firstInstant('($2::date - $5::integer + g + 1)::timestamp')} as next
      from generate_series(-1, $3::date - $2::date + $5::integer + 1) as g
    ) as x
  ) as l
  cross join lateral generate_series(date_bin('24 hours', l.at, ${PERIOD_ORIGIN}),
    l.next - interval '1 microsecond', interval '24 hours') as d(at)
  cross join lateral (select ${periodAt(noonOf('d.at'))}) as n
  where (l.start, l.is_previous) is distinct from (n.start, n.is_previous)
)`;
}

/**
 * What the days have in the wrong period: added where it belongs, and taken off where it was. As entries
 * these are days too: of which the noon is where the piece begins, and its own.
 */
function edges(shape: Shape): string[] {
  const columns = shape.columns.map((column) => `c.${column}`);
  const sums = METRIC_NAMES.map((name) => `sum(c.${name}) as ${name}`);
  const inPiece = (row: string, instant: string) => `${row}.${instant} >= p.at
      and ${row}.${instant} < p.until`;
  const signed: Signed = (sum) => `case when v.is_added then ${sum} else -${sum} end`;
  const sumsOfPiece = METRIC_NAMES.map((name) => ({ name, of: signed(`c.${name}`) }));
  const place = (row: string) =>
    placeOf(shape, row, { start: 'v.start', isPrevious: 'v.is_previous' });
  const before = `p.at - interval '${NOON_HOURS} hours'`;
  const twice = `cross join lateral (values (p.start, p.is_previous, ${before}, true),
      (p.day_start, p.is_day_previous, p.day_at, false)) as v(start, is_previous, day_at, is_added)
    where v.start is not null`;
  return [
    `select ${place('c')}${told(shape, 'v.day_at', sumsOfPiece)}
    from piece as p
    cross join lateral (
      select ${[...columns, ...sums].join(', ')}
      from ${counters(QUARTER_HOURLY, shape, inPiece('c', 'period_start'))}
      ${columns.length === 0 ? '' : `group by ${columns.join(', ')}`}
      having count(*) > 0
    ) as c
    ${twice}`,
    `select ${place('m')}${logged(shape, 'v.day_at', signed)}
    from ${tail(QUARTER_HOURLY, shape)}
    join piece as p
      on ${inPiece('m', 'created_at')}
    ${twice}${shape.filters('m')}`,
  ];
}
