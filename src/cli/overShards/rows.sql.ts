import type { Statement } from '../../db/statement.js';
import { isElsewhereSql, isPayerElsewhere } from '../../schema/elsewhere.js';

/** Tables whose rows are told by an id alone, and on which shard they count. */
const IS_ELSEWHERE = {
  microdollar_usage: isElsewhereSql('r.kilo_user_id', 'r.organization_id'),
  api_keys: isElsewhereSql('r.kilo_user_id', 'r.organization_id'),
  budgets: isPayerElsewhere('r'),
  usage_alerts: isPayerElsewhere('r'),
  usage_alert_webhooks: isPayerElsewhere('r'),
  usage_alert_deliveries: 'false',
} as const;

export type RowTable = keyof typeof IS_ELSEWHERE;

/** Whether a shard has the row, of a payer who is there: copies of payers who move do not count. */
export function hasRowStatement(table: RowTable, id: string): Statement {
  return {
    name: `microdollar_shards_has_${table}`,
    text: `/* shards.hasRow */
select
from ${table} as r
where r.id = $1::uuid
  and not coalesce(${IS_ELSEWHERE[table]}, false)`,
    values: [id],
  };
}
