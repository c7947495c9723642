import type { Statement } from '../db/statement.js';
import { EXA_LOG, type Log, type PayerScope, unsettledRows } from '../schema/unsettled.js';
import { unseen } from './marks.sql.js';
import { idArray } from './settle.sql.js';

/** Bounds the length of the statement; the rest is opened by the next one. */
export const KEYS_PER_STATEMENT = 512;

/**
 * Creates the missing counter rows of payers with unsettled rows, at zero, in a transaction of its
 * own (R8). Never waits: a key that another transaction is creating is left for later.
 *
 * `offset 0`: the row of a key is looked up by all of the key. As a join, planned while the table is small,
 * it reads every row of the organization for every key.
 */
function openText(log: Log, scope: PayerScope): string {
  const isExa = log === EXA_LOG;
  const period = isExa
    ? `date_trunc('month', m.created_at at time zone 'UTC')::date`
    : `(m.created_at at time zone 'UTC')::date`;
  return `/* microdollar.openCounters ${log.table} ${scope.name} */
with key as materialized (
  select distinct m.user_id, ${scope.organizationOf('u')} as organization_id, m.period
  from unnest(${unseen(1, `${scope.idType}[]`)}) as t(id)
  join ${scope.payers} as u on u.id = t.id
  cross join lateral (
    ${unsettledRows(log, scope, `${scope.userOf('m', 'u')} as user_id, ${period} as period, m.cost`, 'u')}
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

/** One row: `opened`, counter rows created. */
export function openCountersStatement(
  log: Log,
  scope: PayerScope,
  ids: readonly string[],
): Statement {
  return {
    name: `microdollar_open_${log.table}_${scope.name}`,
    text: openText(log, scope),
    values: [idArray(scope, ids)],
  };
}
