import type { Statement } from '../db/statement.js';
import { threeMonthWindow } from '../schema/rollups.js';
import type { ReadMode } from '../schema/settings.js';

/** Today and yesterday count as proven while their last verification is younger. */
export const LEASE_MINUTES = 10;
/** Shadow comparisons without a mismatch before `rollup` is allowed. */
export const REQUIRED_COMPARISONS = 100;

export interface ReadModeRow {
  read_mode: ReadMode;
  read_mode_reason: string | null;
  installed_empty: boolean;
  shadow_comparisons: string;
  shadow_mismatches: string;
  shadow_since: string | null;
  today: string;
  /** Days of the window that are not proven. */
  unproven_days: string[];
  /** Days, of any age, whose last check found drift. */
  drifted_days: string[];
  /** Age of the older verification of today and yesterday, ms; null = never. */
  lease_age_ms: number | null;
  /** Seconds since 1970; null = nothing was ever archived. */
  archive_horizon_seconds: number | null;
  /** Null: the ledger is no shard. */
  shard_name: string | null;
}

/** What reads use, so what has to be proven. */
const WINDOW = threeMonthWindow();

/**
 * Two table expressions, of days of the daily rollup.
 *   window_days  every day of the window with what is known of it
 *   judged       proven: built, verified after its end (I10); today and yesterday by the lease.
 *                On a ledger that was installed empty all rows are its own: a day is proven by
 *                construction until a check finds drift
 */
export const judgedDays = (from: string, until: string): string => `window_days as (
  select p::date as day, ${WINDOW.until} as today, c.state, c.verified_at,
    coalesce(c.drift_keys, 0) as drift_keys
  from generate_series(${from}::timestamp, ${until}::timestamp,
    interval '1 day') as p
  left join rollup_coverage as c
    on c.rollup = 'microdollar_usage_daily'
    and c.period = p::date
),
judged as (
  select w.day,
    w.drift_keys = 0 and coalesce(
      s.installed_empty
      or w.state = 'archived'
      or (w.state = 'verified' and w.day < w.today - 1
        and w.verified_at >= (w.day + 1)::timestamp at time zone 'UTC')
      or (w.state = 'verified' and w.day >= w.today - 1
        and w.verified_at >= now() - interval '${LEASE_MINUTES} minutes'),
      false) as is_proven
  from window_days as w, ledger_settings as s
)`;

/** The stored mode and what the proof of the three-month window looks like, in one snapshot. */
export function readModeStatement(): Statement {
  return {
    name: 'microdollar_read_mode',
    text: `/* microdollar.readMode */
with ${judgedDays(WINDOW.from, WINDOW.until)}
select s.read_mode, s.read_mode_reason, s.installed_empty, s.shadow_comparisons,
  s.shadow_mismatches, s.shadow_since::text,
  ${WINDOW.until}::text as today,
  array(select day::text from judged where not is_proven order by day) as unproven_days,
  array(
    select period::text
    from rollup_coverage
    where rollup = 'microdollar_usage_daily'
      and drift_keys > 0
    order by period) as drifted_days,
  (
    select case when count(w.verified_at) = 2
      then (extract(epoch from now() - min(w.verified_at)) * 1000)::float8 end
    from window_days as w
    where w.day >= w.today - 1
  ) as lease_age_ms,
  extract(epoch from s.archive_horizon)::float8 as archive_horizon_seconds, s.shard_name
from ledger_settings as s`,
    values: [],
  };
}

/** Stores a mode. Entering `shadow` begins its count anew. */
export function storeModeStatement(mode: ReadMode, reason: string | null): Statement {
  return {
    name: 'microdollar_store_read_mode',
    text: `/* microdollar.storeReadMode */
update ledger_settings
set read_mode = $1::text,
  read_mode_reason = $2::text,
  shadow_comparisons = case when $1::text = 'shadow' and read_mode <> 'shadow' then 0
    else shadow_comparisons end,
  shadow_mismatches = case when $1::text = 'shadow' and read_mode <> 'shadow' then 0
    else shadow_mismatches end,
  shadow_since = case when $1::text = 'shadow' and read_mode <> 'shadow' then now()
    else shadow_since end,
  updated_at = now()`,
    values: [mode, reason],
  };
}

/** Adds comparisons that a process made. They count only while the mode is `shadow`. */
export function addComparisonsStatement(comparisons: number, mismatches: number): Statement {
  return {
    name: 'microdollar_add_comparisons',
    text: `/* microdollar.addShadowComparisons */
update ledger_settings
set shadow_comparisons = shadow_comparisons + $1::bigint,
  shadow_mismatches = shadow_mismatches + $2::bigint,
  updated_at = now()
where read_mode = 'shadow'`,
    values: [comparisons, mismatches],
  };
}

/** From `rollup` back to `raw`; a row only when that changed something. */
export function fallBackStatement(reason: string): Statement {
  return {
    name: 'microdollar_fall_back',
    text: `/* microdollar.fallBackToRaw */
update ledger_settings
set read_mode = 'raw',
  read_mode_reason = $1::text,
  installed_empty = false,
  updated_at = now()
where read_mode = 'rollup'
returning read_mode`,
    values: [reason],
  };
}

/** Rows that another program wrote: nothing is proven by construction any more. */
export function noteForeignRowsStatement(reason: string): Statement {
  return {
    name: 'microdollar_note_foreign_rows',
    text: `/* microdollar.noteForeignRows */
update ledger_settings
set installed_empty = false,
  read_mode = case when read_mode = 'rollup' and installed_empty then 'raw' else read_mode end,
  read_mode_reason = case when read_mode = 'rollup' and installed_empty then $1::text
    else read_mode_reason end,
  updated_at = now()
where installed_empty
returning read_mode`,
    values: [reason],
  };
}
