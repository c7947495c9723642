import type { Mutant } from './mutant.js';

const MARKS = 'src/counter/marks.sql.ts';
const SETTLE = 'src/counter/settle.sql.ts';
const SETTLER = 'src/counter/settler.ts';
const EXA = 'src/counter/settleExa.sql.ts';
const SWEEP = 'src/counter/sweep.ts';
const UNSETTLED = 'src/schema/unsettled.ts';
const FUNCTIONS = 'drizzle/0001_functions.sql';

/** Marks, folds, sweeps, and the functions that open counter rows. */
export const SETTLE_MUTANTS: readonly Mutant[] = [
  {
    name: 'marks: an exception is dropped while its transaction is open',
    file: MARKS,
    search: `
          or e = any ((select s.running from s)::bigint[])`,
    replace: '',
    tests: ['integration/settleSteps'],
  },
  {
    name: 'marks: a transaction below the locked mark becomes an exception again',
    file: MARKS,
    search: `where r >= u.below
          and r < b.mark`,
    replace: 'where r < b.mark',
    tests: ['integration/settleSteps'],
  },
  {
    name: 'marks: open transactions become no exceptions',
    file: MARKS,
    search: 'unnest(s.running) as r where r < s.mark) as running',
    replace: 'unnest(s.running) as r where false) as running',
    tests: ['integration/settleSteps'],
  },
  {
    name: 'marks: a mark falls',
    file: MARKS,
    search: 'select u.*, greatest(u.below, b.mark) as new_below,',
    replace: 'select u.*, b.mark as new_below,',
    tests: ['integration/settleSteps', 'integration/settleLimits'],
  },
  {
    name: 'marks: a fold in a cluster that the ledger does not know',
    file: MARKS,
    search: 'and (select s.base from s) < ${UNKNOWN_GENERATION}',
    replace: '',
    tests: ['integration/settleLimits', 'integration/generation'],
  },
  {
    name: 'marks: a part ends within a transaction',
    file: MARKS,
    search: 'select greatest(m.position, m.first + 1)',
    replace: 'select m.position',
    tests: ['integration/settleLimits'],
  },
  {
    name: 'marks: waits for whoever holds a payer',
    file: MARKS,
    search: 'for no key update of u skip locked',
    replace: 'for no key update of u',
    tests: ['integration/foldRivals'],
  },
  {
    name: 'marks: a row at the new mark is settled',
    file: MARKS,
    search: "'m.position < u.new_below and",
    replace: "'m.position <= u.new_below and",
    tests: ['integration/settleLimits'],
  },
  {
    name: 'marks: rows of exceptions are settled',
    file: MARKS,
    search: ' and m.position <> all (u.new_except)',
    replace: '',
    tests: ['integration/settleSteps', 'integration/settleLimits'],
    changesNothing: 'no transaction that a snapshot shows as open has a row in it',
  },
  {
    name: 'settle: waits for whoever holds a day',
    file: SETTLE,
    search: 'for no key update of d skip locked',
    replace: 'for no key update of d',
    tests: ['integration/foldRivals'],
  },
  {
    name: 'settle: some days of a payer, not all or none',
    file: SETTLE,
    search: 'case when bool_and(d.fits) then',
    replace: 'case when bool_or(d.fits) then',
    tests: ['integration/settleLimits'],
    changesNothing: 'fits is of the payer, so the same for each of its days',
  },
  {
    name: 'settle: days of a payer whose other day is held',
    file: SETTLE,
    search: ') over payer\n',
    replace: ') over (partition by p.id, p.day)\n',
    tests: ['integration/settleLimits'],
  },
  {
    name: 'settle: the answer is without the tail',
    file: SETTLE,
    search: 'f.used + f.tail_cost as balance',
    replace: 'f.used + f.cost as balance',
    tests: ['integration/fold', 'integration/record'],
  },
  {
    name: 'settle: days that cancel out leave the mark behind',
    file: SETTLE,
    search: 'where f.settled > 0',
    replace: 'where f.cost <> 0',
    tests: ['integration/settleLimits'],
  },
  {
    name: 'settle: a balance of 64 bits overflows',
    file: SETTLE,
    search: `
      and abs(p.used + sum(p.cost) over payer) < \${COUNTER_LIMIT}`,
    replace: '',
    tests: ['integration/settleLimits'],
  },
  {
    name: 'settle: a day of 64 bits overflows',
    file: SETTLE,
    search: 'abs(d.total_cost_microdollars + p.cost) < ${COUNTER_LIMIT}) is true',
    replace: 'd.id is not null)',
    tests: ['integration/settleLimits'],
  },
  {
    name: 'exa: some months of a payer, not all or none',
    file: EXA,
    search: 'having bool_and(m.fits is true)',
    replace: 'having bool_or(m.fits is true)',
    tests: ['integration/settleLimits', 'integration/exa'],
  },
  {
    name: 'exa: charges by request, not by the total of the month',
    file: EXA,
    search: `
      - e.total_charged_microdollars as delta`,
    replace: ' as delta',
    tests: ['integration/exa'],
  },
  {
    name: 'exa: a request without a cost is counted',
    file: EXA,
    search: 'count(*) filter (where m.cost <> 0) as requests',
    replace: 'count(*) as requests',
    tests: ['integration/foreignRows'],
  },
  {
    name: 'settler: missing counter rows are never opened',
    file: SETTLER,
    search: 'if (short.length > 0 && (await this.#open(USAGE_LOG, scope, short)) > 0) {',
    replace: 'if (false) {',
    tests: ['integration/fold'],
  },
  {
    name: 'settler: one payer fails for all',
    file: SETTLER,
    search: "const isOnesOwn = kind === 'data' || isStatementTimeout(error);",
    replace: "const isOnesOwn = kind === 'data' && isStatementTimeout(error);",
    tests: ['integration/payerIsolation'],
  },
  {
    name: 'sweep: ends at the first page',
    file: SWEEP,
    search: 'if (page.payers < PAYERS_PER_PAGE) break;',
    replace: 'if (page.payers <= PAYERS_PER_PAGE) break;',
    tests: ['integration/fold'],
  },
  {
    name: 'sweep: notes more than is settled',
    file: SWEEP,
    search: 'swept.settledBelow = lowest;',
    replace: 'lowest;',
    tests: ['integration/sweepProof'],
  },
  {
    name: 'sweep: takes what has begun for what has ended',
    file: 'src/counter/sweep.sql.ts',
    search: 'txid_snapshot_xmin(',
    replace: 'txid_snapshot_xmax(',
    tests: ['integration/fold'],
  },
  {
    name: 'sweep: notes what open transactions may bring payers of',
    file: SWEEP,
    search: 'if (now.endedBelow < reading.begunBelow) return 0n;',
    replace: '',
    tests: ['integration/latePayers'],
  },
  {
    name: 'sweep: notes though payers came behind its back',
    file: 'src/counter/sweep.sql.ts',
    search: '::bigint = $3::bigint',
    replace: '::bigint >= $3::bigint',
    tests: ['integration/latePayers'],
  },
  {
    name: 'unsettled: a row at the mark is settled',
    file: UNSETTLED,
    search: 'and m.position >= ${payer}.${log.below}',
    replace: 'and m.position > ${payer}.${log.below}',
    tests: ['integration/settleSteps', 'integration/settleLimits'],
  },
  {
    name: 'unsettled: exceptions are forgotten by reads',
    file: UNSETTLED,
    search: "and ${payer}.${log.except} <> '{}'\n",
    replace: 'and false\n',
    tests: ['integration/settleSteps'],
  },
  {
    name: 'unsettled: the proof takes a row at the mark for settled',
    file: UNSETTLED,
    search: 'or (${row}.position < ${payer}.${log.below}',
    replace: 'or (${row}.position <= ${payer}.${log.below}',
    tests: ['integration/settleLimits'],
  },
  {
    name: 'functions: opening a day waits for a rival',
    file: FUNCTIONS,
    search:
      "if not pg_try_advisory_xact_lock(1297369170 # 'ledger_settings'::regclass::integer,\n    microdollar_key_bucket(p_usage_date, 'microdollar_usage_daily|' || p_kilo_user_id || '|'\n      || coalesce(p_organization_id::text, '')))\n  then\n    return false;\n  end if;",
    replace: '',
    tests: ['integration/neverWait'],
  },
  {
    name: 'functions: an unknown cluster is taken for a known one',
    file: FUNCTIONS,
    search: 'or not v_has_reached or v_present <> v_known then',
    replace: 'then',
    tests: ['integration/generation', 'integration/restore'],
  },
  {
    name: 'functions: the id of a lookup value follows a sequence',
    file: FUNCTIONS,
    search: 'v_id := (1073741824 + (hashtextextended(p_value, v_seed) & 1073741823))::integer;',
    replace: 'v_id := 1073741824 + v_seed;',
    tests: ['integration/lookups'],
  },
];
