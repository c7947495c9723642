import { ROLLUPS } from '../schema/rollups.js';
import { isSettledSql, type Log, PAYER_SCOPES, USAGE_LOG } from '../schema/unsettled.js';

/**
 * CTE `low_water`: every row of the log with a lower position is settled, whoever of the payers that
 * exist pays, so that history is summed without a look at each row's mark. 0, where it is not known,
 * is always right: the sweep notes it for usage only.
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
 * mark of its payer, so is in the counters. Needs `low_water`.
 *
 * Nobody settles the rows of a payer that does not exist. Those of one that is deleted were settled
 * before, and left counter rows; those of one that is still to come left none, and are settled
 * when it has come. So these are not counted here, lest they be counted twice.
 */
export function isInCounters(log: Log, row: string): string {
  const counters = ROLLUPS.find((rollup) => rollup.log === log)?.name;
  const byPayer = PAYER_SCOPES.map((scope) => {
    const isUser = scope.name === 'user';
    const id = `${row}.${isUser ? 'kilo_user_id' : 'organization_id'}`;
    return `when ${row}.organization_id is ${isUser ? '' : 'not '}null then coalesce((
        select ${row}.position < (select w.position from low_water as w)
          or ${isSettledSql(log, row, 'payer')}
        from ${scope.payers} as payer
        where payer.id = ${id}
      ), exists (
        select
        from ${counters} as c
        where c.kilo_user_id = ${row}.kilo_user_id
          and c.organization_id ${isUser ? 'is null' : `= ${row}.organization_id`}
      ))`;
  });
  return `case
    when ${row}.position is null then true
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
