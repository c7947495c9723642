import pg from 'pg';
import { type ApproachDefinition, checkApproach, type OpenApproach } from '../lib/approach.js';
import { seed } from '../lib/baselines/seed.js';
import type { Bench, BenchDatabase } from '../lib/bench.js';
import {
  closeApproaches,
  openApproaches,
  runRounds,
  scheduleOf,
  toFigures,
} from '../lib/compare.js';
import { appendAlways, groupCommit, oneEvent } from '../lib/ours.js';
import type { Population } from '../lib/population.js';
import type { ApproachFigures, Check, Comparison, Findings, Scenario } from '../lib/scenario.js';
import { against, throughputChart } from '../lib/writeComparison.js';

const SECONDS = 60;
const HOT_USER: Population = { users: 1, draw: () => () => 0 };

const UNDER_SNAPSHOT = [seed, oneEvent, appendAlways, groupCommit].map(underSnapshot);
const WITHOUT = [oneEvent, groupCommit];

/** The same approach, by another name. */
function underSnapshot(definition: ApproachDefinition): ApproachDefinition {
  return {
    ...definition,
    name: `${definition.name}-snapshot`,
    label: `${definition.label}, under a snapshot`,
  };
}

export const openSnapshot: Scenario = {
  name: 'open-snapshot',
  title: 'An open snapshot under a hot user',
  question:
    'A dump or a report keeps a snapshot open, so nothing can be vacuumed: what becomes of the writes?',
  workload:
    'One hot user, a minute of writes for each approach, while another session of its database ' +
    'keeps one repeatable-read transaction open from before the first write to after the last.',
  baseline:
    "The seed's statement under the same; ours without the snapshot. Slices interleaved, so each " +
    'snapshot stays open several times as long as its approach writes.',
  run,
};

async function run(bench: Bench): Promise<Findings> {
  const definitions = [...UNDER_SNAPSHOT, ...WITHOUT];
  const databases = await bench.createDatabases(HOT_USER, definitions.length);
  const opened = await openApproaches(databases, definitions);
  const holders = await Promise.all(
    databases.slice(0, UNDER_SNAPSHOT.length).map((database) => holdSnapshot(database)),
  );
  try {
    const schedule = scheduleOf(bench, SECONDS);
    const slices = await runRounds(bench, HOT_USER, opened, schedule);
    const figures = opened.map((open, index) => toFigures(open, slices[index] ?? [], schedule));
    const checks = await checkHolders(holders);
    for (const holder of holders.splice(0)) await holder.end();
    for (const open of opened) checks.push(await checkApproach(open));
    return toFindings(figures, opened, checks);
  } finally {
    for (const holder of holders) await holder.end();
    await closeApproaches(bench, opened, databases);
  }
}

async function holdSnapshot(database: BenchDatabase): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: database.url });
  client.on('error', () => {});
  await client.connect();
  await client.query('begin isolation level repeatable read');
  await client.query('select count(*) from microdollar_usage');
  return client;
}

/** A holder that lost its snapshot would have proven nothing. */
async function checkHolders(holders: readonly pg.Client[]): Promise<Check[]> {
  const counts = await Promise.all(
    holders.map((holder) => holder.query('select count(*) as n from microdollar_usage')),
  );
  const isHeld = counts.every((result) => Number(result.rows[0].n) === 0);
  return [
    {
      name: 'snapshots stayed open',
      ok: isHeld,
      detail: isHeld ? 'none of them sees a row written since' : 'a snapshot was lost',
    },
  ];
}

function toFindings(
  figures: ApproachFigures[],
  opened: readonly OpenApproach[],
  checks: Check[],
): Findings {
  const seedName = underSnapshot(seed).name;
  const lateFigures = figures.map(lastThird);
  const compare = (subject: ApproachDefinition, target: number | null, late: number | null) => {
    const name = underSnapshot(subject).name;
    const atLeast = (ratio: number | null) => (ratio === null ? null : { atLeast: ratio });
    return [
      against(figures, name, seedName, atLeast(target)),
      atTheEnd(against(lateFigures, name, seedName, null)),
      ...(WITHOUT.includes(subject) ? [against(figures, name, subject.name, atLeast(late))] : []),
    ];
  };
  return {
    throughput: figures,
    comparisons: [
      ...compare(oneEvent, 20, 0.7),
      ...compare(appendAlways, null, null),
      ...compare(groupCommit, null, null),
    ],
    charts: [
      throughputChart(figures),
      {
        type: 'line',
        name: 'over-time',
        title: 'Throughput over time, one hot user',
        xLabel: 'seconds of writing',
        yLabel: 'events/s',
        lines: figures.map((figure, index) => ({
          label: figure.label,
          kind: opened[index]?.definition.kind ?? 'ours',
          points: toPoints(figure),
        })),
      },
    ],
    checks,
  };
}

function lastThird(figures: ApproachFigures): ApproachFigures {
  const from = Math.floor((figures.eventsPerSecond.length * 2) / 3);
  return { ...figures, eventsPerSecond: figures.eventsPerSecond.slice(from) };
}

function atTheEnd(comparison: Comparison): Comparison {
  return { ...comparison, measure: `${comparison.measure}, last third` };
}

/** A slice is drawn at its middle. */
function toPoints({ eventsPerSecond, sliceSeconds }: ApproachFigures): [number, number][] {
  return eventsPerSecond.map((rate, index) => [(index + 0.5) * sliceSeconds, rate]);
}
