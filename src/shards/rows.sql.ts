import type { Statement } from '../db/statement.js';
import { isElsewhereSql, isPayerElsewhere } from '../schema/elsewhere.js';

interface RowSource {
  /** Whether its payer is on another shard. */
  isElsewhere: string;
  user: string;
  organization: string;
}

const OF_COLUMNS: RowSource = {
  isElsewhere: isElsewhereSql('r.kilo_user_id', 'r.organization_id'),
  user: 'r.kilo_user_id',
  organization: 'r.organization_id::text',
};
const ofPayer = (row: string): RowSource => ({
  isElsewhere: isPayerElsewhere(row),
  user: `case ${row}.payer_scope when 'user' then ${row}.payer_id end`,
  organization: `case ${row}.payer_scope when 'organization' then ${row}.payer_id end`,
});
const ofAlert = (value: string): string => `(
    select ${value}
    from usage_alert_events as e
    join usage_alerts as a on a.id = e.alert_id
    where e.id = r.event_id)`;
const OF_ALERT = ofPayer('a');

/** Tables whose rows are told by an id alone, and whose they are. */
const SOURCES = {
  microdollar_usage: OF_COLUMNS,
  api_keys: OF_COLUMNS,
  budgets: ofPayer('r'),
  usage_alerts: ofPayer('r'),
  usage_alert_webhooks: ofPayer('r'),
  usage_alert_deliveries: {
    isElsewhere: ofAlert(OF_ALERT.isElsewhere),
    user: ofAlert(OF_ALERT.user),
    organization: ofAlert(OF_ALERT.organization),
  },
} as const satisfies Record<string, RowSource>;

export type RowTable = keyof typeof SOURCES;

/** A row that a shard has, and who pays for what it is of: neither, nobody. */
export interface FoundRow {
  kilo_user_id: string | null;
  organization_id: string | null;
  /** Its payer is on another shard, or on the way: there the row counts, and this is a copy. */
  is_elsewhere: boolean;
}

/** The row that a shard has by this id, if any. */
export function findRowStatement(table: RowTable, id: string): Statement {
  const { isElsewhere, user, organization } = SOURCES[table];
  return {
    name: `microdollar_shards_find_${table}`,
    text: `/* shards.findRow */
select ${user} as kilo_user_id, ${organization} as organization_id,
  coalesce(${isElsewhere}, false) as is_elsewhere
from ${table} as r
where r.id = $1::uuid`,
    values: [id],
  };
}
