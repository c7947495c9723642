import type { Mutant } from './mutant.js';

const COVERAGE = 'src/rollup/coverage.sql.ts';
const COMPARE = 'src/rollup/compare.sql.ts';
const REBUILD = 'src/rollup/rebuild.sql.ts';
const SETTLED = 'src/rollup/settled.sql.ts';
const VERIFY = 'src/rollup/verify.ts';
const BALANCES = 'src/rollup/balances.sql.ts';

/** Backfill, verification, repair. */
export const ROLLUP_MUTANTS: readonly Mutant[] = [
  {
    name: 'verify: a day is proven as of the end of its verification',
    file: COVERAGE,
    search: 'verified_at = case when $5::integer = 0 then $7::timestamptz else null end',
    replace: 'verified_at = case when $5::integer = 0 then now() else null end',
    tests: ['integration/rollupJobs'],
  },
  {
    name: 'verify: a day that nobody knew is proven as of the end',
    file: COVERAGE,
    search: `  case when $5::integer = 0 then $7::timestamptz end,
  case when $5::integer = 0 then $7::timestamptz end)`,
    replace: `  case when $5::integer = 0 then now() end,
  case when $5::integer = 0 then now() end)`,
    tests: ['integration/rollupJobs', 'integration/verifyRepair'],
  },
  {
    name: 'verify: a clean one hides what a later one found',
    file: COVERAGE,
    search: 'or c.xmin::text = $8::text',
    replace: 'or true',
    tests: ['integration/verifyRepair'],
  },
  {
    name: 'verify: one user proves the day',
    file: VERIFY,
    search: 'if (kiloUserId !== undefined) return;',
    replace: '',
    tests: ['integration/verifyRepair'],
  },
  {
    name: 'verify: drift leaves reads on the rollup',
    file: VERIFY,
    search: 'if (report.driftKeys > 0) await fallBack(database, options.rollup, report);',
    replace: '',
    tests: ['integration/readMode'],
  },
  {
    name: 'verify: counter rows without raw rows are not looked at',
    file: COMPARE,
    search: `from raw as r
  full join counter as c`,
    replace: `from raw as r
  left join counter as c`,
    tests: ['integration/verifyRepair'],
  },
  {
    name: 'verify: a key that no counter row can hold is built',
    file: COMPARE,
    search: "'id is null and fits and (drift <> 0 or request_drift <> 0)'",
    replace: "'id is null and (drift <> 0 or request_drift <> 0)'",
    tests: ['integration/rollupExtremes'],
  },
  {
    name: 'settled: history below the low-water mark and at it',
    file: SETTLED,
    search: '${row}.position < (select w.position from low_water as w)',
    replace: '${row}.position <= (select w.position from low_water as w)',
    tests: ['integration/verifyRepair'],
  },
  {
    name: 'settled: rows of a payer that does not exist are in counters',
    file: SETTLED,
    search: '), exists (',
    replace: '), true or exists (',
    tests: ['integration/latePayers'],
  },
  {
    name: 'settled: an organization of zeros is none',
    file: SETTLED,
    search: '(${a}.organization_id is null) = (${b}.organization_id is null)\n    and ',
    replace: '',
    tests: ['integration/verifyRepair'],
  },
  {
    name: 'rebuild: unsettled rows too',
    file: REBUILD,
    search: 'coalesce(sum(s.cost) filter (where s.is_settled), 0) as settled_cost',
    replace: 'coalesce(sum(s.cost), 0) as settled_cost',
    tests: ['integration/verifyRepair', 'integration/backfill'],
  },
  {
    name: 'rebuild: waits for whoever holds the row',
    file: REBUILD,
    search: 'for no key update skip locked',
    replace: 'for no key update',
    tests: ['integration/verifyRepair', 'integration/backfill'],
  },
  {
    name: 'rebuild: without what was archived',
    file: REBUILD,
    search: 'const total = `(${rollup.archivedCost} + t.settled_cost)`;',
    replace: 'const total = `(0 + t.settled_cost)`;',
    tests: ['integration/archive', 'integration/archiveHorizon', 'integration/verifyRepair'],
  },
  {
    name: 'rebuild: what no row can hold fails its neighbours',
    file: REBUILD,
    search: "and ${fitsCounter(rollup, total, 't.settled_requests')}",
    replace: '',
    tests: ['integration/jobStatements'],
  },
  {
    name: 'backfill: takes a period that another one works on',
    file: COVERAGE,
    search: '\n    and ${IS_FREE}\n  order by',
    replace: '\n  order by',
    tests: ['integration/jobStatements'],
  },
  {
    name: 'backfill: saves progress without the claim',
    file: COVERAGE,
    search: `and claimed_by = $2::uuid
  and period = $3::date
returning`,
    replace: `and $2::uuid is not null
  and period = $3::date
returning`,
    tests: ['integration/jobStatements'],
  },
  {
    name: 'backfill: a period is built as of its end',
    file: COVERAGE,
    search: 'built_at = case when $12::boolean then $13::timestamptz else built_at end',
    replace:
      'built_at = case when $12::boolean and $13::timestamptz is not null then now() ' +
      'else built_at end',
    tests: ['integration/jobStatements'],
  },
  {
    name: 'backfill: leaves what was verified before foreign rows came',
    file: COVERAGE,
    search: '\n      or greatest(c.built_at, c.verified_at) < ${began}::timestamptz)',
    replace: ' or ${began}::timestamptz is null)',
    tests: ['integration/rollupJobs'],
  },
  {
    name: 'backfill: a period with keys that stay wrong is built',
    file: COVERAGE,
    search: 'const isDone = isLast && leftKeys === 0;',
    replace: 'const isDone = isLast;',
    tests: ['integration/jobStatements'],
  },
  {
    name: 'slices: rows that share the instant of an end twice',
    file: 'src/rollup/slices.sql.ts',
    search: 's.created_at > $3::timestamptz',
    replace: 's.created_at >= $3::timestamptz',
    tests: ['integration/rollupSlices'],
  },
  {
    name: 'slices: each of a snapshot of its own',
    file: 'src/rollup/slices.ts',
    search: "{ snapshot: 'read', statementTimeoutMs: SLICE_TIMEOUT_MS },",
    replace: '{ statementTimeoutMs: SLICE_TIMEOUT_MS },',
    tests: ['integration/rollupSlices'],
  },
  {
    name: 'balances: archived cost is no source',
    file: BALANCES,
    search: 'and s.archived_cost_microdollars <> 0',
    replace: 'and false',
    tests: ['integration/verifyRepair', 'integration/archive'],
  },
  {
    name: 'balances: Exa is no source',
    file: BALANCES,
    search: 'select coalesce(sum(s.total_charged_microdollars), 0)',
    replace: 'select coalesce(sum(s.total_charged_microdollars) filter (where false), 0)',
    tests: ['integration/verifyRepair', 'integration/exa'],
  },
  {
    name: 'balances: an opening is derived twice',
    file: BALANCES,
    search: `
  and t.opening_microdollars_used is null
`,
    replace: '\n',
    tests: ['integration/jobStatements'],
  },
];
