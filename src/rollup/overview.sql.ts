import type { Statement } from '../db/statement.js';
import { DIMENSION_ROLLUPS } from '../schema/dimensionRollups.js';
import { DAILY_ROLLUP, EXA_ROLLUP } from '../schema/rollups.js';

export interface OverviewRow {
  rollup: string;
  unbuilt: string;
  building: string;
  built: string;
  verified: string;
  archived: string;
  first_period: string | null;
  last_period: string | null;
  drift_keys: string;
  /** Of them: those of periods that are not built yet. */
  unbuilt_drift_keys: string;
  drift_microdollars: string;
  last_verified_at: string | null;
  is_paused: boolean;
  paused_at: string | null;
  started_at: string | null;
  heartbeat_at: string | null;
  finished_at: string | null;
  rows_done: string;
  rows_expected: string;
}

/** In the order in which jobs take them. */
const NAMES = [DAILY_ROLLUP, EXA_ROLLUP, ...DIMENSION_ROLLUPS].map(({ name }) => name);

/** A row per rollup: its coverage by state, known drift, and the state of its backfill. */
export function overviewStatement(): Statement {
  const count = (state: string) => `count(*) filter (where c.state = '${state}') as ${state}`;
  const instant = (column: string) =>
    `to_char(${column} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')`;
  return {
    name: 'microdollar_rollup_overview',
    text: `/* microdollar.rollupOverview */
select n.rollup,
  ${['unbuilt', 'building', 'built', 'verified', 'archived'].map(count).join(',\n  ')},
  min(c.period)::text as first_period,
  max(c.period)::text as last_period,
  coalesce(sum(c.drift_keys), 0) as drift_keys,
  coalesce(sum(c.drift_keys) filter (where c.state in ('unbuilt', 'building')), 0)
    as unbuilt_drift_keys,
  coalesce(sum(c.drift_microdollars), 0) as drift_microdollars,
  ${instant('max(c.verified_at)')} as last_verified_at,
  coalesce(b.is_paused, false) as is_paused,
  ${instant('b.paused_at')} as paused_at,
  ${instant('b.started_at')} as started_at,
  ${instant('b.heartbeat_at')} as heartbeat_at,
  ${instant('b.finished_at')} as finished_at,
  coalesce(b.rows_done, 0) as rows_done,
  coalesce(b.rows_expected, 0) as rows_expected
from unnest(array[${NAMES.map((name) => `'${name}'`).join(', ')}])
  with ordinality as n (rollup, place)
left join rollup_coverage as c on c.rollup = n.rollup
left join rollup_backfill as b on b.rollup = n.rollup
group by n.rollup, n.place, b.rollup, b.is_paused, b.paused_at, b.started_at, b.heartbeat_at, b.finished_at,
  b.rows_done, b.rows_expected
order by n.place`,
    values: [],
  };
}
