import type { Statement } from '../../db/statement.js';
import type { Rollup } from '../../schema/rollups.js';
import { countedPeriodsCtes } from './countedPeriods.sql.js';

export interface BackfillStateRow {
  is_paused: boolean;
  paused_at: string | null;
  started_at: string | null;
  heartbeat_at: string | null;
  finished_at: string | null;
  rows_done: string;
  rows_expected: string;
  unbuilt: string;
  building: string;
  built: string;
  verified: string;
  archived: string;
  /** Periods that a worker of any process holds at the moment. */
  claimed: string;
  now: string;
}

const ISO = `'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'`;

/**
 * One row, also before the first backfill: the switch, the pulse, and by state the days that count
 * (countedPeriods.sql.ts). A day without a coverage row is unbuilt.
 */
export function backfillStateStatement(rollup: Rollup): Statement {
  const count = (state: string) => `count(*) filter (where c.state = '${state}') as ${state}`;
  return {
    name: 'operations.backfill',
    text: `/* operations.backfill */
with recursive ${countedPeriodsCtes(rollup)}
select coalesce(b.is_paused, false) as is_paused,
  to_char(b.paused_at at time zone 'UTC', ${ISO}) as paused_at,
  to_char(b.started_at at time zone 'UTC', ${ISO}) as started_at,
  to_char(b.heartbeat_at at time zone 'UTC', ${ISO}) as heartbeat_at,
  to_char(b.finished_at at time zone 'UTC', ${ISO}) as finished_at,
  coalesce(b.rows_done, 0) as rows_done,
  coalesce(b.rows_expected, 0) as rows_expected,
  d.unbuilt, d.building, d.built, d.verified, d.archived, d.claimed,
  to_char(now() at time zone 'UTC', ${ISO}) as now
from (
  select count(*) filter (where coalesce(c.state, 'unbuilt') = 'unbuilt') as unbuilt,
    ${['building', 'built', 'verified', 'archived'].map(count).join(',\n    ')},
    count(*) filter (where c.claimed_until > now()) as claimed
  from counted as p
  left join rollup_coverage as c
    on c.rollup = '${rollup.name}'
    and c.period = p.period
) as d
left join rollup_backfill as b on b.rollup = '${rollup.name}'`,
    values: [null, null],
  };
}
