import { getTableColumns } from 'drizzle-orm';
import type { Statement } from '../../db/statement.js';
import { microdollarUsage } from '../../schema/usage.js';
import { USAGE_COLUMNS } from './archivedColumns.js';

/** Where archived events are read to, for questions; nothing of the ledger uses it. */
export const READ_BACK_TABLE = 'archived_usage';

const TYPES = new Map(
  Object.entries(getTableColumns(microdollarUsage)).map(([name, column]) => [
    name,
    column.getSQLType(),
  ]),
);
const COLUMNS = USAGE_COLUMNS.map(({ name }) => name);

/** The columns of usage, and its metadata as the files have it. */
export function createReadBackStatements(): string[] {
  const columns = COLUMNS.map((name) => `${name} ${TYPES.get(name)}`);
  return [
    `create table if not exists ${READ_BACK_TABLE} (
  ${columns.join(',\n  ')},
  metadata jsonb,
  primary key (id)
)`,
    ...[['created_at'], ['kilo_user_id', 'created_at']].map(
      (keys) =>
        `create index if not exists ${READ_BACK_TABLE}_${keys.join('_')}
  on ${READ_BACK_TABLE} (${keys.join(', ')})`,
    ),
  ];
}

/** A page of events, as JSON; those that are there already are left as they are. */
export function readBackStatement(events: readonly unknown[]): Statement {
  const columns = [...COLUMNS, 'metadata'].join(', ');
  return {
    name: 'microdollar_read_back',
    text: `/* microdollar.readBack */
insert into ${READ_BACK_TABLE} (${columns})
select ${columns}
from json_populate_recordset(null::${READ_BACK_TABLE}, $1::json)
on conflict (id) do nothing`,
    values: [JSON.stringify(events)],
  };
}
