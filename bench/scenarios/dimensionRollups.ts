import { CONNECTION_USES } from '../../src/connections.js';
import { POSITION } from '../../src/counter/position.sql.js';
import { createPool } from '../../src/db/pool.js';
import { queryInTurns, queryOnPool, snapshotOnPool } from '../../src/db/query.js';
import { createLedger } from '../../src/ledger.js';
import { createMetrics } from '../../src/metrics.js';
import type { UsageReportQuery } from '../../src/report/usage/query.js';
import { UsageReports } from '../../src/report/usage/usageReport.js';
import { DIMENSION_ROLLUPS, type DimensionRollup } from '../../src/schema/dimensionRollups.js';
import { findDifferences } from '../../test/support/dimensionTruth.js';
import type { Bench, BenchDatabase } from '../lib/bench.js';
import { openFolder } from '../lib/openFolder.js';
import type { Check, Findings, Scenario } from '../lib/scenario.js';
import { median, ratiosPerRound, round } from '../lib/statistics.js';

const REQUESTS = 200_000;
const USERS = 100_000;
const MEMBERS = 10_000;
/** Not the one of the history. */
const ORGANIZATION = '0b5e7c1a-5f5e-4d6f-9a51-3f2f8c1d0e02';
/** Raw rows of others beside them. */
const HISTORY = 10_000_000;
const SLICES = 6;
const REPORTS_A_SLICE = 15;

export const dimensionRollups: Scenario = {
  name: 'dimension-rollups',
  title: 'Rollups by dimension: rows, fold, reports',
  question:
    'How many counter rows, what does the fold of a request cost, and how fast are reports?',
  workload: `In a database with ${HISTORY.toLocaleString('en-US')} raw rows of others:
${REQUESTS.toLocaleString('en-US')} requests of 90 days, none beside another in time, so that
counter rows hold as few as they ever do; ${USERS.toLocaleString('en-US')} users (Zipf, s = 1), five models, two
keys a user, a tenth of them an organization's with ${MEMBERS.toLocaleString('en-US')} members. Folded by the
background's own folder, one rollup after the other; then reports of 90 days, from the question to the
rows of the answer, on one connection.
CPU is that of the server's processes, whatever else the machine does.`,
  baseline: 'The insert of the same rows in statements of 50,000; a round trip (`select 1`).',
  run,
};

async function run(bench: Bench): Promise<Findings> {
  const requests = bench.pick(REQUESTS, 20_000);
  const database = await bench.history(bench.pick(HISTORY, 50_000));
  const inserted = await measure(bench, () => insertRequests(database, requests));
  const folds = [];
  for (const rollup of DIMENSION_ROLLUPS) {
    const cost = await fold(bench, database, rollup);
    folds.push({ rollup, cost, size: await readSize(database, rollup) });
  }
  const settled = await settle(bench, database);
  await database.admin.query('vacuum (analyze)');
  const perRow = (cost: Measured) => round((cost.cpuMs * 1_000) / requests, 2);
  const timed = await timeReports(database.url, bench);
  return {
    comparisons: TARGETS.map(({ report, baseline, unitMs, atMost }) => ({
      subject: report,
      baseline,
      measure: 'p50 ms',
      ratios: ratiosPerRound(
        p50sOf(timed, report),
        unitMs === null ? p50sOf(timed, NOTHING) : Array(SLICES).fill(unitMs),
      ),
      target: { atMost },
    })),
    tables: [
      {
        title: `Fold of ${requests.toLocaleString('en-US')} requests`,
        columns: ['what', 'server CPU us a request', 'counter rows', 'MB with indexes'],
        rows: [
          ['insert of the raw rows', perRow(inserted), null, null],
          [
            'settle into balances and daily totals, and a look at every payer',
            perRow(settled),
            null,
            null,
          ],
          ...folds.map(({ rollup, cost, size }): [string, number, number, number] => [
            `fold into ${rollup.name}`,
            perRow(cost),
            size.rows,
            round(size.bytes / 1e6, 1),
          ]),
        ],
      },
      {
        title: 'Reports of 90 days',
        columns: ['report', 'rows of the answer', 'server CPU ms', 'p50 ms', 'best ms'],
        rows: timed.map(({ label, answered, cpuMs, slicesMs }) => [
          label,
          answered,
          round(cpuMs, 2),
          round(median(slicesMs.flat()), 2),
          round(Math.min(...slicesMs.flat()), 2),
        ]),
      },
    ],
    checks: await check(database),
  };
}

