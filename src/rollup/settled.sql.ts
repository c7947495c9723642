import { isSettledSql, type Log, PAYER_SCOPES, USAGE_LOG } from '../schema/unsettled.js';

/**
 * CTE `low_water`: every row of the log with a lower position is settled, whoever pays, so that
 * history is summed without a look at any payer. 0, where it is not known, is always right: the
 * sweep notes it for usage only.
 */
export function lowWater(log: Log): string {
  if (log !== USAGE_LOG) return 'low_water as materialized (select 0::bigint as position)';
  return `low_water as materialized (
  select coalesce(min(s.settled_everywhere_below), 0) as position
  from ledger_settings as s
)`;
}

/**
 * Whether log row `row`, of columns kilo_user_id, organization_id and position, is settled under the
 * mark of its payer, so is in the counters. Needs `low_water`. A row whose payer does not exist is
 * not: nobody can have settled it.
 */
export function isInCounters(log: Log, row: string): string {
  const byPayer = PAYER_SCOPES.map(
    (scope) => `when ${row}.organization_id is ${scope.name === 'user' ? '' : 'not '}null
      then coalesce((
        select ${isSettledSql(log, row, 'payer')}
        from ${scope.payers} as payer
        where payer.id = ${row}.${scope.name === 'user' ? 'kilo_user_id' : 'organization_id'}
      ), false)`,
  );
  return `case
    when ${row}.position is null or ${row}.position < (select w.position from low_water as w)
      then true
    ${byPayer.join('\n    ')}
  end`;
}

const NO_ID = `'00000000-0000-0000-0000-000000000000'::uuid`;

/**
 * Whether two rows have the same organization, or none (I8): as equalities, which `full join` needs
 * and hashes. An organization may have any id, the one that stands here for none as well.
 */
export function sameOrganization(a: string, b: string): string {
  return `(${a}.organization_id is null) = (${b}.organization_id is null)
    and coalesce(${a}.organization_id, ${NO_ID}) = coalesce(${b}.organization_id, ${NO_ID})`;
}
