import type { Statement } from '../../db/statement.js';

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
 * One row, also before the first backfill: the switch, the pulse and the days by state, from the
 * first with usage to today. A day without a coverage row is unbuilt.
 */
export function backfillStateStatement(rollup: string): Statement {
  return {
    name: 'operations.backfill',
    text: `/* operations.backfill */
select coalesce(b.is_paused, false) as is_paused,
  to_char(b.paused_at at time zone 'UTC', ${ISO}) as paused_at,
  to_char(b.started_at at time zone 'UTC', ${ISO}) as started_at,
  to_char(b.heartbeat_at at time zone 'UTC', ${ISO}) as heartbeat_at,
  to_char(b.finished_at at time zone 'UTC', ${ISO}) as finished_at,
  coalesce(b.rows_done, 0) as rows_done,
  coalesce(b.rows_expected, 0) as rows_expected,
  coalesce(c.unbuilt, 0) as unbuilt, c.building, c.built, c.verified, c.archived, c.claimed,
  to_char(now() at time zone 'UTC', ${ISO}) as now
from (
  select greatest(0, (now() at time zone 'UTC')::date + 1
      - least(min(period), (
        select (u.created_at at time zone 'UTC')::date
        from microdollar_usage as u
        order by u.created_at
        limit 1))
      - count(*) filter (where state <> 'unbuilt')) as unbuilt,
    count(*) filter (where state = 'building') as building,
    count(*) filter (where state = 'built') as built,
    count(*) filter (where state = 'verified') as verified,
    count(*) filter (where state = 'archived') as archived,
    count(*) filter (where claimed_until > now()) as claimed
  from rollup_coverage
  where rollup = $1::text
) as c
left join rollup_backfill as b on b.rollup = $1::text`,
    values: [rollup],
  };
}