const NOTHING = 'select 1';
const TARGETS: readonly {
  report: string;
  baseline: string;
  /** Null: a round trip that does nothing. */
  unitMs: number | null;
  atMost: number;
}[] = [
  { report: 'first user, by day', baseline: '`select 1`', unitMs: null, atMost: 5 },
  { report: '50th user, by day', baseline: '`select 1`', unitMs: null, atMost: 5 },
  { report: 'first user, by hour and model', baseline: '20 ms', unitMs: 20, atMost: 1 },
  { report: 'organization, by day', baseline: '200 ms', unitMs: 200, atMost: 1 },
  { report: 'organization, by day and member', baseline: '200 ms', unitMs: 200, atMost: 1 },
];

function p50sOf(timed: readonly Timed[], report: string): number[] {
  const { slicesMs } = timed.find(({ label }) => label === report) as Timed;
  return slicesMs.map((timesMs) => median(timesMs));
}

/** Balances and daily totals: what a write's answer is made of. */
async function settle(bench: Bench, { url }: BenchDatabase): Promise<Measured> {
  const ledger = await createLedger({ databaseUrl: url, backgroundFold: false });
  try {
    return await measure(bench, () => ledger.fold());
  } finally {
    await ledger.close();
  }
}

interface Measured {
  cpuMs: number;
}

async function measure(bench: Bench, work: () => Promise<unknown>): Promise<Measured> {
  const before = await bench.meter.read();
  await work();
  const after = await bench.meter.read();
  return { cpuMs: (after.serverCpuUs - before.serverCpuUs) / 1_000 };
}

async function insertRequests({ admin }: BenchDatabase, requests: number): Promise<void> {
  await admin.query(
    `insert into kilocode_users (id) select 'u' || g from generate_series(0, $1) as g`,
    [USERS],
  );
  await admin.query('insert into organizations (id, name) values ($1, $2)', [
    ORGANIZATION,
    'bench',
  ]);
  const client = await admin.connect();
  try {
    await client.query('set synchronous_commit = off');
    await client.query('select setseed(0.5)');
    for (let left = requests; left > 0; left -= 50_000) {
      await client.query(
        `insert into microdollar_usage (id, kilo_user_id, organization_id, provider, model, cost,
          input_tokens, output_tokens, cache_hit_tokens, has_error, api_key_id, created_at, position)
        select gen_random_uuid(), 'u' || s.u,
          case when s.share < 0.1 and s.u < ${MEMBERS} then '${ORGANIZATION}'::uuid end,
          'openrouter', 'model-' || s.model, (random() * 20000)::bigint, (random() * 5000)::bigint,
          (random() * 900)::bigint, (random() * 1000)::bigint, random() < 0.01,
          ('00000000-0000-4000-8000-' || lpad((s.u * 2 + s.key)::text, 12, '0'))::uuid,
          now() - random() * interval '89 days', ${POSITION}
        from (
          select floor(exp(random() * ln(${USERS})))::integer - 1 as u,
            floor(random() * 5)::integer as model, (random() < 0.2)::integer as key, random() as share
          from generate_series(1, $1::integer)
          offset 0
        ) as s`,
        [Math.min(left, 50_000)],
      );
    }
  } finally {
    client.release();
  }
}

/** Measured before its connection ends, with which its share of the server's CPU would. */
async function fold(
  bench: Bench,
  database: BenchDatabase,
  rollup: DimensionRollup,
): Promise<Measured> {
  const { folder, pool } = openFolder(database, rollup);
  try {
    return await measure(bench, () => folder.foldAll());
  } finally {
    await pool.end();
  }
}

async function readSize({ admin }: BenchDatabase, { name }: DimensionRollup) {
  const { rows } = await admin.query<{ rows: string; bytes: string }>(
    `select (select count(*) from ${name}) as rows, pg_total_relation_size('${name}') as bytes`,
  );
  return { rows: Number(rows[0]?.rows), bytes: Number(rows[0]?.bytes) };
}

type Report = [label: string, query: Partial<UsageReportQuery>];

