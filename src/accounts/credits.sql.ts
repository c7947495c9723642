import type { Statement } from '../db/statement.js';
import { payerColumn } from './grants/grants.sql.js';
import type { ValidCredit } from './newCredit.js';

export interface CreditRow {
  id: string;
  kilo_user_id: string | null;
  organization_id: string | null;
  amount_microdollars: string;
  description: string | null;
  expires_micros: string | null;
  /** As text from an adopted table where it is wider. */
  priority: number | string;
  created_at: Date;
  total_microdollars_acquired: string;
}

const COLUMNS = `c.id, c.kilo_user_id, c.organization_id, c.amount_microdollars, c.description,
  (extract(epoch from c.expires_at) * 1000000)::bigint as expires_micros, c.priority, c.created_at`;

/**
 * The payer's total and the row that explains it, under the lock of the payer's row. No row where the total
 * would leave the safe integer range.
 * @param used microdollars that the payer has used, less late usage
 */
export function addCreditStatement(credit: ValidCredit, used: bigint): Statement {
  const { scope } = credit;
  return {
    name: `accounts_credit_${scope.name}`,
    text: `/* accounts.credit ${scope.name} */
with credited as (
  update ${scope.payers} as u
  set total_microdollars_acquired = u.total_microdollars_acquired + $3::bigint,
    updated_at = now()
  where u.id = $2::${scope.idType}
    and abs(u.total_microdollars_acquired + $3::bigint) <= ${Number.MAX_SAFE_INTEGER}
  returning u.total_microdollars_acquired
), c as (
  insert into credit_transactions as c (id, ${payerColumn(scope)}, amount_microdollars, description,
    expires_at, priority, used_microdollars)
  select coalesce($1::uuid, gen_random_uuid()), $2::${scope.idType}, $3::bigint, $4::text,
    $5::timestamptz, $6::integer, $7::numeric
  from credited
  returning c.*
), expiring as (
  insert into credit_expiries (grant_id, payer_scope, payer_id, expires_at, look_at)
  select c.id, '${scope.name}', $2::${scope.idType}::text, c.expires_at, c.expires_at
  from c
  where c.expires_at is not null
)
select ${COLUMNS}, credited.total_microdollars_acquired
from c
cross join credited`,
    values: [
      credit.id,
      credit.payerId,
      credit.amountMicrodollars,
      credit.description,
      credit.expiresAt?.text ?? null,
      credit.priority,
      String(used),
    ],
  };
}

export interface StoredCreditRow extends CreditRow {
  /** Payer, amount, expiry and priority. */
  is_same: boolean;
}

/** The row that has the credit's id. */
export function readCreditStatement(credit: ValidCredit): Statement {
  const { scope } = credit;
  return {
    name: `accounts_read_credit_${scope.name}`,
    text: `/* accounts.readCredit */
select ${COLUMNS},
  c.kind = 'credit'
    and c.${payerColumn(scope)} is not distinct from $2::${scope.idType}
    and c.amount_microdollars = $3::bigint
    and c.expires_at is not distinct from $4::timestamptz
    and c.priority = $5::integer as is_same,
  coalesce(u.total_microdollars_acquired, o.total_microdollars_acquired, 0)
    as total_microdollars_acquired
from credit_transactions as c
left join kilocode_users as u on u.id = c.kilo_user_id
left join organizations as o on o.id = c.organization_id
where c.id = $1::uuid`,
    values: [
      credit.id,
      credit.payerId,
      credit.amountMicrodollars,
      credit.expiresAt?.text ?? null,
      credit.priority,
    ],
  };
}
