import type { Statement } from '../db/statement.js';
import type { ValidEvent } from './event.js';
import { storedMicrosOf } from './instants.sql.js';
import {
  IS_SAME_CONTENT,
  USAGE_ARRAY_PARAMETERS,
  USAGE_COLUMN_LIST,
  usageArrays,
} from './usageColumns.js';

export interface ExplainedRow {
  id: string;
  status:
    | 'duplicate'
    | 'idempotency_conflict'
    | 'unknown_user'
    | 'unknown_organization'
    /** The payer is known here, but its money is on another shard. */
    | 'user_elsewhere'
    | 'organization_elsewhere'
    | 'archived_period'
    /** Nothing stands in its way (any more): send it again. */
    | 'absent';
  created_micros: string | null;
}

const USER = '(select u.is_elsewhere from kilocode_users as u where u.id = e.kilo_user_id)';
const ORGANIZATION =
  '(select o.is_elsewhere from organizations as o where o.id = e.organization_id)';

/** Branches of a `case`, for an event `e`: who of it is not here. Each a look-up by key, in any plan. */
export const UNKNOWN_ACCOUNTS = `when e.organization_id is null and ${USER}
      then 'user_elsewhere'
    when ${ORGANIZATION}
      then 'organization_elsewhere'
    when ${USER} is null
      then 'unknown_user'
    when e.organization_id is not null and ${ORGANIZATION} is null
      then 'unknown_organization'`;

/**
 * Why events were not inserted, in a statement after that one, so that it sees the rows that they
 * met (I3): the first delivery, or who is unknown, or the archive horizon.
 */
const TEXT = `/* microdollar.explainUsage */
select e.id, ${storedMicrosOf('m.created_at')} as created_micros,
  case
    when m.id is not null then case when ${IS_SAME_CONTENT}
      then 'duplicate' else 'idempotency_conflict' end
    ${UNKNOWN_ACCOUNTS}
    when e.created_at < (select s.archive_horizon from ledger_settings as s where s.id = 1)
      then 'archived_period'
    else 'absent'
  end as status
from unnest(${USAGE_ARRAY_PARAMETERS}) as e(${USAGE_COLUMN_LIST})
left join lateral (
  select m.*
  from microdollar_usage as m
  where m.id = e.id
  limit 1
) as m on true`;

export function explainUsageStatement(events: readonly ValidEvent[]): Statement {
  return { name: 'microdollar_explain_usage', text: TEXT, values: usageArrays(events) };
}