/** The user at the head of the distribution, one in the middle of the busy ones, and the organization. */
const REPORTS: readonly Report[] = [
  ['first user, by day', { kilo_user_id: 'u0' }],
  ['first user, by day in Berlin', { kilo_user_id: 'u0', zone: 'Europe/Berlin' }],
  ['first user, by day in Kolkata', { kilo_user_id: 'u0', zone: 'Asia/Kolkata' }],
  ['first user, by day and model', { kilo_user_id: 'u0', by: ['model'] }],
  ['first user, by day, model and key', { kilo_user_id: 'u0', by: ['model', 'key'] }],
  ['first user, by hour and model', { kilo_user_id: 'u0', grain: 'hour', by: ['model'] }],
  [
    'first user, by hour and model in Berlin',
    { kilo_user_id: 'u0', grain: 'hour', by: ['model'], zone: 'Europe/Berlin' },
  ],
  ['50th user, by day', { kilo_user_id: 'u49' }],
  ['50th user, by day and model', { kilo_user_id: 'u49', by: ['model'] }],
  ['50th user, by hour and model', { kilo_user_id: 'u49', grain: 'hour', by: ['model'] }],
  ['organization, by day', { organization_id: ORGANIZATION }],
  ['organization, by day and member', { organization_id: ORGANIZATION, by: ['member'] }],
  [
    'organization, by day, member and model',
    { organization_id: ORGANIZATION, by: ['member', 'model'] },
  ],
];

interface Timed {
  label: string;
  answered: number;
  /** Of the server, a report. */
  cpuMs: number;
  /** Reports take turns, a slice each. */
  slicesMs: number[][];
}

async function timeReports(url: string, bench: Bench): Promise<Timed[]> {
  const pool = createPool({
    url,
    size: 1,
    applicationName: 'microdollar read',
    lockTimeoutMs: 1_000,
    statementTimeoutMs: 60_000,
    settings: CONNECTION_USES.report.settings,
  });
  const query = queryOnPool(pool, true);
  // As the ledger does; a round trip is pg's own.
  const inTurns = queryInTurns(pool, true);
  const reports = new UsageReports(inTurns, snapshotOnPool(pool, true), createMetrics());
  try {
    const [days] = await query<{ from: string; until: string }>({
      name: 'bench_range',
      text: `select ((now() at time zone 'UTC')::date - 89)::text as from,
        (now() at time zone 'UTC')::date::text as until`,
      values: [],
    });
    const range = days as { from: string; until: string };
    const runs: [label: string, run: () => Promise<number>][] = [
      [
        NOTHING,
        async () => (await query({ name: 'bench_select_1', text: NOTHING, values: [] })).length,
      ],
      ...REPORTS.map(([label, asked]): [string, () => Promise<number>] => [
        label,
        async () => (await reports.report({ ...range, ...asked })).rows.length,
      ]),
    ];
    const timed = runs.map(([label]): Timed => ({ label, answered: 0, cpuMs: 0, slicesMs: [] }));
    for (let slice = -1; slice < SLICES; slice++) {
      // Each after another one: what the largest leave behind is no part of one of them.
      const turns = runs.map((_, turn) => (turn + (slice + 1) * 4) % runs.length);
      for (const index of turns) {
        const [, run] = runs[index] as (typeof runs)[number];
        const timesMs: number[] = [];
        const { cpuMs } = await measure(bench, async () => {
          for (let round = 0; round < REPORTS_A_SLICE; round++) {
            const startedAt = performance.now();
            (timed[index] as Timed).answered = await run();
            timesMs.push(performance.now() - startedAt);
          }
        });
        // The first slice warms plans and caches.
        if (slice < 0) continue;
        const each = timed[index] as Timed;
        each.slicesMs.push(timesMs);
        each.cpuMs += cpuMs / SLICES / REPORTS_A_SLICE;
      }
    }
    return timed;
  } finally {
    await pool.end();
  }
}

/** Users of this scenario: those of the history have other ids, and no such rollup. */
const OURS = `kilo_user_id ~ '^u[0-9]+$'`;

async function check({ admin }: BenchDatabase): Promise<Check[]> {
  const checks: Check[] = [];
  for (const rollup of DIMENSION_ROLLUPS) {
    const differences = await findDifferences(admin, rollup, 'counters', OURS);
    checks.push({
      name: `${rollup.name} equals the raw sums, key by key`,
      ok: differences.length === 0,
      detail: `${differences.length} differences`,
    });
  }
  return checks;
}
