import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { createLedger } from '../../src/ledger.js';
import type { Ledger } from '../../src/ledgerTypes.js';
import { USER_SCOPE } from '../../src/schema/unsettled.js';
import type { Bench, BenchDatabase } from '../lib/bench.js';
import type { Comparison, Findings, Scenario } from '../lib/scenario.js';
import { median, round } from '../lib/statistics.js';

const PROCESSES = 4;
const CALLERS = 8;
const ROUNDS = 3;
const SLICE_MS = 3_000;
const PAYER = 'payer';
/** A million dollars: nobody is refused. */
const ACQUIRED = 1_000_000_000_000;
const APPROACHES = ['one-row', 'slots', 'slots-settled'] as const;
type Approach = (typeof APPROACHES)[number];
const WORKER = fileURLToPath(new URL('../lib/holdWorker.ts', import.meta.url));

/** The table of the alternative: one row a payer. */
const ROW_PER_PAYER = `
create table if not exists payer_headroom (payer text primary key, remaining bigint not null
  check (remaining >= 0));
create table if not exists payer_holds (id uuid primary key, payer text not null, amount bigint not null,
  created_at timestamptz not null default now())`;

export const holds: Scenario = {
  name: 'holds',
  title: 'Holds of one payer',
  question: 'How many requests a second can be held against one balance, and never pass it?',
  workload:
    `${PROCESSES} processes with ${CALLERS} callers each hold amounts of one payer in a closed loop, durably. ` +
    'The last row settles each hold as well, which records its usage and answers the balance.',
  baseline:
    'One row a payer that every hold updates, one request a statement, with the hold in the same statement.',
  run,
};

interface Worker {
  /** Holds granted within the time. */
  run(approach: Approach, ms: number): Promise<number>;
  end(): Promise<void>;
}

async function startWorker(database: BenchDatabase): Promise<Worker> {
  const args = ['--import', 'tsx', WORKER, database.url, PAYER, String(CALLERS)];
  const child = spawn(process.execPath, args, { stdio: ['pipe', 'pipe', 'inherit'] });
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
  await lines.next();
  return {
    async run(approach, ms) {
      child.stdin.write(`${approach} ${ms}\n`);
      return Number((await lines.next()).value);
    },
    async end() {
      child.stdin.end();
      await ended;
    },
  };
}

async function run(bench: Bench): Promise<Findings> {
  const database = await bench.createDatabase();
  const { admin } = database;
  await admin.query(ROW_PER_PAYER);
  await admin.query('insert into payer_headroom values ($1, $2)', [PAYER, ACQUIRED]);
  await admin.query(
    'insert into kilocode_users (id, total_microdollars_acquired) values ($1, $2)',
    [PAYER, ACQUIRED],
  );
  const workers = await Promise.all(Array.from({ length: PROCESSES }, () => startWorker(database)));
  const ms = bench.pick(SLICE_MS, 400);
  const rates = new Map<Approach, number[]>(APPROACHES.map((name) => [name, []]));
  const folding = await createLedger({ databaseUrl: database.url, backgroundFold: false });
  await folding.budgetFolder.open(USER_SCOPE, PAYER);
  try {
    // The first round warms connections, plans and the code of the processes; nobody's counts.
    for (let n = bench.pick(-1, 0); n < bench.pick(ROUNDS, 1); n++) {
      for (const approach of APPROACHES) {
        const granted = await Promise.all(workers.map((worker) => worker.run(approach, ms)));
        const rate = granted.reduce((sum, each) => sum + each, 0) / (ms / 1_000);
        await giveBack(database, folding);
        if (n < 0) continue;
        rates.get(approach)?.push(Math.round(rate));
        bench.log(`  ${approach}: ${Math.round(rate)} holds/s`);
      }
    }
  } finally {
    await Promise.all(workers.map((worker) => worker.end()));
    await folding.close();
  }
  const findings = { comparisons: [compare(rates, 'slots', 10), compare(rates, 'slots-settled')] };
  return { ...findings, tables: [tableOf(rates)], checks: [await checkIdentity(database)] };
}

/** What was only held is over before the next slice, as requests are. */
async function giveBack({ admin }: BenchDatabase, ledger: Ledger): Promise<void> {
  await admin.query('update usage_holds set released_at = now() where released_at is null');
  while ((await ledger.budgetFolder.foldFor(USER_SCOPE, PAYER, 0)) === null) await sleep(20);
}

const LABELS: Record<Approach, string> = {
  'one-row': 'one row a payer, one request a statement',
  slots: 'held',
  'slots-settled': 'held, then settled',
};

function compare(rates: Map<Approach, number[]>, name: Approach, atLeast?: number): Comparison {
  const base = rates.get('one-row') ?? [];
  return {
    subject: LABELS[name],
    baseline: LABELS['one-row'],
    measure: 'holds/s',
    ratios: (rates.get(name) ?? []).map((rate, index) => round(rate / (base[index] ?? 1))),
    target: atLeast === undefined ? null : { atLeast },
  };
}

function tableOf(rates: Map<Approach, number[]>) {
  return {
    title: 'Holds of one payer a second',
    columns: ['approach', 'median', 'each round'],
    rows: APPROACHES.map((name) => {
      const all = rates.get(name) ?? [];
      return [LABELS[name], median(all), all.join(', ')];
    }),
  };
}

/** I13: limit = spent + carry + slots + holds. */
async function checkIdentity({ admin }: BenchDatabase) {
  const { rows } = await admin.query<{ off: string }>(`
select w.limit_microdollars - w.spent_microdollars - w.carry_microdollars
  - (select sum(h.remaining_microdollars) from headroom as h where h.window_id = w.id)
  - (select coalesce(sum(h.amount_microdollars), 0) from usage_holds as h
    where w.id = any (h.window_ids)) as off
from budget_windows as w`);
  const off = rows[0]?.off ?? 'no window';
  return { name: 'nothing is lost or given twice', ok: off === '0', detail: `off by ${off}` };
}
