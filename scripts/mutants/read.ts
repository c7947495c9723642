import type { Mutant } from './mutant.js';

const REPORT = 'src/report/report.sql.ts';
const MODE = 'src/rollup/readMode.sql.ts';
const FOLLOWER = 'src/rollup/readModeFollower.ts';

/** Reports, and what decides where they come from. */
export const READ_MUTANTS: readonly Mutant[] = [
  {
    name: "report: an organization's unsettled rows by the mark of the user",
    file: REPORT,
    search: `from \${scope.payers} as u
    cross join lateral (`,
    replace: `from (
      select p.id, k.settled_below, k.settled_except
      from \${scope.payers} as p
      cross join kilocode_users as k
      where k.id = $1::text
    ) as u
    cross join lateral (`,
    tests: ['integration/report'],
  },
  {
    name: "report: an organization's unsettled rows of every user",
    file: REPORT,
    search: `and m.kilo_user_id = $1::text
      and m.usage_date between`,
    replace: 'and m.usage_date between',
    tests: ['integration/report'],
  },
  {
    name: 'report: raw usage without the last day',
    file: REPORT,
    search: "and r.created_at < (${until} + 1)::timestamp at time zone 'UTC'",
    replace: "and r.created_at < (${until})::timestamp at time zone 'UTC'",
    tests: ['integration/report'],
  },
  {
    name: 'report: raw usage without what was archived',
    file: REPORT,
    search: 'and d.archived_cost_microdollars <> 0`',
    replace: 'and false`',
    tests: ['integration/report', 'integration/archive'],
  },
  {
    name: 'report: counter rows after the last day',
    file: REPORT,
    search: 'and (d.usage_date <= ${until}) is true',
    replace: '',
    tests: ['integration/report'],
  },
  {
    name: 'gate: a day that was verified before its end is proven',
    file: MODE,
    search: 'and w.verified_at >= (w.day + 1)::timestamp',
    replace: 'and w.verified_at >= (w.day)::timestamp',
    tests: ['integration/readMode'],
  },
  {
    name: 'gate: the lease never ends',
    file: MODE,
    search: 'export const LEASE_MINUTES = 10;',
    replace: 'export const LEASE_MINUTES = 100_000;',
    tests: ['integration/readMode'],
  },
  {
    name: 'gate: known drift is no obstacle',
    file: MODE,
    search: 'w.drift_keys = 0 and coalesce(',
    replace: 'coalesce(',
    tests: ['integration/readMode'],
  },
  {
    name: 'gate: an empty ledger stays proven after a fall',
    file: MODE,
    search: `read_mode_reason = $1::text,
  installed_empty = false,`,
    replace: 'read_mode_reason = $1::text,',
    tests: ['integration/readMode'],
  },
  {
    name: 'gate: comparisons of an earlier shadow count',
    file: MODE,
    search: "shadow_comparisons = case when $1::text = 'shadow' and read_mode <> 'shadow' then 0",
    replace: "shadow_comparisons = case when $1::text = 'shadow' and false then 0",
    tests: ['integration/readMode'],
  },
  {
    name: 'follower: relies on a lease that has run out',
    file: FOLLOWER,
    search: 'if (unseenMs < status.gate.leaseLeftMs) return status;',
    replace: 'if (unseenMs >= 0) return status;',
    tests: ['integration/readMode'],
  },
  {
    name: 'follower: counts time by the clock of the wall alone',
    file: FOLLOWER,
    search: 'this.#clock.monotonicMs() - this.#polledAt.monotonicMs,',
    replace: '',
    tests: ['integration/readMode'],
  },
  {
    name: 'follower: a lease begins when the poll ends',
    file: FOLLOWER,
    search: 'this.#polledAt = polledAt;',
    replace:
      'this.#polledAt = { monotonicMs: this.#clock.monotonicMs(), ' +
      'wallMs: this.#clock.wallMs() };',
    tests: ['integration/readMode'],
  },
  {
    name: 'follower: a comparison that differed changes nothing',
    file: FOLLOWER,
    search: "if (mismatched > 0) this.#mismatch ??= example ?? 'no example kept';",
    replace: '',
    tests: ['integration/readMode'],
  },
  {
    name: 'follower: known drift is not acted upon',
    file: FOLLOWER,
    search: 'status.gate.driftedDays.length > 0',
    replace: 'status.gate.driftedDays.length > 1_000',
    tests: ['integration/readMode'],
  },
];
