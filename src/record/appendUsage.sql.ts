import { POSITION } from '../counter/position.sql.js';
import type { Statement } from '../db/statement.js';
import type { ValidEvent } from './event.js';
import { microsOfOurTime } from './instants.sql.js';
import { type MetadataRow, type MetadataShape, metadataShape } from './metadataRow.js';
import {
  GIVEN_COLUMN_LIST,
  GIVEN_PARAMETERS,
  USAGE_PARAMETERS,
  usageParameter,
  usageValues,
} from './usageColumns.js';

export interface AppendOptions {
  metadata: MetadataRow | null;
  /** The payer and the user are known to exist: no join. */
  isKnown: boolean;
  /**
   * Where the connection's settings are not ours, on a host's executor or behind a pooler: bounds the
   * wait for a twin of the same id (I4), ms, within the statement, and leaves the setting as it was.
   */
  boundsWaitMs?: number | null;
}

/** One row with a time: the event was new. */
export interface AppendedRow {
  created_micros: string | null;
}

/** Events below the archive horizon are refused: the row that would catch a replay is gone. */
export const NOT_ARCHIVED = `${usageParameter('created_at')} >= coalesce(
    (select s.archive_horizon from ledger_settings as s where s.id = 1), '-infinity')`;

/**
 * A cost moves the base counters: its row is unsettled there. Zero moves nothing (I6), so its position is
 * negative: counted in the base, and for rollups by dimension yet to be folded.
 */
const EVENT_POSITION = `(${POSITION}) * case when ${usageParameter('cost')} <> 0 then 1 else -1 end`;

/** The insert is to depend on it. */
export const IS_BOUNDED = '(select b.lock_timeout from bounded as b) is not null';

/** Evaluated before the insert that depends on it; the answer sets the old value again. */
export const boundWait = (lockTimeoutMs: number): string =>
  `bounded as materialized (
  select b.before, set_config('lock_timeout', '${lockTimeoutMs}', true) as lock_timeout
  from (select current_setting('lock_timeout') as before offset 0) as b
)`;

/** How long one write on a host's executor waits for a twin of its id that is in flight. */
export const TWIN_WAIT_MS = 5_000;

/** Within the bound too: a correction waits for another of its number. */
const METADATA_BOUNDED = '\nleft join metadata_written as m on true';

/** Parameters of metadata follow those of the event, which end with its time where it has one. */
export const metadataWritten = (
  hasTime: boolean,
  shape: MetadataShape,
): string => `, metadata_written as (
  insert into microdollar_usage_metadata (id, kilo_user_id, created_at${shape.columnList})
  select ${usageParameter('id')}, ${usageParameter('kilo_user_id')},
    w.created_at${shape.parameters(hasTime ? USAGE_PARAMETERS + 1 : USAGE_PARAMETERS)}
  from usage_written as w
  where (select u.deleted_at from kilocode_users as u where u.id = $2::text) is null
  returning id
)`;

/**
 * Rows to insert: without a table where payer and user are known. A payer of another shard is unknown here.
 */
export function eventSource(options: {
  isOrganization: boolean;
  isKnown: boolean;
  hasTime: boolean;
  isBounded: boolean;
}): string {
  const tables = options.isKnown
    ? []
    : ['kilocode_users as u', ...(options.isOrganization ? ['organizations as o'] : [])];
  const conditions = [
    ...(options.isKnown ? [] : [`u.id = ${usageParameter('kilo_user_id')}`]),
    ...(!options.isKnown && options.isOrganization
      ? [`o.id = ${usageParameter('organization_id')}`]
      : []),
    ...(options.isKnown ? [] : [`not ${options.isOrganization ? 'o' : 'u'}.is_elsewhere`]),
    ...(options.hasTime ? [NOT_ARCHIVED] : []),
    ...(options.isBounded ? [IS_BOUNDED] : []),
  ];
  const from = tables.length > 0 ? `\n  from ${tables.join(' cross join ')}` : '';
  return conditions.length > 0 ? `${from}\n  where ${conditions.join('\n    and ')}` : from;
}

/**
 * Appends one event (R9): the insert is the whole write, and waits for nothing but an in-flight
 * twin of its id. What is not needed is not in the text: the archive horizon where the time is the
 * database's own, the join where the payer is known, metadata where there is none.
 */
function appendText(
  isOrganization: boolean,
  hasTime: boolean,
  shape: MetadataShape | null,
  options: AppendOptions,
): string {
  const hasMetadata = shape !== null;
  const boundsWaitMs = options.boundsWaitMs ?? null;
  const isBounded = boundsWaitMs !== null;
  const bounded = isBounded ? `${boundWait(boundsWaitMs)}, ` : '';
  const source = eventSource({ isOrganization, isKnown: options.isKnown, hasTime, isBounded });
  const row = `${GIVEN_PARAMETERS}, ${hasTime ? usageParameter('created_at') : 'now()'},
    ${EVENT_POSITION}`;
  // Rows of `values` reach the table by a shorter way than those of a query.
  const insert = `insert into microdollar_usage (${GIVEN_COLUMN_LIST}, created_at, position)
  ${source === '' ? `values (${row})` : `select ${row}${source}`}
  on conflict (id) do nothing`;
  const answer = (row: string) => `${microsOfOurTime(`${row}created_at`)} as created_micros`;
  if (!isBounded && !hasMetadata) {
    return `/* microdollar.appendUsage */
${insert}
  returning ${answer('')}`;
  }
  return `/* microdollar.appendUsage */
with ${bounded}usage_written as (
  ${insert}
  returning created_at
)${shape ? metadataWritten(hasTime, shape) : ''}
${
  isBounded
    ? `select ${answer('w.')}, set_config('lock_timeout', b.before, true) as restored
from bounded as b
left join usage_written as w on true${hasMetadata ? METADATA_BOUNDED : ''}`
    : `select ${answer('w.')}
from usage_written as w`
}`;
}

const texts = new Map<string, string>();

export function appendUsageStatement(event: ValidEvent, options: AppendOptions): Statement {
  const isOrganization = event.organization_id !== null;
  const hasTime = event.created_at !== null;
  const shape = options.metadata === null ? null : metadataShape();
  const name = [
    'microdollar_append',
    options.isKnown ? 'known' : isOrganization ? 'organization' : 'personal',
    ...(hasTime ? ['at'] : []),
    ...(shape ? [shape.key] : []),
    ...(options.boundsWaitMs ? [`bounded_${options.boundsWaitMs}`] : []),
  ].join('_');
  let text = texts.get(name);
  if (text === undefined) {
    text = appendText(isOrganization, hasTime, shape, options);
    texts.set(name, text);
  }
  const values = usageValues(event);
  if (shape && options.metadata) values.push(...shape.values(options.metadata));
  return { name, text, values };
}
