import type { Statement } from '../../db/statement.js';

export interface BalanceRow {
  /** Null: the user's own balance. */
  organization_id: string | null;
  name: string | null;
  role: string | null;
  microdollars_used: string;
  total_microdollars_acquired: string;
}

/** A user's exact balance and those of their organizations, in one snapshot (I5). */
export function currentBalanceStatement(kiloUserId: string): Statement {
  return {
    name: 'balance.current',
    text: `/* balance.current */
select null::uuid as organization_id,
  null::text as name,
  null::text as role,
  (select b.microdollars_used from kilocode_user_balances as b where b.kilo_user_id = u.id)
    as microdollars_used,
  u.total_microdollars_acquired
from kilocode_users as u
where u.id = $1::text
union all
select o.id,
  o.name,
  m.role,
  (select b.microdollars_used from organization_balances as b where b.organization_id = o.id),
  o.total_microdollars_acquired
from organization_memberships as m
join organizations as o on o.id = m.organization_id
where m.kilo_user_id = $1::text`,
    values: [kiloUserId],
  };
}
