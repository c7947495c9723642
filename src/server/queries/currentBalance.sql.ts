import { nextExpiryOf } from '../../accounts/grants/grants.sql.js';
import { ORGANIZATION_NAME } from '../../accounts/listAccounts.js';
import { isOpenHold } from '../../budgets/matching.sql.js';
import type { Statement } from '../../db/statement.js';
import { ORGANIZATION_SCOPE, USER_SCOPE } from '../../schema/unsettled.js';

export interface BalanceRow {
  /** Null: the user's own balance. */
  organization_id: string | null;
  name: string | null;
  role: string | null;
  microdollars_used: string;
  total_microdollars_acquired: string;
  /** Of requests in flight: neither settled nor released. */
  held_microdollars: string;
  next_credit_expiry_at: string | null;
}

const heldBy = (scope: 'user' | 'organization', payer: string) => `(
    select coalesce(sum(h.amount_microdollars), 0)::text
    from usage_holds as h
    where ${isOpenHold(scope, payer, 'h')}
  )`;

/** Of an instant that the ledger has checked. */
const isoText = (instant: string): string =>
  `to_char(${instant} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')`;

/**
 * A user's exact balance and those of their organizations, in one snapshot (I5). Amounts as text: the
 * statement is part of a JSON document too, whose numbers are exact up to 2^53 only.
 */
export function currentBalanceStatement(kiloUserId: string): Statement {
  return {
    name: 'balance.current',
    text: `/* balance.current */
select null::uuid as organization_id,
  null::text as name,
  null::text as role,
  (select b.microdollars_used::text from kilocode_user_balances as b where b.kilo_user_id = u.id)
    as microdollars_used,
  u.total_microdollars_acquired::text,
  ${heldBy('user', 'u.id')} as held_microdollars,
  ${isoText(nextExpiryOf(USER_SCOPE, 'u'))} as next_credit_expiry_at
from kilocode_users as u
where u.id = $1::text
union all
select o.id,
  ${ORGANIZATION_NAME},
  m.role,
  (select b.microdollars_used::text from organization_balances as b where b.organization_id = o.id),
  o.total_microdollars_acquired::text,
  ${heldBy('organization', 'o.id::text')},
  ${isoText(nextExpiryOf(ORGANIZATION_SCOPE, 'o'))}
from organization_memberships as m
join organizations as o on o.id = m.organization_id
where m.kilo_user_id = $1::text`,
    values: [kiloUserId],
  };
}
