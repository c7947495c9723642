import type { Mutant } from './mutant.js';

const ARCHIVE = 'src/rollup/archive/archive.ts';
const MOVE = 'src/rollup/archive/moveRows.ts';
const MOVE_SQL = 'src/rollup/archive/moveRows.sql.ts';
const PLAN = 'src/rollup/archive/plan.sql.ts';
const BESIDE = ['integration/archiveBeside'];

/** Moving raw rows out. */
export const ARCHIVE_MUTANTS: readonly Mutant[] = [
  {
    name: 'archive: prepared transactions are not waited for',
    file: 'src/db/openTransactions.ts',
    search: '#phases = [OPEN_TRANSACTIONS, PREPARED_TRANSACTIONS];',
    replace: '#phases = [OPEN_TRANSACTIONS, PREPARED_TRANSACTIONS].slice(0, 1);',
    tests: ['integration/archiveHorizon', 'integration/softDelete'],
  },
  {
    name: 'archive: older transactions are not waited for',
    file: 'src/rollup/archive/horizon.ts',
    search: 'if (open.length === 0) return;',
    replace: 'if (open.length >= 0) return;',
    tests: ['integration/archiveHorizon'],
  },
  {
    name: 'archive: who has no snapshot yet is not waited for',
    file: 'src/rollup/archive/horizon.ts',
    search: 'ignoresBlank: false',
    replace: 'ignoresBlank: true',
    tests: ['integration/archiveHorizon'],
  },
  {
    name: 'archive: no last proof before rows are deleted',
    file: ARCHIVE,
    search: 'const ended = this.#prove(day);',
    replace: 'const ended = Promise.resolve();',
    tests: ['integration/archiveRefusals'],
  },
  {
    name: 'archive: a request in flight after the plan is no obstacle',
    file: ARCHIVE,
    search: "late.filter(({ kind }) => kind === 'request_in_flight'),",
    replace: 'late.slice(0, 0),',
    tests: ['integration/archiveHorizon', 'integration/archiveRefusals'],
  },
  {
    name: 'archive: unsettled rows are moved',
    file: MOVE,
    search: 'new Set(usage.unsettled)',
    replace: 'new Set<string>()',
    tests: ['integration/archiveRefusals', 'integration/archive'],
  },
  {
    name: 'archive: a payer without budgets has none before the rows are gone',
    file: 'src/schema/budgeted.ts',
    search: 'abs(${row}.position) < ${oldest}, true)',
    replace: 'true)',
    tests: BESIDE,
  },
  {
    name: 'archive: what it counts in budgets is told to nobody',
    file: ARCHIVE,
    search: 'void (await raiseAlerts(...folded))',
    replace: 'void folded',
    tests: BESIDE,
  },
  {
    name: 'archive: the hold of another payer keeps its id for ever',
    file: ARCHIVE,
    search: 'for (const row of holders) {',
    replace: 'for (const row of holders.slice(0, 0)) {',
    tests: BESIDE,
  },
  {
    name: 'archive: expiries do not know of a row that is deleted',
    file: MOVE_SQL,
    search: "\n      and ${isKnownToExpiries('u')}",
    replace: '',
    tests: BESIDE,
  },
  {
    name: 'archive: a row that differs from its file is deleted',
    file: MOVE_SQL,
    search: '      and u.cost = f.cost\n',
    replace: '',
    tests: ['integration/archiveFiles'],
  },
  {
    name: 'archive: what was archived before is forgotten',
    file: MOVE_SQL,
    search: 'archived_cost_microdollars = d.archived_cost_microdollars + t.cost',
    replace: 'archived_cost_microdollars = t.cost',
    tests: ['integration/archive', 'integration/archiveHalfDay'],
  },
  {
    name: 'archive: waits for a daily row that is held',
    file: MOVE_SQL,
    search: 'for no key update of d skip locked',
    replace: 'for no key update of d',
    tests: ['integration/archive'],
  },
  {
    name: 'archive: takes more than a counter row can hold',
    file: MOVE,
    search: 'return (archived < 0n ? -archived : archived) < BigInt(COUNTER_LIMIT);',
    replace: 'return archived !== BigInt(COUNTER_LIMIT);',
    tests: ['integration/archiveRefusals'],
  },
  {
    name: 'archive: a day is marked while it has rows',
    file: PLAN,
    search: `where not exists (
  select from microdollar_usage as s
  where \${withinPeriod(DAILY_ROLLUP, 's.created_at', '$1::date')})
on conflict`,
    replace: 'where true\non conflict',
    tests: ['integration/archive', 'integration/archiveRefusals'],
  },
  {
    name: 'archive: a day that was verified before its end is proven',
    file: PLAN,
    search: `
      and c.verified_at >= (d.period + 1)::timestamp at time zone 'UTC', false) as is_proven`,
    replace: ', false) as is_proven',
    tests: ['integration/archiveRefusals'],
  },
  {
    name: 'archive: a file is named before it is on the disk',
    file: 'src/rollup/archive/writeFile.ts',
    search: 'await onDisk(directory, () => file.sync());',
    replace: '',
    tests: ['integration/archiveFiles'],
  },
  {
    name: 'archive: the name of a file is not on the disk',
    file: 'src/rollup/archive/writeFile.ts',
    search: 'await fileSystem.syncDirectory(directory);',
    replace: '',
    tests: ['integration/archiveFiles'],
  },
];
