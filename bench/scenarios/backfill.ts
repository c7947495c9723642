import { execFile } from 'node:child_process';
import path from 'node:path';
import { promisify } from 'node:util';
import { verifyRollup } from '../../src/rollup/verify.js';
import { DAILY_ROLLUP } from '../../src/schema/rollups.js';
import type { Bench, BenchDatabase } from '../lib/bench.js';
import { withoutIndexes } from '../lib/history.js';
import type { Check, Comparison, Findings, Scenario } from '../lib/scenario.js';
import { median, ratiosPerRound, round } from '../lib/statistics.js';
import { compareLive, type LiveFigures, measureLive, toLiveTable } from './backfillLive.js';

const DAYS = 100;
const ROUNDS = 3;
/** Of more than these one round is enough to see whether it goes with the rows. */
const MANY_ROWS = 3_000_000;
/** What is built beside live writers, at most: a minute and a half of it. */
const LIVE_ROWS = 4_000_000;
const WORKER = path.join(import.meta.dirname, '../lib/backfillWorker.ts');
const ORGANIZATION = "'0b5e7c1a-5f5e-4d6f-9a51-3f2f8c1d0e02'::uuid";

export const backfill: Scenario = {
  name: 'backfill',
  title: 'Backfill and verification as history grows',
  question:
    'What does it cost to build and to prove the rollup online, and do live writers feel it?',
  workload: `Raw usage over ${DAYS} days, 200 rows per user, a tenth of it an organization's. The
backfill runs in a process of its own with two workers. Live writers: one event a call at a fixed rate, 45% of
what a closed loop of 32 callers reaches, and that closed loop; random users, a tenth of the events up to 90
days old; beside a backfill of the newest ${LIVE_ROWS / 1_000_000} million rows of the largest history, in turns
with it paused.`,
  baseline:
    'The naive `insert ... select ... group by ... on conflict`, one statement a scope, which holds its ' +
    'locks and its snapshot until it ends; for verification, the bare `group by` over the same rows.',
  run,
};

interface Measured {
  rows: number;
  naiveMs: number[];
  backfillMs: number[];
  groupByMs: number[];
  verifyMs: number[];
  longestTransactionMs: number;
  peakMemoryMb: number;
  driftKeys: number;
}

async function run(bench: Bench): Promise<Findings> {
  const measured: Measured[] = [];
  let live: LiveFigures | null = null;
  const sizes = bench.options.rows
    ? [bench.options.rows]
    : bench.pick([1_000_000, 3_000_000, 10_000_000], [100_000]);
  for (const rows of sizes) {
    const database = await bench.createDatabase();
    try {
      bench.log(`  loading ${rows} rows`);
      await loadHistory(database, rows);
      measured.push(await measure(bench, database, rows));
      if (rows !== sizes.at(-1)) continue;
      await forget(database);
      live = await measureLive(bench, database, {
        users: rows / 200,
        days: Math.min(DAYS, Math.ceil((LIVE_ROWS * DAYS) / rows)),
        startBackfill: (from) => runWorker(database, from),
      });
    } finally {
      await database.drop();
    }
  }
  return toFindings(measured, live as LiveFigures);
}

async function loadHistory({ admin }: BenchDatabase, rows: number): Promise<void> {
  const users = rows / 200;
  await admin.query(
    `insert into kilocode_users (id) select 'user-' || i from generate_series(0, $1::integer - 1) as i`,
    [users],
  );
  await admin.query(`insert into organizations (id, name) values (${ORGANIZATION}, 'bench')`);
  await withoutIndexes(admin, async (client) => {
    await client.query(
      `insert into microdollar_usage (id, kilo_user_id, organization_id, cost, input_tokens,
         output_tokens, created_at)
       select lpad(to_hex(i), 32, '0')::uuid, 'user-' || (i * 7919) % $2,
         case when i % 10 = 0 then ${ORGANIZATION} end, 1 + (i * 104729) % 100000, 4000, 100,
         now() - make_interval(secs => ${DAYS} * 86400.0 * (1 - i::float8 / $1))
       from generate_series(0, $1::bigint - 1) as i`,
      [rows, users],
    );
  });
  await admin.query('vacuum (analyze) microdollar_usage');
  await admin.query('checkpoint');
}

/** Everything as before the first build. */
async function forget({ admin }: BenchDatabase): Promise<void> {
  await admin.query('truncate microdollar_usage_daily, rollup_coverage, rollup_backfill');
  await admin.query('checkpoint');
}

const NAIVE = ['organization_id is null', 'organization_id is not null'].map(
  (scope, index) => `
insert into microdollar_usage_daily
  (kilo_user_id, organization_id, usage_date, total_cost_microdollars)
select kilo_user_id, organization_id, (created_at at time zone 'UTC')::date, sum(cost)
from microdollar_usage
where ${scope} and cost <> 0
group by 1, 2, 3
on conflict (kilo_user_id, ${index === 0 ? '' : 'organization_id, '}usage_date) where ${scope}
do update set total_cost_microdollars = excluded.total_cost_microdollars`,
);

