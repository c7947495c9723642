import type { Statement } from '../../db/statement.js';
import { type BalanceRow, currentBalanceStatement } from './currentBalance.sql.js';
import { type RecentRow, recentUsageStatement } from './recentUsage.sql.js';

export interface AccountRow {
  /** Null: no such user. Amounts in it are text, for JSON numbers are exact up to 2^53 only. */
  balances: BalanceRow[] | null;
  recent: RecentRow[] | null;
}

/** Balances and last requests of a user in one statement: the page is given four in all. */
export function accountStatement(kiloUserId: string, limit: number, asMember: boolean): Statement {
  const balances = currentBalanceStatement(kiloUserId);
  const recent = recentUsageStatement(kiloUserId, limit, asMember);
  return {
    name: 'profile.account',
    text: `/* profile.account */
select (
    select json_agg(b)
    from (
${balances.text}
    ) as b
  ) as balances,
  (
    select json_agg(r)
    from (
${recent.text}
    ) as r
  ) as recent`,
    values: recent.values,
  };
}
