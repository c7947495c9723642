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
    | 'archived_period'
    /** Nothing stands in its way (any more): send it again. */
    | 'absent';
  created_micros: string | null;
}

/**
 * Why events were not inserted, in a statement after that one, so that it sees the rows that they
 * met (I3): the first delivery, or who is unknown, or the archive horizon.
 */
const TEXT = `/* microdollar.explainUsage */
select e.id, ${storedMicrosOf('m.created_at')} as created_micros,
  case
    when m.id is not null then case when ${IS_SAME_CONTENT}
      then 'duplicate' else 'idempotency_conflict' end
    when (select u.id from kilocode_users as u where u.id = e.kilo_user_id) is null
      then 'unknown_user'
    when e.organization_id is not null
      and (select o.id from organizations as o where o.id = e.organization_id) is null
      then 'unknown_organization'
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
