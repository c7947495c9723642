import type { Statement } from '../db/statement.js';
import { isElsewhereSql, isPayerElsewhere } from '../schema/elsewhere.js';

/** Tables whose rows are told by an id alone, and on which shard they count. */
const IS_ELSEWHERE = {
  microdollar_usage: isElsewhereSql('r.kilo_user_id', 'r.organization_id'),
  api_keys: isElsewhereSql('r.kilo_user_id', 'r.organization_id'),
  budgets: isPayerElsewhere('r'),
  usage_alerts: isPayerElsewhere('r'),
  usage_alert_webhooks: isPayerElsewhere('r'),
  usage_alert_deliveries: `(
    select ${isPayerElsewhere('a')}
    from usage_alert_events as e
    join usage_alerts as a on a.id = e.alert_id
    where e.id = r.event_id)`,
} as const;

export type RowTable = keyof typeof IS_ELSEWHERE;

export interface FoundRow {
  /** Its payer is on another shard, or on the way: there the row counts, and this is a copy. */
  is_elsewhere: boolean;
}

/** The row that a shard has by this id, if any. */
export function findRowStatement(table: RowTable, id: string): Statement {
  return {
    name: `microdollar_shards_find_${table}`,
    text: `/* shards.findRow */
select coalesce(${IS_ELSEWHERE[table]}, false) as is_elsewhere
from ${table} as r
where r.id = $1::uuid`,
    values: [id],
  };
}
