import type { Statement } from '../db/statement.js';
import { type Rollup, withinPeriod } from '../schema/rollups.js';
import type { Finding } from './compare.sql.js';

export interface PayerRow {
  exists: boolean;
}

export function userExistsStatement(kiloUserId: string): Statement {
  return {
    name: 'microdollar_user_exists',
    text: `/* microdollar.userExists */
select exists (select from kilocode_users as u where u.id = $1::text) as exists`,
    values: [kiloUserId],
  };
}

/** Whether the payer of a key exists. */
export function payerExistsStatement(finding: Finding): Statement {
  if (finding.organization_id === null) return userExistsStatement(finding.kilo_user_id);
  return {
    name: 'microdollar_organization_exists',
    text: `/* microdollar.organizationExists */
select exists (select from organizations as o where o.id = $1::uuid) as exists`,
    values: [finding.organization_id],
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
