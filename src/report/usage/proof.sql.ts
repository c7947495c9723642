import {
  type DimensionRollup,
  isOfPayer,
  PERIOD_ORIGIN,
  QUARTER_HOURLY,
} from '../../schema/dimensionRollups.js';
import type { Bounds } from './calendar.sql.js';
import type { Payers } from './sources.sql.js';

/** Today and yesterday count as proven while their last verification is younger. */
const LEASE_MINUTES = 10;

/**
 * Common table expressions up to `proof`: whether counter rows and tails of these rollups are proven for the
 * range (I10). A day is when it is frozen by the archive; verified after its end, today and yesterday
 * by a lease; or, where all usage is the ledger's own, folded from the log from its beginning; and no
 * drift is known. In two steps, so that usage is looked for only where days are not proven, and only on
 * these: one that has nothing of the payer needs no proof. Of what was archived before a rollup came only
 * the oldest one, the quarters, has anything.
 */
export function proofOf(
  rollups: readonly DimensionRollup[],
  payers: readonly Payers[],
  bounds: Bounds,
): string[] {
  const parts = rollups.map((rollup, index) => partOf(rollup, payers, bounds, index + 1));
  return [
    ...parts.flatMap(({ expressions }) => expressions),
    `proof as materialized (
  select ${['true', ...parts.map(({ isProven }) => isProven)].join('\n  and ')} as is_proven
)`,
  ];
}

function partOf(
  rollup: DimensionRollup,
  payers: readonly Payers[],
  { previous, last }: Bounds,
  index: number,
) {
  // UTC days of the range.
  const firstDay = `date_bin('24 hours', ${previous}, ${PERIOD_ORIGIN})`;
  const afterLast = `(${last} - interval '1 microsecond')`;
  const [known, unproven] = [`known_${index}`, `unproven_${index}`];
  const own = (
    { scope, ids }: Payers,
    row: string,
    instant: string,
  ) => `${isOfPayer(scope, row, ids)}
      and ${row}.${instant} >= d.at
      and ${row}.${instant} < d.at + interval '24 hours'`;
  // Each payer and table by an index of its own: together they would be looked for by time alone.
  const counters = new Set([rollup.name, QUARTER_HOURLY.name]);
  const anything = payers.flatMap((each) => [
    `exists (select from microdollar_usage as m where ${own(each, 'm', 'created_at')})`,
    ...[...counters].map(
      (name) => `exists (select from ${name} as c where ${own(each, 'c', 'period_start')})`,
    ),
  ]);
  return {
    expressions: [
      `${known} as materialized (
  select array_agg(c.period) filter (where c.is_proven is true) as proven,
    array_agg(c.period) filter (where c.drift_keys > 0) as drifted,
    (select r.started_at
      from rollup_starts as r
      cross join ledger_settings as s
      where r.rollup = '${rollup.name}'
        and s.installed_empty) as folded_after
  from (
    select c.period, c.drift_keys, c.drift_keys = 0
      and (c.state = 'archived'
        or (c.state = 'verified' and c.period < t.today - 1
          and c.verified_at >= (c.period + 1)::timestamp at time zone 'UTC')
        or (c.state = 'verified' and c.period >= t.today - 1
          and c.verified_at >= now() - interval '${LEASE_MINUTES} minutes')) as is_proven
    from (select (now() at time zone 'UTC')::date as today) as t
    cross join rollup_coverage as c
    where c.rollup = '${rollup.name}'
      and c.period >= (${firstDay} at time zone 'UTC')::date
      and c.period <= (${afterLast} at time zone 'UTC')::date
  ) as c
), ${unproven} as materialized (
  select x.day::timestamp at time zone 'UTC' as at
  from (
    select (d.at at time zone 'UTC')::date as day
    from generate_series(${firstDay}, ${afterLast}, interval '24 hours') as d(at)
    where (d.at > (select k.folded_after from ${known} as k)) is not true
    union all
    select unnest(k.drifted) from ${known} as k
    except
    select unnest(k.proven) from ${known} as k
  ) as x
)`,
    ],
    isProven: `((select k.drifted is null and ${firstDay} > k.folded_after from ${known} as k) is true
    or not exists (
      select
      from ${unproven} as d
      where ${anything.join('\n        or ')}
    ))`,
  };
}
