import type { Statement } from '../db/statement.js';
import {
  EXA_LOG,
  type Log,
  type PayerScope,
  unsettledRows,
  unsettledRowsBelow,
} from '../schema/unsettled.js';
import { unseen, unsettledAfter } from './marks.sql.js';
import { idArray } from './settle.sql.js';

/** Bounds the length of the statement; the rest is opened by the next one. */
export const KEYS_PER_STATEMENT = 512;

/**
 * Creates the missing counter rows of payers with unsettled rows, at zero, in a transaction of its
 * own (R8). Never waits: a key that another transaction is creating is left for later.
 *
 * `offset 0`: the row of a key is looked up by all of the key. As a join, planned while the table is small,
 * it reads every row of the organization for every key.
 *
 * @param isPart of the first $2 rows of each payer, as a settle of so many needs them: a tail may have
 *   millions
 */
function openText(log: Log, scope: PayerScope, isPart: boolean): string {
  const isExa = log === EXA_LOG;
  const period = isExa
    ? `date_trunc('month', m.created_at at time zone 'UTC')::date`
    : `(m.created_at at time zone 'UTC')::date`;
  const columns = `${scope.userOf('m', 'u')} as user_id, ${period} as period, m.cost`;
  const rows = isPart
    ? unsettledRowsBelow(log, scope, columns, 'u', 'b.part_end')
    : unsettledRows(log, scope, columns, 'u');
  return `/* microdollar.openCounters ${log.table} ${scope.name} */
with key as materialized (
  select distinct m.user_id, ${scope.organizationOf('u')} as organization_id, m.period
  from unnest(${unseen(1, `${scope.idType}[]`)}) as t(id)
  join ${scope.payers} as u on u.id = t.id${isPart ? partEnd(log, scope) : ''}
  cross join lateral (
    ${rows}
  ) as m
  where m.cost <> 0
    and not exists (
      select
      from ${isExa ? 'exa_monthly_usage' : 'microdollar_usage_daily'} as d
      where d.kilo_user_id = m.user_id
        and ${scope.name === 'user' ? 'd.organization_id is null' : 'd.organization_id = u.id'}
        and d.${isExa ? 'month' : 'usage_date'} = m.period
      offset 0
    )
  limit ${KEYS_PER_STATEMENT}
)
select count(*) filter (where ${isExa ? 'microdollar_open_exa_month' : 'microdollar_open_daily'}(
  k.user_id, k.organization_id, k.period)) as opened
from key as k`;
}

const partEnd = (log: Log, scope: PayerScope): string => `
  cross join lateral (
    select coalesce(${unsettledAfter(log, scope, unseen(2, 'integer'))}, ${END}) as part_end
    offset 0
  ) as b`;

/** Past every position. */
const END = '9223372036854775807';

/** One row: `opened`, counter rows created. @param rowsPerPayer the first ones only; null = all */
export function openCountersStatement(
  log: Log,
  scope: PayerScope,
  ids: readonly string[],
  rowsPerPayer: number | null = null,
): Statement {
  const isPart = rowsPerPayer !== null;
  return {
    name: `microdollar_open_${log.table}_${scope.name}${isPart ? '_part' : ''}`,
    text: openText(log, scope, isPart),
    values: isPart ? [idArray(scope, ids), rowsPerPayer] : [idArray(scope, ids)],
  };
}
