import { COUNTER_LIMIT } from '../counter/marks.sql.js';
import { scopeOf } from '../counter/payer.js';
import { POSITION } from '../counter/position.sql.js';
import type { Statement } from '../db/statement.js';
import { type PayerScope, rowsPastMark, USAGE_LOG } from '../schema/unsettled.js';
import { boundWait, eventSource, metadataWritten } from './appendUsage.sql.js';
import type { ValidEvent } from './event.js';
import { microsOfOurTime } from './instants.sql.js';
import { type MetadataRow, type MetadataShape, metadataShape } from './metadataRow.js';
import {
  GIVEN_COLUMN_LIST,
  GIVEN_PARAMETERS,
  usageParameter,
  usageValues,
} from './usageColumns.js';

/** At most one row: the event was new. */
export interface WrittenInPlaceRow {
  created_micros: string;
  /** Null: it was appended, for a row was held by someone else or is missing. */
  balance: string | null;
  /** False: the payer has exceptions, or anybody has Exa requests, which it does not count. */
  is_whole: boolean | null;
  /** Unsettled rows of the payer beside it. */
  depth: string | null;
}

/** Two rows are locked meanwhile: shorter than the server's deadlock timeout, so none comes of it. */
const LOCKED_WAIT_MS = 200;

const DAY = (hasTime: boolean): string =>
  `(${hasTime ? usageParameter('created_at') : 'now()'} at time zone 'UTC')::date`;

/**
 * The seed's dual write without its queue, for a pool of a host's own, in one statement:
 *
 *   bounded  the wait for a twin of the same id, within this statement
 *   locked   payer and daily row, where both exist and are free
 *   usage_written   the row; with a negative position when its effect goes in place
 *   daily_updated, payer_updated   the effect, only for a row that was really inserted (I3)
 *
 * Its balance adds the rows past the payer's mark alone. What is rare, exceptions and Exa, would cost
 * every write the start of three more scans: it is told, and read by a statement of its own.
 *
 * The locks come first, for the position depends on them. Whoever holds a twin and then wants
 * the payer's row is not waited for longer than LOCKED_WAIT_MS; the caller then appends.
 */
function inPlaceText(scope: PayerScope, hasTime: boolean, shape: MetadataShape | null): string {
  const isOrganization = scope.name === 'organization';
  const payer = usageParameter(isOrganization ? 'organization_id' : 'kilo_user_id');
  const cost = usageParameter('cost');
  const source = eventSource({ isOrganization, isKnown: false, hasTime, isBounded: true });
  return `/* microdollar.recordInPlace */
with ${boundWait(LOCKED_WAIT_MS)}, locked as materialized (
  select d.id as counter_id
  from ${scope.payers} as u
  cross join microdollar_usage_daily as d
  where u.id = ${payer}
    and d.kilo_user_id = ${usageParameter('kilo_user_id')}
    and ${isOrganization ? `d.organization_id = ${payer}` : 'd.organization_id is null'}
    and d.usage_date = ${DAY(hasTime)}
    and ${cost} <> 0
    and abs(u.microdollars_used) < ${COUNTER_LIMIT}
    and abs(d.total_cost_microdollars) < ${COUNTER_LIMIT}
  for no key update of u, d skip locked
), usage_written as (
  insert into microdollar_usage (${GIVEN_COLUMN_LIST}, created_at, position)
  select ${GIVEN_PARAMETERS}, ${hasTime ? usageParameter('created_at') : 'now()'},
    (${POSITION}) * case when ${cost} <> 0 and (select l.counter_id from locked as l) is null
      then 1 else -1 end${source}
  on conflict (id) do nothing
  returning created_at
)${shape ? metadataWritten(hasTime, shape) : ''}, daily_updated as (
  update microdollar_usage_daily as d
  set total_cost_microdollars = d.total_cost_microdollars + ${cost},
    updated_at = now()
  where d.id = (select l.counter_id from locked as l)
    and exists (select from usage_written)
), payer_updated as (
  update ${scope.payers} as u
  set microdollars_used = u.microdollars_used + ${cost}
  where u.id = ${payer}
    and exists (select from locked)
    and exists (select from usage_written)
  returning u.id, u.microdollars_used, u.${USAGE_LOG.below}, u.${USAGE_LOG.except}
)
select ${microsOfOurTime('w.created_at')} as created_micros,
  u.microdollars_used + coalesce(m.cost, 0) as balance, m.depth,
  u.${USAGE_LOG.except} = '{}' and not (select exists (select from exa_usage_log)) as is_whole
from usage_written as w
left join payer_updated as u on true
cross join lateral (
  ${rowsPastMark(USAGE_LOG, scope, 'sum(m.cost) as cost, count(*) as depth', 'u')}
) as m`;
}

const texts = new Map<string, string>();

export function recordInPlaceStatement(event: ValidEvent, metadata: MetadataRow | null): Statement {
  const scope = scopeOf(event);
  const hasTime = event.created_at !== null;
  const shape = metadata === null ? null : metadataShape();
  const name = [
    'microdollar_in_place',
    scope.name,
    ...(hasTime ? ['at'] : []),
    ...(shape ? [shape.key] : []),
  ].join('_');
  let text = texts.get(name);
  if (text === undefined) {
    text = inPlaceText(scope, hasTime, shape);
    texts.set(name, text);
  }
  const values = usageValues(event);
  if (shape && metadata) values.push(...shape.values(metadata));
  return { name, text, values };
}
