import { type DimensionRollup, isOfPayer, PERIOD_ORIGIN } from '../../schema/dimensionRollups.js';
import type { Payers } from './sources.sql.js';

/** Today and yesterday count as proven while their last verification is younger. */
const LEASE_MINUTES = 10;

/**
 * `days`: a common table expression of the UTC days of the range for which counter rows and tail of
 * a rollup are not proven (I10); `isEmpty`: whether none of these has anything of the payer. A day
 * is proven when it is frozen by the archive; verified after its end, today and yesterday by a
 * lease; or, where all usage is the ledger's own, folded from the log from its beginning; and no
 * drift is known. In two steps, so that usage is looked for only on days that are not proven.
 */
export function proofOf(rollup: DimensionRollup, payers: readonly Payers[], name: string) {
  const own = (
    { scope, ids }: Payers,
    row: string,
    instant: string,
  ) => `${isOfPayer(scope, row, ids)}
      and ${row}.${instant} >= d.at
      and ${row}.${instant} < d.at + interval '24 hours'`;
  const days = `${name} as materialized (
  select d.at
  from (
    select g as at, (g at time zone 'UTC')::date as day
    from bounds as b
    cross join generate_series(
      date_bin('24 hours', b.previous, ${PERIOD_ORIGIN}),
      b.last - interval '1 microsecond', interval '24 hours') as g
  ) as d
  cross join (select (now() at time zone 'UTC')::date as today) as t
  cross join ledger_settings as s
  left join rollup_starts as r on r.rollup = '${rollup.name}'
  left join rollup_coverage as c
    on c.rollup = '${rollup.name}'
    and c.period = d.day
  where (coalesce(c.drift_keys, 0) = 0 and (
      c.state = 'archived'
      or (s.installed_empty and d.at > r.started_at)
      or (c.state = 'verified' and d.day < t.today - 1
        and c.verified_at >= d.at + interval '24 hours')
      or (c.state = 'verified' and d.day >= t.today - 1
        and c.verified_at >= now() - interval '${LEASE_MINUTES} minutes'))
    ) is not true
)`;
  // Each payer and table by an index of its own: together they would be looked for by time alone.
  const anything = payers.flatMap((each) => [
    `exists (select from microdollar_usage as m where ${own(each, 'm', 'created_at')})`,
    `exists (select from ${rollup.name} as c where ${own(each, 'c', 'period_start')})`,
  ]);
  const isEmpty = `not exists (
    select
    from ${name} as d
    where ${anything.join('\n      or ')}
  )`;
  return { days, isEmpty };
}
