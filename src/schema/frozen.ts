import { type DimensionRollup, isRowCounted } from './dimensionRollups.js';

/**
 * What the archive took away, by a rollup. Its days are frozen, proven, before their first raw row is
 * deleted: so usage is raw usage, whatever the archive's horizon is, and of frozen days the rollup less
 * what it counts of the raw rows that are still there.
 */
export const frozenDays = ({ name }: DimensionRollup): string => `frozen as materialized (
  select c.period as day
  from rollup_coverage as c
  where c.rollup = '${name}'
    and c.state = 'archived'
)`;

/** Counter rows that count, given `frozenDays`: by the start of their period. */
export const isFrozen = (instant: string): string =>
  `(${instant} at time zone 'UTC')::date in (select f.day from frozen as f)`;

/** Log rows `row` that frozen counter rows have as well: to be taken off. */
export const isInFrozen = (rollup: DimensionRollup, row: string): string =>
  `${isFrozen(`${row}.created_at`)}
      and ${isRowCounted(rollup, row)}`;

/** Before it, all that is frozen lies: a bound for the index on time. */
export const ARCHIVE_HORIZON = `(select coalesce(s.archive_horizon, '-infinity') from ledger_settings as s)`;
