import { createLedger } from '../../src/ledger.js';
import type { Ledger } from '../../src/ledgerTypes.js';
import { checkInvariants } from '../../test/support/checkInvariants.js';
import { type Abuse, abuses } from '../lib/abuses.js';
import type { Bench, BenchDatabase } from '../lib/bench.js';
import { atRate } from '../lib/openLoop.js';
import { eventSource, type Population, userId } from '../lib/population.js';
import type { Check, Comparison, Findings, Scenario, Table } from '../lib/scenario.js';
import { quantile, quantilesOf, ratiosPerRound, round } from '../lib/statistics.js';

const USERS = 1_000;
const WRITES_PER_SECOND = 100;
const READS_PER_SECOND = 50;
/** Measured of each abuse, as much of the time before it. */
const SECONDS = 20;
const ROUNDS = 5;
const HUGE_DAY_ROWS = 1_000_000;
const POPULATION: Population = {
  users: USERS,
  draw: (random) => () => Math.floor(random() * USERS),
};
const TARGET = { atMost: 2 };

export const neighbours: Scenario = {
  name: 'neighbours',
  title: 'Neighbours of a payer who goes too far',
  question:
    'One payer abuses the ledger, or is abused: do the writes and reads of all others take longer?',
  workload: `${WRITES_PER_SECOND} events and ${READS_PER_SECOND} reads (balance, three months by day) a second
of ${USERS.toLocaleString('en-US')} other users, through one ledger with its background work. A call
counts from the moment it was due. Each abuse has slices of its own, each after a quiet one.`,
  baseline: 'The same calls in the quiet slice right before, of the same ledger and database.',
  run,
};

/** Times of calls in one slice, ms. */
interface Slice {
  writesMs: number[];
  readsMs: number[];
  failures: string[];
}

interface Outcome {
  abuse: Abuse;
  /** How often it was done while it was measured. */
  done: number;
  quiet: Slice[];
  abused: Slice[];
}

async function run(bench: Bench): Promise<Findings> {
  const [database] = await bench.createDatabases(POPULATION, 1);
  if (!database) throw new Error('no database was created');
  const ledger = await createLedger({ databaseUrl: database.url, poolSize: 10 });
  try {
    const outcomes: Outcome[] = [];
    await measureSlice(ledger, 1_000, 1);
    for (const abuse of abuses(bench.pick(HUGE_DAY_ROWS, 50_000))) {
      await abuse.prepare(database, ledger);
      outcomes.push(await measureAbuse(bench, database, ledger, abuse));
    }
    await ledger.fold();
    return toFindings(outcomes, await checkInvariants(database.admin));
  } finally {
    await ledger.close();
    await database.drop();
  }
}

async function measureAbuse(
  bench: Bench,
  database: BenchDatabase,
  ledger: Ledger,
  abuse: Abuse,
): Promise<Outcome> {
  const rounds = bench.pick(ROUNDS, 2);
  const sliceMs = ((bench.options.seconds ?? bench.pick(SECONDS, 4)) * 1_000) / rounds;
  const outcome: Outcome = { abuse, done: 0, quiet: [], abused: [] };
  for (let index = 0; index < rounds; index++) {
    outcome.quiet.push(await measureSlice(ledger, sliceMs, 2 * index));
    const going = await abuse.begin(database, ledger);
    const abused = await measureSlice(ledger, sliceMs, 2 * index + 1);
    outcome.done += await going.stop();
    outcome.abused.push(abused);
  }
  const p99 = (slices: readonly Slice[]) =>
    quantilesOf(slices.flatMap((each) => each.writesMs)).p99;
  bench.log(`  ${abuse.name}: p99 of writes ${p99(outcome.quiet)} -> ${p99(outcome.abused)} ms`);
  return outcome;
}

async function measureSlice(ledger: Ledger, durationMs: number, seed: number): Promise<Slice> {
  const nextEvent = eventSource(POPULATION, seed + 100);
  const until = new Date().toISOString().slice(0, 10);
  const from = new Date(Date.now() - 90 * 86_400_000).toISOString().slice(0, 10);
  let reads = 0;
  const read = () => {
    const user = userId((reads++ * 7) % USERS);
    return reads % 2 === 0
      ? ledger.getUserBalance(user)
      : ledger.getDailyUsage({ kilo_user_id: user, from, until });
  };
  const [writes, answered] = await Promise.all([
    atRate(WRITES_PER_SECOND, durationMs, () => ledger.recordUsage(nextEvent())),
    atRate(READS_PER_SECOND, durationMs, read),
  ]);
  return {
    writesMs: writes.timesMs,
    readsMs: answered.timesMs,
    failures: [...writes.failures, ...answered.failures],
  };
}

type Calls = 'writesMs' | 'readsMs';
const CALLS: readonly [Calls, string][] = [
  ['writesMs', 'writes'],
  ['readsMs', 'reads'],
];

function toFindings(outcomes: readonly Outcome[], differences: readonly string[]): Findings {
  return {
    comparisons: outcomes.flatMap((outcome) =>
      CALLS.map(([calls, what]) => compare(outcome, calls, what)),
    ),
    tables: [latencyTable(outcomes)],
    charts: [
      {
        type: 'bar',
        name: 'p99',
        title: 'p99 of other payers’ writes (whiskers: p50 and slowest)',
        unit: 'ms',
        bars: outcomes.flatMap(({ abuse, quiet, abused }) =>
          (
            [
              ['quiet', quiet],
              [abuse.name, abused],
            ] as const
          ).map(([label, slices]) => {
            const { p50, p99, max } = quantilesOf(slices.flatMap((each) => each.writesMs));
            return { label, kind: 'ours' as const, value: p99, low: p50, high: max };
          }),
        ),
      },
    ],
    checks: [...outcomes.map(toCheck), toExactCheck(differences)],
  };
}

function compare({ abuse, quiet, abused }: Outcome, calls: Calls, what: string): Comparison {
  const p99s = (slices: readonly Slice[]) => slices.map((each) => quantile(each[calls], 0.99));
  return {
    subject: abuse.label,
    baseline: 'the slice before',
    measure: `p99 ms of other payers' ${what}`,
    ratios: ratiosPerRound(p99s(abused), p99s(quiet)),
    target: TARGET,
  };
}

function latencyTable(outcomes: readonly Outcome[]): Table {
  return {
    title: 'Latency of other payers (ms), over all slices',
    columns: ['abuse', 'calls', 'p50 before', 'p50', 'p99 before', 'p99', 'max before', 'max'],
    rows: outcomes.flatMap(({ abuse, quiet, abused }) =>
      CALLS.map(([calls, what]) => {
        const before = quantilesOf(quiet.flatMap((each) => each[calls]));
        const while_ = quantilesOf(abused.flatMap((each) => each[calls]));
        const pairs = (['p50', 'p99', 'max'] as const).flatMap((q) => [before[q], while_[q]]);
        return [abuse.label, what, ...pairs.map((value) => round(value))];
      }),
    ),
  };
}

function toCheck({ abuse, done, quiet, abused }: Outcome): Check {
  const failures = [...quiet, ...abused].flatMap((slice) => slice.failures);
  return {
    name: `${abuse.name}: it happened, and no call of others failed`,
    ok: done > 0 && failures.length === 0,
    detail: failures[0] ?? `done ${done} times`,
  };
}

function toExactCheck(differences: readonly string[]): Check {
  return {
    name: 'totals equal raw usage, also of the payers who went too far',
    ok: differences.length === 0,
    detail: differences.slice(0, 3).join('; ') || 'every payer and day',
  };
}
