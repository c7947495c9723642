import { createUser, migrateShards } from '../../src/index.js';
import { createLedger } from '../../src/ledger.js';
import type { PublicLedger } from '../../src/ledgerTypes.js';
import { createShardedLedger } from '../../src/shards/shardedLedger.js';
import type { Bench, BenchDatabase } from '../lib/bench.js';
import { type Cost, costPerEvent } from '../lib/cost.js';
import { eventSource, type Population, userId } from '../lib/population.js';
import type { Check, Comparison, Findings, Scenario, Table } from '../lib/scenario.js';
import { median, round } from '../lib/statistics.js';
import { measureMoves } from './shardMoves.js';

const USERS = 1_000;
const ROUNDS = 5;
const SLICE_MS = 2_000;
const FORMS = [
  { name: 'one event', callers: 32, events: 1 },
  { name: 'batches of 100', callers: 8, events: 100 },
] as const;
/** 0: an ordinary ledger. */
const COUNTS = [0, 1, 2, 4] as const;

const POPULATION: Population = {
  users: USERS,
  draw: (random) => () => Math.floor(random() * USERS),
};

export const shards: Scenario = {
  name: 'shards',
  title: 'The price of shards',
  question:
    'What does an event cost the processors where a ledger is of 1, 2 or 4 shards, and what do a payer that ' +
    'moves and its neighbours notice?',
  workload: `${USERS.toLocaleString('en-US')} users, drawn evenly. ${FORMS.map(({ name, callers }) => `${name}: ${callers} callers`).join('; ')}.
Each shard is a database of the same server, which has the same processors: what is compared is the work of an event, not what
more servers would carry. Then payers are moved between two shards, one after the other, there and back, each while 16
callers write for it; others write 100 events a second meanwhile.`,
  baseline: 'An ordinary ledger.',
  run,
};

interface Subject {
  label: string;
  ledger: PublicLedger;
  databases: BenchDatabase[];
  acknowledged: number;
}

interface Figures {
  eventsPerSecond: number[];
  costs: Cost[];
}

async function open(bench: Bench, count: number): Promise<Subject> {
  const databases: BenchDatabase[] = [];
  for (let n = 0; n < Math.max(1, count); n++) databases.push(await bench.createDatabase());
  const [first] = databases as [BenchDatabase];
  const named = databases.map(({ url }, n) => ({ name: `s${n}`, databaseUrl: url }));
  if (count > 0) await migrateShards(named);
  const ledger: PublicLedger =
    count > 0
      ? await createShardedLedger({ shards: named })
      : await createLedger({ databaseUrl: first.url });
  for (let n = 0; n < USERS; n++) await createUser(ledger, { id: userId(n) });
  for (const { admin } of databases) await admin.query('vacuum (analyze)');
  const label = count === 0 ? 'an ordinary ledger' : count === 1 ? '1 shard' : `${count} shards`;
  return { label, ledger, databases, acknowledged: 0 };
}

async function runSlice(
  bench: Bench,
  subject: Subject,
  form: (typeof FORMS)[number],
  next: () => ReturnType<ReturnType<typeof eventSource>>,
): Promise<{ rate: number; cost: Cost }> {
  const before = await bench.meter.read();
  const startedAt = performance.now();
  const endsAt = startedAt + bench.pick(SLICE_MS, 300);
  let events = 0;
  const caller = async () => {
    while (performance.now() < endsAt) {
      const batch = Array.from({ length: form.events }, next);
      const answers = await subject.ledger.recordUsageBatch(batch);
      for (const [index, answer] of answers.entries()) {
        if (answer.status === 'recorded') subject.acknowledged += batch[index]?.cost ?? 0;
      }
      events += batch.length;
    }
  };
  await Promise.all(Array.from({ length: form.callers }, caller));
  const seconds = (performance.now() - startedAt) / 1_000;
  await subject.ledger.fold();
  const cost = costPerEvent(before, await bench.meter.read(), events);
  return { rate: events / seconds, cost };
}

