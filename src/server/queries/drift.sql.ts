import type { Statement } from '../../db/statement.js';

export interface DriftingDayRow {
  period: string;
  drift_keys: number;
  drift_microdollars: string;
}

export interface RepairRow {
  id: string;
  counter: string;
  kilo_user_id: string | null;
  organization_id: string | null;
  period: string | null;
  before_microdollars: string;
  after_microdollars: string;
  cause: string;
  repaired_at: string;
}

/** Days that the last check of them, by whichever process, found wrong. */
export function driftingDaysStatement(rollup: string, limit: number): Statement {
  return {
    name: 'operations.driftingDays',
    text: `/* operations.driftingDays */
select c.period::text as period, c.drift_keys, c.drift_microdollars
from rollup_coverage as c
where c.rollup = $1::text
  and c.drift_keys > 0
order by c.period desc
limit $2::integer`,
    values: [rollup, limit],
  };
}

/** The newest corrections from the audit table. */
export function recentRepairsStatement(limit: number): Statement {
  return {
    name: 'operations.recentRepairs',
    text: `/* operations.recentRepairs */
select r.id, r.counter, r.kilo_user_id, r.organization_id, r.period::text as period,
  r.before_microdollars, r.after_microdollars, r.cause,
  to_char(r.repaired_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as repaired_at
from rollup_repairs as r
order by r.repaired_at desc
limit $1::integer`,
    values: [limit],
  };
}
