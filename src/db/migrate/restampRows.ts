import {
  type Log,
  type PayerScope,
  payerKeySql,
  UNKNOWN_GENERATION,
} from '../../schema/unsettled.js';
import type { Step } from './step.js';

const PAYERS_PER_TRANSACTION = 1_000;
export const ROWS_PER_TRANSACTION = 5_000;

const unknownRows = (log: Log, scope: PayerScope, is: string) => `select m.id
    from ${log.table} as m
    where ${payerKeySql('m')} = ${scope.keyOf('u')}
      and ${scope.owns('m', 'u')}
      and m.position is not null
      and m.position ${is}`;

/**
 * Rows with a position above every mark get one of this transaction: for a settle they are as if
 * appended by it; one that is counted in the base keeps its sign. Reaches them payer by payer,
 * through the index of unsettled rows.
 */
const restampText = (log: Log, scope: PayerScope) => `
with block as materialized (
  select u.id
  from ${scope.payers} as u
  where $1::text is null or u.id > $1::${scope.idType}
  order by u.id
  limit ${PAYERS_PER_TRANSACTION}
), unknown as materialized (
  select m.id
  from block as u
  cross join lateral (
    ${unknownRows(log, scope, `>= ${UNKNOWN_GENERATION}`)}
    union all
    ${unknownRows(log, scope, `<= -${UNKNOWN_GENERATION}`)}
  ) as m
  limit ${ROWS_PER_TRANSACTION}
), restamped as (
  update ${log.table} as m
  set position = microdollar_position() * sign(m.position)::integer
  where m.id = any (array(select r.id from unknown as r))
    and abs(m.position) >= ${UNKNOWN_GENERATION}
)
select (select count(*)::integer from unknown) as rows,
  (select u.id::text from block as u order by u.id desc limit 1) as last`;

export function restamp(log: Log, scope: PayerScope): Step {
  const text = restampText(log, scope);
  let after: string | null = null;
  return {
    kind: 'restamp_rows',
    subject: `${log.table}, of ${scope.payers}: what was written meanwhile`,
    tables: [log.table],
    lock: 'none',
    duration: 'long',
    statements: [],
    work: async (client) => {
      const result = await client.query<{ rows: number; last: string | null }>(text, [after]);
      const { rows = 0, last = null } = result.rows[0] ?? {};
      // Full: there may be more of the same payers.
      if (rows === ROWS_PER_TRANSACTION) return 'again';
      after = last;
      return last === null ? 'done' : 'again';
    },
  };
}