const GROUP_BY = `
select count(*), sum(total)
from (
  select sum(cost) as total
  from microdollar_usage
  group by kilo_user_id, organization_id, (created_at at time zone 'UTC')::date
) as keys`;

async function measure(bench: Bench, database: BenchDatabase, rows: number): Promise<Measured> {
  const measured: Measured = {
    rows,
    naiveMs: [],
    backfillMs: [],
    groupByMs: [],
    verifyMs: [],
    longestTransactionMs: 0,
    peakMemoryMb: 0,
    driftKeys: 0,
  };
  for (let turn = 0; turn < bench.pick(rows > MANY_ROWS ? 1 : ROUNDS, 1); turn++) {
    await forget(database);
    measured.naiveMs.push(
      await timed(async () => {
        for (const statement of NAIVE) await database.admin.query(statement);
      }),
    );
    await forget(database);
    const report = await runWorker(database);
    measured.backfillMs.push(report.durationMs);
    measured.longestTransactionMs = Math.max(
      measured.longestTransactionMs,
      report.longestTransactionMs,
    );
    measured.peakMemoryMb = Math.max(measured.peakMemoryMb, report.peakMemoryMb);
    measured.groupByMs.push(await timed(() => database.admin.query(GROUP_BY)));
    measured.verifyMs.push(
      await timed(async () => {
        const verified = await verifyRollup({ url: database.url, rollup: DAILY_ROLLUP });
        measured.driftKeys += verified.driftKeys;
      }),
    );
  }
  const seconds = (values: number[]) => round(median(values) / 1000, 3);
  bench.log(
    `  ${rows} rows: naive ${seconds(measured.naiveMs)} s, backfill ${seconds(measured.backfillMs)} s, ` +
      `group by ${seconds(measured.groupByMs)} s, verify ${seconds(measured.verifyMs)} s, ` +
      `${Math.round(measured.peakMemoryMb)} MB`,
  );
  return measured;
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const startedAt = performance.now();
  await work();
  return performance.now() - startedAt;
}

interface WorkerReport {
  durationMs: number;
  rows: number;
  longestTransactionMs: number;
  peakMemoryMb: number;
}

async function runWorker({ url }: BenchDatabase, from?: string): Promise<WorkerReport> {
  const args = ['--import', 'tsx', WORKER, url, '2', ...(from === undefined ? [] : [from])];
  const { stdout } = await promisify(execFile)(process.execPath, args);
  return JSON.parse(stdout);
}

function toFindings(measured: readonly Measured[], live: LiveFigures): Findings {
  const comparisons: Comparison[] = measured.flatMap((each) => {
    const label = `${each.rows / 1_000_000} million rows`;
    return [
      {
        subject: `backfill, ${label}`,
        baseline: 'naive statement',
        measure: 'duration',
        ratios: ratiosPerRound(each.backfillMs, each.naiveMs),
        target: { atMost: 1 },
      },
      {
        subject: `verify, ${label}`,
        baseline: 'bare group by',
        measure: 'duration',
        ratios: ratiosPerRound(each.verifyMs, each.groupByMs),
        target: { atMost: 1.5 },
      },
    ];
  });
  comparisons.push(...compareLive(live));
  return {
    comparisons,
    tables: [toTable(measured), toLiveTable(live)],
    checks: toChecks(measured, live),
  };
}

function toTable(measured: readonly Measured[]) {
  const seconds = (values: readonly number[]) => round(median(values) / 1000, 3);
  return {
    title: 'Seconds (median), longest transaction and memory of the backfill',
    columns: ['raw rows', 'naive', 'backfill', 'bare group by', 'verify', 'longest ms', 'peak MB'],
    rows: measured.map((each) => [
      each.rows.toLocaleString('en-US'),
      seconds(each.naiveMs),
      seconds(each.backfillMs),
      seconds(each.groupByMs),
      seconds(each.verifyMs),
      Math.round(each.longestTransactionMs),
      Math.round(each.peakMemoryMb),
    ]),
  };
}

function toChecks(measured: readonly Measured[], live: LiveFigures): Check[] {
  const drift = measured.reduce((sum, each) => sum + each.driftKeys, live.driftKeys);
  const memoryMb = Math.max(...measured.map((each) => each.peakMemoryMb));
  const longestMs = Math.max(...measured.map((each) => each.longestTransactionMs));
  return [
    { name: 'verify finds no drift', ok: drift === 0, detail: `${drift} wrong keys` },
    {
      name: 'no transaction over 2 s',
      ok: longestMs <= 2_000,
      detail: `longest ${Math.round(longestMs)} ms`,
    },
    {
      name: 'peak memory under 150 MB',
      ok: memoryMb < 150,
      detail: `${Math.round(memoryMb)} MB`,
    },
    {
      name: 'no live write failed',
      ok: live.failures.length === 0,
      detail: live.failures[0] ?? `${live.atRate.beside.flat().length} beside the backfill`,
    },
  ];
}
