import { POSITION } from '../counter/position.sql.js';
import type { Statement } from '../db/statement.js';
import { plainArray } from '../db/statement.js';
import { boundWait, IS_BOUNDED } from './appendUsage.sql.js';
import type { ValidEvent } from './event.js';
import { microsOfOurTime } from './instants.sql.js';
import { type MetadataRow, type MetadataShape, metadataShape } from './metadataRow.js';
import { GIVEN_COLUMN_LIST, USAGE_PARAMETERS, USAGE_ROWS, usageArrays } from './usageColumns.js';

/** One row for the whole batch. */
export interface AppendedBatchRow {
  inserted: number;
  /** Ids that were inserted, where some were not; else null. */
  ids: string[] | null;
  /** `created_at` of events that gave none. */
  now_micros: string;
}

const COUNT = `$${USAGE_PARAMETERS + 1}::integer`;
const HAS_METADATA = `$${USAGE_PARAMETERS + 2}::boolean[]`;

/**
 * Payers and users that this process knows are not looked up. Who pays must not be elsewhere (src/shards);
 * `exists`, for a semi-join by the ids alone.
 */
const ARE_KNOWN = `exists (
      select
      from kilocode_users as u
      where u.id = any ($2::text[])
        and u.id = e.kilo_user_id
        and (e.organization_id is not null or not u.is_elsewhere))
    and (e.organization_id is null
      or e.organization_id in (
        select o.id from organizations as o where o.id = any ($3::uuid[]) and not o.is_elsewhere))`;

const NOT_ARCHIVED = `(e.created_at is null or e.created_at >= coalesce(
      (select s.archive_horizon from ledger_settings as s where s.id = 1), '-infinity'))`;

/** `is true`: by a table of the ids alone. A join would make one of the rows. */
const metadataWritten = (shape: MetadataShape): string => `, metadata_written as (
  insert into microdollar_usage_metadata (id, kilo_user_id, created_at${shape.columnList})
  select m.id, m.kilo_user_id, coalesce(m.created_at, now())${shape.selected}
  from (
    select unnest($1::uuid[]) as id, unnest($2::text[]) as kilo_user_id,
      unnest($${USAGE_PARAMETERS}::timestamptz[]) as created_at,
      unnest(${HAS_METADATA}) as has_metadata${shape.arrayParameters(USAGE_PARAMETERS + 3)}
  ) as m
  where m.has_metadata
    and m.id in (select w.id from usage_written as w) is true
    and m.kilo_user_id not in (
      select u.id
      from kilocode_users as u
      where u.id = any ($2::text[])
        and u.deleted_at is not null)
)`;

const SELECTED = GIVEN_COLUMN_LIST.split(', ')
  .map((name) => `e.${name}`)
  .join(', ');

/** A join may change the order of the arrays. */
const IN_ORDER = '\n  order by e.id';

/**
 * Appends N events in one statement: usage rows, in the order of their ids (R11: two batches that
 * share ids would else deadlock), which is that of the arrays, and metadata. One row answers for all,
 * with ids only where some were not new.
 */
function batchText(
  isKnown: boolean,
  hasTime: boolean,
  shape: MetadataShape | null,
  boundsWaitMs: number | null,
): string {
  const conditions = [
    ...(boundsWaitMs === null ? [] : [IS_BOUNDED]),
    ...(isKnown ? [] : [ARE_KNOWN]),
    ...(hasTime ? [NOT_ARCHIVED] : []),
  ];
  const bounded = boundsWaitMs === null ? '' : `${boundWait(boundsWaitMs)}, `;
  const filter = conditions.length > 0 ? `\n  where ${conditions.join('\n    and ')}` : '';
  return `/* microdollar.appendBatch */
with ${bounded}here as materialized (
  select ${POSITION} as position
), usage_written as (
  insert into microdollar_usage (${GIVEN_COLUMN_LIST}, created_at, position)
  select ${SELECTED}, ${hasTime ? 'coalesce(e.created_at, now())' : 'now()'},
    (select h.position from here as h) * case when e.cost <> 0 then 1 else -1 end
  from ${USAGE_ROWS}${filter}${isKnown ? '' : IN_ORDER}
  on conflict (id) do nothing
  returning id
)${shape ? metadataWritten(shape) : ''}
select count(*)::integer as inserted, ${microsOfOurTime('now()')} as now_micros,
  case when count(*) < ${COUNT} then array_agg(w.id) end as ids
from usage_written as w`;
}

const texts = new Map<string, string>();

export function appendBatchStatement(
  givenEvents: readonly ValidEvent[],
  givenMetadata: readonly (MetadataRow | null)[],
  isKnown: boolean,
  boundsWaitMs: number | null = null,
): Statement {
  const order = orderById(givenEvents);
  const events = order.map((index) => givenEvents[index] as ValidEvent);
  const metadata = order.map((index) => givenMetadata[index] ?? null);
  const shape = metadata.some((row) => row !== null) ? metadataShape() : null;
  const hasTime = events.some((event) => event.created_at !== null);
  const name = [
    'microdollar_append_batch',
    ...(isKnown ? ['known'] : []),
    ...(hasTime ? ['at'] : []),
    ...(shape ? [shape.key] : []),
    ...(boundsWaitMs === null ? [] : [`bounded_${boundsWaitMs}`]),
  ].join('_');
  let text = texts.get(name);
  if (text === undefined) {
    text = batchText(isKnown, hasTime, shape, boundsWaitMs);
    texts.set(name, text);
  }
  const values: unknown[] = [...usageArrays(events), events.length];
  if (shape) {
    values.push(plainArray(metadata.map((row) => row !== null)), ...shape.arrays(metadata));
  }
  return { name, text, values };
}

/** Indices of events by id: hexadecimal digits are in the order of the bytes. */
function orderById(events: readonly ValidEvent[]): number[] {
  const idOf = (index: number) => (events[index] as ValidEvent).id;
  return [...events.keys()].sort((a, b) => (idOf(a) < idOf(b) ? -1 : 1));
}
