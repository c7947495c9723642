import { firstInstantIn } from '../../db/instant.sql.js';
import type { Form } from './groups.sql.js';
import type { ValidReportQuery } from './query.js';

/** Zones whose days are UTC days: nothing to put right. */
export const isUtc = ({ zone }: ValidReportQuery): boolean => /^(Etc\/)?(UTC|GMT|UCT)$/i.test(zone);

/** The first instant of a day of the zone $4, `midnight` being its local one. */
export const firstInstant = (midnight: string) => firstInstantIn('$4::text', midnight);

/**
 * $1 payer, $2 and $3 days of zone $4, $5 days before that are summed too; of member $6 and key $7
 * alone; by $8 (grain), $9 groups. Named here, for not every report uses all. In plain periods $2 and
 * $3 are the first instants of these days.
 */
const BOUNDS = `bounds as materialized (
  select ${firstInstant('$2::date::timestamp')} as first,
    ${firstInstant('($3::date + 1)::timestamp')} as last,
    ${firstInstant('($2::date - $5::integer)::timestamp')} as previous,
    $6::text as member, $7::uuid as api_key_id, $8::text as grain, $9::integer as top
)`;
/** Names what is not used, and is not read. */
const PLAIN_BOUNDS = `bounds as (
  select $4::text, $5::integer, $6::text, $7::uuid, $8::text, $9::integer
)`;

/** Instants of the range: of its first, of what comes after it, and where the days before begin. */
export interface Bounds {
  first: string;
  last: string;
  previous: string;
}

export function boundsOf(query: ValidReportQuery): Bounds {
  if (!isPlain(query)) {
    const [first, last, previous] = ['first', 'last', 'previous'].map(
      (name) => `(select b.${name} from bounds as b)`,
    );
    return { first, last, previous } as Bounds;
  }
  const first = '$2::timestamptz';
  const previous = query.compare ? `(${first} - make_interval(hours => 24 * $5::integer))` : first;
  return { first, last: "($3::timestamptz + interval '24 hours')", previous };
}

/** What $2 and $3 are. */
export const rangeOf = (query: ValidReportQuery): string[] =>
  [query.from, query.until].map((day) => (isPlain(query) ? `${day}T00:00:00Z` : day));

export const within = ({ previous, last }: Bounds, instant: string) => `${instant} >= ${previous}
      and ${instant} < ${last}`;

/** The period that an instant of the range is in, or stands beside. */
export interface Times {
  /** Its start: an instant by hour, else the midnight in UTC of its first day. */
  start: (instant: string) => string;
  /** Whether it is before the range. */
  isPrevious: (instant: string) => string;
}

export const timesOf = (query: ValidReportQuery): Times => ({
  start: isPlain(query) ? plainStart(query) : calendarStart,
  isPrevious: (instant) => (query.compare ? `${instant} < ${boundsOf(query).first}` : 'false'),
});

/** In UTC plain arithmetic. */
const LENGTHS = { hour: '1 hour', day: '24 hours', week: '168 hours' };
/** A Monday. */
const WEEK_ORIGIN = `timestamptz '2000-01-03 00:00:00+00'`;

/** Periods that begin at multiples of their length in UTC. */
export const isPlain = (query: ValidReportQuery) => isUtc(query) && query.grain !== 'month';

/** Each of the days before stands beside the day that comes as many days later. */
const plainStart = (query: ValidReportQuery) => (instant: string) => {
  const length = LENGTHS[query.grain as keyof typeof LENGTHS];
  const start = (of: string) => `date_bin('${length}', ${of}, ${WEEK_ORIGIN})`;
  if (!query.compare) return start(instant);
  const later = `(${instant} + make_interval(hours => 24 * $5::integer))`;
  return `case when ${instant} < ${boundsOf(query).first} then ${start(later)} else ${start(instant)} end`;
};

/** A search in the calendar of the range: the zone's rules for each row take ten times as long. */
const calendarStart = (instant: string) =>
  `(select c.starts from calendar as c)[width_bucket(${instant}, (select c.ats from calendar as c))]`;

/**
 * Common table expressions before the rows: `bounds`; for other than plain periods `calendar`, from which
 * instants on (`ats`, rising) which period is meant (`starts`); and by hour `zone_change`, the zone's
 * offsets. In the form `rows` the calendar is made for the client too.
 */