async function run(bench: Bench): Promise<Findings> {
  const subjects: Subject[] = [];
  try {
    for (const count of COUNTS) subjects.push(await open(bench, count));
    const comparisons: Comparison[] = [];
    const tables: Table[] = [];
    for (const form of FORMS) {
      const figures = await measure(bench, subjects, form);
      tables.push(toTable(form.name, subjects, figures));
      comparisons.push(...compare(form.name, subjects, figures));
    }
    const checks = await checkTotals(subjects);
    const moves = await measureMoves(bench);
    return {
      tables: [...tables, ...moves.tables],
      comparisons: [...comparisons, ...moves.comparisons],
      checks: [...checks, ...moves.checks],
    };
  } finally {
    for (const { ledger, databases } of subjects) {
      await ledger.close();
      for (const database of databases) await database.drop();
    }
  }
}

/** In turns; the first round warms up. */
async function measure(
  bench: Bench,
  subjects: readonly Subject[],
  form: (typeof FORMS)[number],
): Promise<Figures[]> {
  const figures = subjects.map((): Figures => ({ eventsPerSecond: [], costs: [] }));
  const sources = subjects.map((_, index) => eventSource(POPULATION, 7 + index));
  for (let turn = 0; turn <= bench.pick(ROUNDS, 1); turn++) {
    for (let place = 0; place < subjects.length; place++) {
      const index = (place + turn) % subjects.length;
      const [subject, next] = [subjects[index], sources[index]];
      if (!subject || !next) continue;
      const { rate, cost } = await runSlice(bench, subject, form, next);
      if (turn === 0) continue;
      figures[index]?.eventsPerSecond.push(rate);
      figures[index]?.costs.push(cost);
      const cpu = Math.round(cost.serverCpuUs + cost.clientCpuUs);
      bench.log(
        `  ${form.name}, ${subject.label}: ${Math.round(rate)} events/s, ${cpu} us CPU an event`,
      );
    }
  }
  return figures;
}

const cpuOf = ({ serverCpuUs, clientCpuUs }: Cost) => serverCpuUs + clientCpuUs;

function compare(
  form: string,
  subjects: readonly Subject[],
  [base, ...others]: readonly Figures[],
): Comparison[] {
  return others.map((figures, index) => ({
    subject: `${form}, ${subjects[index + 1]?.label}`,
    baseline: subjects[0]?.label ?? '',
    measure: 'CPU an event',
    ratios: figures.costs.map((cost, n) => round(cpuOf(cost) / cpuOf(base?.costs[n] ?? cost))),
    target: null,
  }));
}

function toTable(form: string, subjects: readonly Subject[], figures: readonly Figures[]): Table {
  return {
    title: `${form}: CPU an event, folds included, and events a second`,
    columns: ['ledger', 'server us', 'client us', 'WAL bytes', 'events/s'],
    rows: subjects.map(({ label }, index) => {
      const { costs = [], eventsPerSecond = [] } = figures[index] ?? {};
      return [
        label,
        round(median(costs.map(({ serverCpuUs }) => serverCpuUs)), 3),
        round(median(costs.map(({ clientCpuUs }) => clientCpuUs)), 3),
        Math.round(median(costs.map(({ walBytes }) => walBytes))),
        Math.round(median(eventsPerSecond)),
      ];
    }),
  };
}

/** What was acknowledged is in the log, on one shard, and in the balances. */
async function checkTotals(subjects: readonly Subject[]): Promise<Check[]> {
  const checks: Check[] = [];
  for (const { label, databases, acknowledged } of subjects) {
    let [log, balances] = [0, 0];
    for (const { admin } of databases) {
      const { rows } = await admin.query<{ log: string; balances: string }>(
        `select (select coalesce(sum(cost), 0) from microdollar_usage) as log,
          (select coalesce(sum(microdollars_used), 0) from kilocode_users) as balances`,
      );
      log += Number(rows[0]?.log);
      balances += Number(rows[0]?.balances);
    }
    const off = Math.abs(log - acknowledged) + Math.abs(balances - acknowledged);
    checks.push({ name: `${label}: totals are exact`, ok: off === 0, detail: `off by ${off}` });
  }
  return checks;
}
