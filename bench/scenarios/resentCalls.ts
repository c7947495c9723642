import { setTimeout as sleep } from 'node:timers/promises';
import { LedgerError } from '../../src/errors.js';
import { type ApproachDefinition, checkApproach } from '../lib/approach.js';
import { seed } from '../lib/baselines/seed.js';
import type { Bench } from '../lib/bench.js';
import {
  closeApproaches,
  openApproaches,
  runRounds,
  scheduleOf,
  toFigures,
} from '../lib/compare.js';
import { groupCommit, oneEvent } from '../lib/ours.js';
import type { BenchEvent, Population } from '../lib/population.js';
import { zipf } from '../lib/random.js';
import type { Findings, Scenario } from '../lib/scenario.js';
import { against, throughputChart } from '../lib/writeComparison.js';

const USERS = 10_000;
const RESENT_SHARE = 0.2;
const SECONDS = 6;
const POPULATION: Population = { users: USERS, draw: (random) => zipf(USERS, 1, random) };

export const resentCalls: Scenario = {
  name: 'resent-calls',
  title: 'A fifth of the calls time out and are sent again',
  question: 'What do retries cost, what do their callers see, and is anything counted twice?',
  workload: `Personal events of ${USERS.toLocaleString('en-US')} users (Zipf). Of every fifth event the
client gives up waiting and sends it again under the same id: half of them while the first call is
still on its way, half after it was answered but the answer was lost. An event counts once.`,
  baseline:
    "The seed's statement, whose retry fails on the unique id: the client must know that 23505 means " +
    'done, and never learns the balance. And each approach without retries.',
  run,
};

interface Tally {
  resent: number;
  /** Retries answered like a first call. */
  answered: number;
  /** Retries that got an error. */
  errors: number;
}

/** The same approach, where every fifth event is written twice. */
function withResends(definition: ApproachDefinition, tally: Tally): ApproachDefinition {
  return {
    ...definition,
    name: `${definition.name}-resent`,
    label: `${definition.label}, a fifth sent again`,
    async open(database) {
      const approach = await definition.open(database);
      let calls = 0;
      const send = (events: BenchEvent[]) =>
        approach.write(events).then(
          () => 'answered' as const,
          (error: unknown) => {
            if (!isDuplicate(error)) throw error;
            return 'errors' as const;
          },
        );
      return {
        ...approach,
        async write(events) {
          calls++;
          if (calls % Math.round(1 / RESENT_SHARE) !== 0) return approach.write(events);
          const isInFlight = calls % 2 === 0;
          const first = send(events);
          if (isInFlight) await sleep(0);
          else await first;
          const outcomes = await Promise.all([first, send(events)]);
          tally.resent++;
          if (outcomes.every((outcome) => outcome === 'answered')) tally.answered++;
          else tally.errors++;
        },
      };
    },
  };
}

/** The seed's unique violation. Ours never answers a replay with an error. */
function isDuplicate(error: unknown): boolean {
  return !(error instanceof LedgerError) && (error as { code?: unknown }).code === '23505';
}

async function run(bench: Bench): Promise<Findings> {
  const plain = [seed, oneEvent, groupCommit];
  const tallies = plain.map((): Tally => ({ resent: 0, answered: 0, errors: 0 }));
  const resent = plain.map((each, index) => withResends(each, tallies[index] as Tally));
  const definitions = [...plain, ...resent];
  const databases = await bench.createDatabases(POPULATION, definitions.length);
  const opened = await openApproaches(databases, definitions);
  try {
    const schedule = scheduleOf(bench, SECONDS);
    const slices = await runRounds(bench, POPULATION, opened, schedule);
    const figures = opened.map((open, index) => toFigures(open, slices[index] ?? [], schedule));
    const checks = [];
    for (const open of opened) checks.push(await checkApproach(open));
    return {
      throughput: figures,
      comparisons: [
        ...resent.map(({ name }, index) =>
          against(figures, name, (plain[index] as ApproachDefinition).name, null),
        ),
        against(figures, 'ours-resent', 'seed-resent', null),
        against(figures, 'ours-group-commit-resent', 'seed-resent', null),
      ],
      tables: [
        {
          title: 'What the callers of retries saw',
          columns: ['approach', 'sent again', 'answered like the first call', 'got an error'],
          rows: resent.map(({ label }, index) => {
            const tally = tallies[index] as Tally;
            return [label, tally.resent, tally.answered, tally.errors];
          }),
        },
      ],
      charts: [throughputChart(figures)],
      checks,
    };
  } finally {
    await closeApproaches(bench, opened, databases);
  }
}
