import type { Statement } from '../db/statement.js';
import { type Rollup, withinPeriod } from '../schema/rollups.js';
import type { Finding } from './compare.sql.js';

export interface PayerRow {
  exists: boolean;
}

/** Whether the payer of a key exists. */
export function payerExistsStatement(finding: Finding): Statement {
  const isUser = finding.organization_id === null;
  return {
    name: 'microdollar_payer_exists',
    text: `/* microdollar.payerExists */
select exists (${
      isUser
        ? 'select from kilocode_users as u where u.id = $1::text'
        : 'select from organizations as u where u.id = $1::uuid'
    }) as exists`,
    values: [isUser ? finding.kilo_user_id : finding.organization_id],
  };
}

/** A row of the key that costs exactly what is missing. */
export function findUncountedStatement(
  rollup: Rollup,
  period: string,
  finding: Finding,
): Statement {
  return {
    name: 'microdollar_uncounted_row',
    text: `/* microdollar.findUncountedRow */
select s.id
from ${rollup.source} as s
where s.kilo_user_id = $1::text
  and s.organization_id is not distinct from $2::uuid
  and ${withinPeriod(rollup, 's.created_at', '$3::date')}
  and s.cost = -$4::numeric
limit 1`,
    values: [finding.kilo_user_id, finding.organization_id, period, finding.drift],
  };
}