export function calendarOf(query: ValidReportQuery, form: Form): string[] {
  if (isPlain(query)) return [PLAIN_BOUNDS];
  return query.grain === 'hour'
    ? [BOUNDS, ZONE_DAYS, arrays(hours(query.compare), form), ZONE_CHANGES]
    : [BOUNDS, arrays(days(query), form)];
}

/** The calendar as a client needs it, to know the periods of entries: columns `ats` and `starts`. */
export const sentCalendar = (query: ValidReportQuery, form: Form): string =>
  form === 'rows' && !isPlain(query)
    ? '(select c.at_seconds from calendar as c) as ats, (select c.start_seconds from calendar as c) as starts'
    : 'null as ats, null as starts';

const secondsOf = (instant: string) =>
  `array_agg(date_part('epoch', ${instant})::bigint order by x.at)::text`;

const arrays = (rows: string, form: Form) => `calendar as materialized (
  select array_agg(x.at order by x.at) as ats, array_agg(x.start order by x.at) as starts${
    form === 'rows'
      ? `,\n    ${secondsOf('x.at')} as at_seconds, ${secondsOf('x.start')} as start_seconds`
      : ''
  }
  from (
    ${rows}
  ) as x
)`;

function days({ grain, compare }: ValidReportQuery): string {
  const periods = (before: string) => `select
      ${firstInstant(`(greatest(g.midnight, $2::date::timestamp)${before})`)} as at,
      g.midnight at time zone 'UTC' as start
    from generate_series(date_trunc('${grain}', $2::date::timestamp), $3::date::timestamp,
      interval '1 ${grain}') as g(midnight)`;
  const beside = `${periods(' - make_interval(days => $5::integer)')}\n    union all\n    `;
  return `${compare ? beside : ''}${periods('')}`;
}

/** `later`: the same day as many days later. */
const ZONE_DAYS = `zone_day as materialized (
  select x.*, x.next - x.at = interval '24 hours'
      and x.later_next - x.later_at = interval '24 hours' as is_even
  from (
    select ${[
      ['at', 'g.day'],
      ['next', 'g.day + 1'],
      ['later_at', 'g.day + l.days'],
      ['later_next', 'g.day + l.days + 1'],
    ]
      .map(([name, day]) => `${firstInstant(`(${day})::timestamp`)} as ${name}`)
      .join(',\n      ')}, l.days
    from (
      select $2::date + n as day from generate_series(-$5::integer, $3::date - $2::date) as n
    ) as g
    cross join lateral (
      select case when g.day < $2::date then $5::integer else 0 end as days
    ) as l
  ) as x
)`;

/** By quarters where the clocks change. */
function hours(isCompared: boolean): string {
  const later = `((h.at at time zone $4::text) + make_interval(days => d.days)) at time zone $4::text`;
  const start = isCompared
    ? `case when d.is_even then h.at + (d.later_at - d.at)
        when d.days = 0 then date_trunc('hour', h.at, $4::text)
        else date_trunc('hour', ${later}, $4::text) end`
    : `case when d.is_even then h.at else date_trunc('hour', h.at, $4::text) end`;
  return `select h.at, ${start} as start
    from zone_day as d
    cross join lateral generate_series(d.at, d.next - interval '1 microsecond',
      case when d.is_even then interval '1 hour' else interval '15 minutes' end) as h(at)`;
}

/** Seconds since 1970 and minutes: where the offset is another than before. */
const ZONE_CHANGES = `zone_change as materialized (
  select array_agg(date_part('epoch', x.at)::bigint order by x.at)::text as ats,
    array_agg(x.minutes order by x.at)::text as minutes
  from (
    select o.at, o.minutes, lag(o.minutes) over (order by o.at) as before
    from (
      select h.at, date_part('epoch',
        (h.at at time zone $4::text) - (h.at at time zone 'UTC'))::integer / 60 as minutes
      from zone_day as d
      cross join lateral generate_series(d.at, d.next - interval '1 microsecond',
        case when d.is_even then interval '24 hours' else interval '15 minutes' end) as h(at)
    ) as o
  ) as x
  where x.before is distinct from x.minutes
)`;
