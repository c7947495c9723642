import type { Statement } from '../../db/statement.js';
import { toJsonInteger } from '../../money.js';
import {
  type ArchivedColumn,
  METADATA_COLUMNS,
  membersOf,
  USAGE_COLUMNS,
} from './archivedColumns.js';

/** Where a page begins: behind this row. */
export interface PageCursor {
  kiloUserId: string;
  /** Null: with the user's first row. */
  createdAt: string | null;
  id: string | null;
}

export interface PageRow {
  id: string;
  kilo_user_id: string;
  organization_id: string | null;
  /** Microdollars; a decimal string past 2^53. */
  cost: number | string;
  created_at: string;
  /** The event as JSON, in the words of `UsageEvent`; null fields are left out. */
  line: string;
}

/** A result row as an array: last user of the block, whether there is metadata, and the columns. */
export type PageResult = [string | null, boolean | null, ...unknown[]];

const SELECTED = [
  ...USAGE_COLUMNS.map(({ name }) =>
    name === 'created_at'
      ? `to_char(p.created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`
      : `p.${name}`,
  ),
  ...METADATA_COLUMNS.map((column) =>
    column.isPersonal
      ? `case when $7::boolean and not p.is_of_deleted_user then ${columnSql(column)} end`
      : columnSql(column),
  ),
];

/** A lookup by its id; or, where that could not be had without waiting (I4), as it was stored. */
function columnSql({ name, isLookup }: ArchivedColumn): string {
  if (!isLookup) return `m.${name}`;
  return `coalesce(case when m.${name}_id is not null
      then (select l.${name} from ${name} as l where l.${name}_id = m.${name}_id) end,
    m.lookup_values ->> '${name}')`;
}

/** Of a result: the block, and whether there is metadata. */
const PREFIX = 2;
const placeOf = (column: string): number =>
  PREFIX + USAGE_COLUMNS.findIndex(({ name }) => name === column);
const PLACES = {
  id: placeOf('id'),
  kiloUserId: placeOf('kilo_user_id'),
  organizationId: placeOf('organization_id'),
  cost: placeOf('cost'),
  createdAt: placeOf('created_at'),
};

/** Null for the one row of an empty page. */
export function toPageRow(result: PageResult): PageRow | null {
  const id = result[PLACES.id];
  if (typeof id !== 'string') return null;
  const metadata = result[1]
    ? `,"metadata":{${membersOf(METADATA_COLUMNS, result, PREFIX + USAGE_COLUMNS.length)}}`
    : '';
  return {
    id,
    kilo_user_id: result[PLACES.kiloUserId] as string,
    organization_id: result[PLACES.organizationId] as string | null,
    cost: toJsonInteger(String(result[PLACES.cost])),
    created_at: result[PLACES.createdAt] as string,
    line: `{${membersOf(USAGE_COLUMNS, result, PREFIX)}${metadata}}`,
  };
}

/**
 * The next rows of a day, by user, time and id.
 *
 * CTEs in reading order:
 *   block      the next users that have raw rows, on any day, by loose index scan; users without
 *              a counter row (their cost was 0) are among them
 *   page       their rows of the day, at most `rowLimit`
 *   (result)   each with its metadata; one row without an id when the page is empty
 */
export function readPageStatement(page: {
  day: string;
  after: PageCursor;
  rowLimit: number;
  userLimit: number;
  withPersonalData: boolean;
}): Statement {
  return {
    name: 'microdollar_read_archive_page',
    text: `/* microdollar.readArchivePage */
with recursive block as (
  select (
    select s.kilo_user_id from microdollar_usage as s
    where s.kilo_user_id >= $2::text
    order by s.kilo_user_id limit 1
  ) as kilo_user_id, 1 as place
  union all
  select (
    select s.kilo_user_id from microdollar_usage as s
    where s.kilo_user_id > b.kilo_user_id
    order by s.kilo_user_id limit 1
  ), b.place + 1
  from block as b
  where b.kilo_user_id is not null
    and b.place < $6::integer
), page as materialized (
  select s.*, exists (
      select from kilocode_users as u where u.id = s.kilo_user_id and u.deleted_at is not null
    ) as is_of_deleted_user
  from block as b
  cross join lateral (
    select s.*
    from microdollar_usage as s
    where s.kilo_user_id = b.kilo_user_id
      and s.created_at < ($1::date + 1)::timestamp at time zone 'UTC'
      and s.created_at >= case when b.kilo_user_id = $2::text and $3::timestamptz is not null
        then $3::timestamptz else $1::date::timestamp at time zone 'UTC' end
      and (b.kilo_user_id <> $2::text or $3::timestamptz is null
        or (s.created_at, s.id) > ($3::timestamptz, $4::uuid))
    order by s.created_at, s.id
    limit $5::integer
  ) as s
  where b.kilo_user_id is not null
  order by s.kilo_user_id, s.created_at, s.id
  limit $5::integer
)
select (
    select case when count(kilo_user_id) = $6::integer then max(kilo_user_id) end from block
  ) as block_until,
  m.id is not null as has_metadata,
  ${SELECTED.join(',\n  ')}
from (select) as one
left join page as p on true
left join microdollar_usage_metadata as m on m.id = p.id
order by p.kilo_user_id, p.created_at, p.id`,
    values: [
      page.day,
      page.after.kiloUserId,
      page.after.createdAt,
      page.after.id,
      page.rowLimit,
      page.userLimit,
      page.withPersonalData,
    ],
  };
}
