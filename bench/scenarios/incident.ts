import type { Bench, BenchDatabase } from '../lib/bench.js';
import {
  type Application,
  HOLD_MS,
  Holder,
  LockSampler,
  type OpenApplication,
  openOurs,
  openSeed,
  POOL_SIZE,
} from '../lib/incident.js';
import { atRate } from '../lib/openLoop.js';
import { eventSource, type Population, userId } from '../lib/population.js';
import type { Check, Comparison, Findings, Quantiles, Scenario } from '../lib/scenario.js';
import { quantilesOf, round } from '../lib/statistics.js';

const WRITES_PER_SECOND = 9;
const QUERIES_PER_SECOND = 20;
const HOT_USER: Population = { users: 100, draw: () => () => 0 };

export const incident: Scenario = {
  name: 'incident',
  title: 'The incident of 2026-08',
  question:
    'A counter gets 9 writes a second while others hold transactions on it open: who waits, and does an unrelated query wait too?',
  workload: `An application with a pool of ${POOL_SIZE} connections writes ${WRITES_PER_SECOND} events a
second of one user, and sends ${QUERIES_PER_SECOND} unrelated queries a second through the same pool.
First alone (quiet); then while another client updates the user's row and holds its transaction open
for ${HOLD_MS} ms, again and again; then with three such clients, the 9 x ${HOLD_MS} ms a second of the
incident. A call counts from the moment it was due. pg_locks is sampled every 25 ms.`,
  baseline:
    "The same application with the seed's statement, at the same time, on a database of its own.",
  run,
};

interface Phase {
  holders: number;
  writesMs: Quantiles;
  queriesMs: Quantiles;
  failures: string[];
  /** Share of samples in which something of the application waited for a lock. */
  waits: Map<string, number>;
  samples: number;
  maxWaiting: number;
  events: number;
}

const HOLDERS = [0, 1, 3];

async function run(bench: Bench): Promise<Findings> {
  const openers: OpenApplication[] = [openSeed, openOurs];
  const databases = await bench.createDatabases(HOT_USER, openers.length);
  const results = await Promise.all(
    openers.map((open, index) => runApplication(bench, open, databases[index] as BenchDatabase)),
  );
  for (const database of databases) await database.drop();
  return toFindings(results);
}

interface Outcome {
  label: string;
  kind: Application['kind'];
  phases: Phase[];
  differences: string[];
}

async function runApplication(
  bench: Bench,
  open: OpenApplication,
  database: BenchDatabase,
): Promise<Outcome> {
  const application = await open(database);
  try {
    await runPhase(application, database, 0, 1_000);
    const phases: Phase[] = [];
    for (const holders of HOLDERS) {
      const seconds = bench.options.seconds ?? bench.pick(holders === 0 ? 20 : 30, 4);
      const phase = await runPhase(application, database, holders, seconds * 1_000);
      bench.log(`  ${application.label}, ${holders} holders: p99 ${phase.writesMs.p99} ms`);
      phases.push(phase);
    }
    const { label, kind } = application;
    return { label, kind, phases, differences: await application.differences() };
  } finally {
    await application.close();
  }
}

async function runPhase(
  application: Application,
  database: BenchDatabase,
  holderCount: number,
  durationMs: number,
): Promise<Phase> {
  const nextEvent = eventSource(HOT_USER, 11);
  const holders = await Promise.all(
    Array.from({ length: holderCount }, () => Holder.start(database.url)),
  );
  const sampler = new LockSampler(database.admin);
  const readUser = () =>
    application.pool.query({
      name: 'unrelated',
      text: 'select id, total_microdollars_acquired from kilocode_users where id = $1',
      values: [userId(1 + Math.floor(Math.random() * 99))],
    });
  const [writes, queries] = await Promise.all([
    atRate(WRITES_PER_SECOND, durationMs, () => application.write(nextEvent())),
    atRate(QUERIES_PER_SECOND, durationMs, readUser),
  ]);
  await sampler.stop();
  for (const holder of holders) await holder.stop();
  return {
    holders: holderCount,
    writesMs: quantilesOf(writes.timesMs),
    queriesMs: quantilesOf(queries.timesMs),
    failures: [...writes.failures, ...queries.failures],
    waits: sampler.waits,
    samples: sampler.samples,
    maxWaiting: sampler.maxWaiting,
    events: writes.timesMs.length,
  };
}

function toFindings(outcomes: readonly Outcome[]): Findings {
  return {
    comparisons: outcomes.flatMap(compareWithQuiet),
    tables: [latencyTable(outcomes), lockTable(outcomes)],
    charts: [
      {
        type: 'bar',
        name: 'p99',
        title: 'p99 of a write (whiskers: p50 and slowest)',
        unit: 'ms',
        bars: outcomes.flatMap(({ label, kind, phases }) =>
          phases.map(({ holders, writesMs }) => ({
            label: `${label}, ${describeHolders(holders)}`,
            kind,
            value: writesMs.p99,
            low: writesMs.p50,
            high: writesMs.max,
          })),
        ),
      },
    ],
    checks: outcomes.map(toCheck),
  };
}

/** The measure: with others holding locks, p99 within 3x of its quiet value. */
function compareWithQuiet({ label, kind, phases }: Outcome): Comparison[] {
  const quiet = phases[0] as Phase;
  return phases.slice(1).flatMap((phase) =>
    (['writesMs', 'queriesMs'] as const).map((what) => ({
      subject: `${label}, ${describeHolders(phase.holders)}`,
      baseline: 'the same, quiet',
      measure: what === 'writesMs' ? 'p99 ms of writes' : 'p99 ms of the unrelated query',
      ratios: [round(phase[what].p99 / quiet[what].p99)],
      target: kind === 'ours' ? { atMost: 3 } : null,
    })),
  );
}

function latencyTable(outcomes: readonly Outcome[]) {
  return {
    title: 'Latency (ms)',
    columns: [
      'application',
      'write p50',
      'write p99',
      'write max',
      'query p50',
      'query p99',
      'query max',
      'failed calls',
    ],
    rows: outcomes.flatMap(({ label, phases }) =>
      phases.map(({ holders, writesMs, queriesMs, failures }) => [
        `${label}, ${describeHolders(holders)}`,
        ...[writesMs, queriesMs].flatMap(({ p50, p99, max }) => [p50, p99, max]),
        failures.length,
      ]),
    ),
  };
}

function lockTable(outcomes: readonly Outcome[]) {
  return {
    title: 'Why: what connections of the application waited for, by pg_locks',
    columns: [
      'application',
      'samples',
      'waiting at once, at most',
      'waited for (share of samples)',
    ],
    rows: outcomes.flatMap(({ label, phases }) =>
      phases.map(({ holders, samples, maxWaiting, waits }) => [
        `${label}, ${describeHolders(holders)}`,
        samples,
        maxWaiting,
        [...waits]
          .map(([kind, count]) => `${kind} ${Math.round((100 * count) / samples)}%`)
          .join(', ') || 'nothing',
      ]),
    ),
  };
}

function describeHolders(holders: number): string {
  if (holders === 0) return 'quiet';
  return holders === 1 ? '1 holder' : `${holders} holders`;
}

function toCheck({ label, phases, differences }: Outcome): Check {
  const failures = phases.flatMap((phase) => phase.failures);
  const events = phases.reduce((sum, phase) => sum + phase.events, 0);
  const problems = [...failures.map((failure) => `failed: ${failure}`), ...differences];
  return {
    name: `${label}: totals equal raw usage, no call failed`,
    ok: problems.length === 0,
    detail: problems.length === 0 ? `${events} writes` : problems.slice(0, 3).join('; '),
  };
}
