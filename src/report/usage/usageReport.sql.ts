import { instantText } from '../../db/instant.sql.js';
import { nameOfText, plainArray, type Statement } from '../../db/statement.js';
import { boundsOf, calendarOf, isUtc, rangeOf, sentCalendar } from './calendar.sql.js';
import { type Form, seriesOf } from './groups.sql.js';
import type { ReportedCalendar } from './periods.js';
import { proofOf } from './proof.sql.js';
import { GROUPS, type ValidReportQuery } from './query.js';
import { isOfMember, payersOf, type ReportSource, rollupsOf, sourceRows } from './sources.sql.js';

/** One line of the chart, or a part of it: a group, what is beyond the largest, or all of the days before. */
export interface ReportedSeries {
  is_previous: boolean;
  is_other: boolean;
  group_1: string | null;
  group_2: string | null;
  /**
   * Of each period its start, seconds since 1970 (an instant by hour, else the day's midnight in UTC), and
   * its sums, all with commas between, in no order. In the form `rows` of counter rows, to be added up by
   * their periods (periods.ts).
   */
  list: string;
  /** Entries in the list. */
  counted: string;
}

/** By hour: from which instants on the zone is how many minutes ahead of UTC; null in UTC. */
export interface ReportedZone {
  changes: string | null;
  offsets: string | null;
}

/** One row a series; of none, one row without. */
export type ReportedRow = ReportedZone &
  ReportedCalendar &
  (ReportedSeries | { [Name in keyof ReportedSeries]: null }) & {
    /** The source answers for the range; else there are no series. */
    is_proven: boolean;
    as_of: string;
    is_replica: boolean;
  };

/**
 * One report, in one statement, so in one snapshot, with the proof that its source answers for the range.
 *
 *   calendar  the periods of the zone, where they are not plain ones
 *   parts     counter rows and tails, of whole days or of quarters of an hour, or raw usage
 *   series    groups of each part, or the largest of all; the days before by the period they stand beside
 */
function write(query: ValidReportQuery, source: ReportSource, form: Form): string {
  const { before, parts } = sourceRows(
    query,
    source,
    query.by.map((group) => GROUPS[group]),
    form,
  );
  const proof = proofOf(rollupsOf(query, source), payersOf(query), boundsOf(query));
  const hasChanges = query.grain === 'hour' && !isUtc(query);
  return `/* usage.report ${source} ${form} */
with ${[...calendarOf(query, form), ...before, ...proof, seriesOf(query, parts, form)].join(', ')}
select proof.is_proven, pg_is_in_recovery() as is_replica,
  ${instantText('coalesce(pg_last_xact_replay_timestamp(), now())')} as as_of,
  ${hasChanges ? '(select z.ats from zone_change as z)' : 'null'} as changes,
  ${hasChanges ? '(select z.minutes from zone_change as z)' : 'null'} as offsets,
  ${sentCalendar(query, form)},
  s.is_previous, s.is_other, s.group_1, s.group_2, s.list, s.counted
from proof
left join series as s on true`;
}

/**
 * Texts by what they depend on, more of them than a page and its users ask for. There are tens of
 * thousands, and each that has a name is planned and kept by every connection: others have none.
 */
const written = new Map<string, Pick<Statement, 'name' | 'text'>>();
const MAX_KEPT = 200;

export function usageReportStatement(
  query: ValidReportQuery,
  source: ReportSource,
  form: Form,
): Statement {
  const { by, metric, grain, compare, payer, organizationIds, apiKeyId } = query;
  const shape = [source, form, by.join(), metric, grain, compare, isUtc(query), payer.kind];
  const parts = [isOfMember(query), organizationIds.length > 0, apiKeyId !== null];
  const key = [...shape, ...parts].join(' ');
  let statement = written.get(key);
  if (statement === undefined) {
    const text = write(query, source, form);
    if (written.size >= MAX_KEPT) return { name: '', text, values: valuesOf(query) };
    statement = { name: nameOfText(text), text };
    written.set(key, statement);
  }
  return { ...statement, values: valuesOf(query) };
}

function valuesOf(query: ValidReportQuery): unknown[] {
  const { payer, organizationIds } = query;
  const isAlone = organizationIds.length === 0;
  return [
    payer.id,
    ...rangeOf(query),
    query.zone,
    query.compare ? query.days : 0,
    isAlone ? query.member : payer.id,
    query.apiKeyId,
    query.grain,
    query.top,
    ...(isAlone ? [] : [plainArray(organizationIds)]),
  ];
}
