import { seed } from '../lib/baselines/seed.js';
import type { Bench } from '../lib/bench.js';
import { compareApproaches, type Schedule } from '../lib/compare.js';
import { hostPool } from '../lib/ours.js';
import type { Population } from '../lib/population.js';
import type { ApproachFigures, Comparison, Findings, Scenario } from '../lib/scenario.js';
import { median, round } from '../lib/statistics.js';
import { against } from '../lib/writeComparison.js';

const USERS = 100_000;
const USERS_QUICK = 10_000;
const SECONDS = 60;
const SLICE_MS = 5_000;

export const hostPoolAlone: Scenario = {
  name: 'host-pool',
  title: "A host's pool, and nothing else running",
  question:
    'A program only ever calls insertUsageAndMetadataWithBalanceUpdate on its own pool: no ledger, ' +
    'no service, no background work. Does it slow down as time goes?',
  workload:
    'A minute of writes by 32 callers, for one hot user and for 100,000, in slices of five seconds ' +
    "that take turns with the seed's statement.",
  baseline: "The seed's statement; for the slowing down, its own first third.",
  run,
};

async function run(bench: Bench): Promise<Findings> {
  const users = bench.pick(USERS, USERS_QUICK);
  const populations: [label: string, population: Population, atLeast: number][] = [
    ['one hot user', { users: 1, draw: () => () => 0 }, 3],
    ['100,000 users', { users, draw: (random) => () => Math.floor(random() * users) }, 0.8],
  ];
  const sliceMs = bench.pick(SLICE_MS, 400);
  const seconds = bench.options.seconds ?? bench.pick(SECONDS, 2.4);
  const schedule: Schedule = { rounds: Math.round((seconds * 1_000) / sliceMs), sliceMs };
  const findings: Required<Pick<Findings, 'throughput' | 'comparisons' | 'checks'>> = {
    throughput: [],
    comparisons: [],
    checks: [],
  };
  for (const [label, population, atLeast] of populations) {
    const { figures, checks } = await compareApproaches(
      bench,
      population,
      [seed, hostPool],
      schedule,
    );
    const named = figures.map((figure) => ({ ...figure, label: `${figure.label}, ${label}` }));
    findings.throughput.push(...named);
    findings.comparisons.push(
      against(named, hostPool.name, seed.name, { atLeast }),
      atTheEnd(named.find(({ name }) => name === hostPool.name) as ApproachFigures),
    );
    findings.checks.push(...checks.map((check) => ({ ...check, name: `${check.name}, ${label}` })));
  }
  return findings;
}

function atTheEnd({ label, eventsPerSecond }: ApproachFigures): Comparison {
  const third = Math.max(1, Math.floor(eventsPerSecond.length / 3));
  const usual = median(eventsPerSecond.slice(0, third));
  return {
    subject: `${label}, last third`,
    baseline: 'its first third',
    measure: 'events/s',
    ratios: eventsPerSecond.slice(-third).map((rate) => round(rate / usual)),
    target: { atLeast: 0.95 },
  };
}
