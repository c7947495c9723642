import type pg from 'pg';
import { balanceStatement } from '../../src/counter/settle.sql.js';
import { createPool, READ_SETTINGS } from '../../src/db/pool.js';
import type { Statement } from '../../src/db/statement.js';
import { threeMonthTotalStatement } from '../../src/report/report.sql.js';
import { USER_SCOPE } from '../../src/schema/unsettled.js';
import type { Bench, BenchDatabase } from '../lib/bench.js';
import { HISTORY_USERS } from '../lib/history.js';
import { userId } from '../lib/population.js';
import type { Check, Comparison, Findings, Scenario } from '../lib/scenario.js';
import { median, quantile, ratiosPerRound, round } from '../lib/statistics.js';

const SLICE_MS = 500;
const READS = ['select 1', 'rollup', 'balance', 'raw'] as const;
/** Of one user whose tail holds `DEPTH` rows that nobody settles. */
const DEEP_READS = ['rollup, deep', 'balance, deep'] as const;
const DEPTH = 1_000;
const DEEP_USER = 'user with a tail';
type Read = (typeof READS)[number] | (typeof DEEP_READS)[number];

export const readLatency: Scenario = {
  name: 'read-latency',
  title: 'The three-month read as history grows',
  question:
    'What does "average monthly usage of the last three months" cost, from raw usage and from the rollup?',
  workload: `One connection, one read after the other, of a random one of ${HISTORY_USERS} users whose
usage of 90 days is spread evenly; everything in memory. The history grows between measurements, and
doubles at the end.`,
  baseline:
    'A round trip that does nothing (`select 1`), and the same answer from raw usage; prepared by ' +
    'name, on the same connection.',
  run,
};

type Times = Record<Read, number[]>;

interface Measured {
  rows: number;
  /** Per round, p50 in ms. */
  p50Ms: Times;
  p99Ms: Record<Read, number>;
  buffers: Record<'rollup' | 'raw', number>;
  isSame: boolean;
}

async function run(bench: Bench): Promise<Findings> {
  const millions = bench.pick([1, 3, 10, 20], [0.1, 0.2]);
  if (bench.options.large) millions.push(30);
  const measured: Measured[] = [];
  for (const million of millions) {
    const database = await bench.history(million * 1_000_000);
    measured.push(await measureReads(bench, database, million * 1_000_000));
  }
  return toFindings(measured, bench.pick([10, 20], [0.1, 0.2]) as [number, number]);
}

function statementOf(read: Read, user: string): Statement {
  switch (read) {
    case 'select 1':
      return { name: 'bench_select_1', text: 'select 1', values: [] };
    case 'balance':
      return balanceStatement(USER_SCOPE, user);
    case 'balance, deep':
      return balanceStatement(USER_SCOPE, DEEP_USER);
    case 'rollup, deep':
      return threeMonthTotalStatement('rollup', DEEP_USER, null);
    default:
      return threeMonthTotalStatement(read, user, null);
  }
}

/** As appended: with positions, and with counter rows that do not know of them. */
async function addTail({ admin }: BenchDatabase): Promise<void> {
  await admin.query('insert into kilocode_users (id) values ($1) on conflict do nothing', [
    DEEP_USER,
  ]);
  await admin.query(
    `insert into microdollar_usage (id, kilo_user_id, provider, model, cost, created_at, position)
    select gen_random_uuid(), $1, 'openrouter', 'anthropic/claude-opus-5', i,
      now() - make_interval(mins => i), microdollar_position()
    from generate_series(1, $2::integer) as i
    where not exists (select from microdollar_usage where kilo_user_id = $1)`,
    [DEEP_USER, DEPTH],
  );
}

async function measureReads(
  bench: Bench,
  database: BenchDatabase,
  rows: number,
): Promise<Measured> {
  const pool = createPool({
    url: database.url,
    size: 1,
    applicationName: 'bench reads',
    lockTimeoutMs: 5_000,
    statementTimeoutMs: 60_000,
    settings: READ_SETTINGS,
  });
  try {
    const rounds = Math.max(2, Math.round((bench.options.seconds ?? bench.pick(3, 1)) * 2));
    await addTail(database);
    const all = [...READS, ...DEEP_READS];
    const p50Ms = emptyTimes(all);
    const allMs = emptyTimes(all);
    for (const read of all) await readFor(pool, read, SLICE_MS);
    for (let turn = 0; turn < rounds; turn++) {
      for (const read of all) {
        const timesMs = await readFor(pool, read, SLICE_MS);
        p50Ms[read].push(round(quantile(timesMs, 0.5)));
        allMs[read].push(...timesMs);
      }
    }
    const p99Of = (read: Read) => round(quantile(allMs[read], 0.99));
    const measured = {
      rows,
      p50Ms,
      p99Ms: Object.fromEntries(all.map((read) => [read, p99Of(read)])) as Record<Read, number>,
      buffers: {
        rollup: await countBuffers(pool, 'rollup'),
        raw: await countBuffers(pool, 'raw'),
      },
      isSame: await isSameAnswer(pool),
    };
    bench.log(
      `  ${rows} rows: ${all.map((read) => `${read} ${median(p50Ms[read])} ms`).join(', ')}`,
    );
    return measured;
  } finally {
    await pool.end();
  }
}

function emptyTimes(reads: readonly Read[]): Times {
  return Object.fromEntries(reads.map((read) => [read, [] as number[]])) as Times;
}

/** Times of reads of random users, ms. */
async function readFor(pool: pg.Pool, read: Read, durationMs: number): Promise<number[]> {
  const timesMs: number[] = [];
  const endsAt = performance.now() + durationMs;
  for (let at = performance.now(); at < endsAt; ) {
    await pool.query(statementOf(read, userId(Math.floor(Math.random() * HISTORY_USERS))));
    const answeredAt = performance.now();
    timesMs.push(answeredAt - at);
    at = answeredAt;
  }
  return timesMs;
}

/** Buffers that the read of one user touches: does not depend on the machine. */
async function countBuffers(pool: pg.Pool, read: Read): Promise<number> {
  const { text, values } = statementOf(read, userId(1));
  const result = await pool.query(`explain (analyze, buffers, format json) ${text}`, values);
  const { Plan: plan } = result.rows[0]['QUERY PLAN'][0];
  return plan['Shared Hit Blocks'] + plan['Shared Read Blocks'];
}

async function isSameAnswer(pool: pg.Pool): Promise<boolean> {
  for (let user = 0; user < 20; user++) {
    const totals = [];
    for (const read of ['rollup', 'raw'] as const) {
      const result = await pool.query(statementOf(read, userId(user)));
      totals.push(Number(result.rows[0].total_cost_microdollars));
    }
    if (totals[0] !== totals[1] || totals[0] === 0) return false;
  }
  return true;
}

function toFindings(measured: readonly Measured[], doubling: [number, number]): Findings {
  const at = (million: number) =>
    measured.find(({ rows }) => rows === million * 1_000_000) as Measured;
  const [before, after] = doubling.map(at) as [Measured, Measured];
  const perSelect = ({ p50Ms }: Measured, read: Read = 'rollup') =>
    ratiosPerRound(p50Ms[read], p50Ms['select 1']);
  const [beforeMillion, afterMillion] = doubling;
  const comparisons: Comparison[] = [
    {
      subject: `balance, ${beforeMillion} million rows`,
      baseline: '`select 1`',
      measure: 'p50 ms',
      ratios: perSelect(before, 'balance'),
      target: { atMost: 1.5 },
    },
    ...DEEP_READS.map((read) => ({
      subject: `${read.replace(', deep', '')}, ${DEPTH.toLocaleString('en-US')} unsettled rows`,
      baseline: 'a millisecond',
      measure: 'p50 ms',
      ratios: before.p50Ms[read],
      target: { atMost: 1 },
    })),
    {
      subject: `rollup read, ${beforeMillion} million rows`,
      baseline: '`select 1`',
      measure: 'p50 ms',
      ratios: perSelect(before),
      target: { atMost: 3 },
    },
    {
      subject: `rollup read, ${afterMillion} million rows`,
      baseline: `${beforeMillion} million rows`,
      measure: 'p50 in units of `select 1`',
      ratios: ratiosPerRound(perSelect(after), perSelect(before)),
      target: { atMost: 1.15 },
    },
    {
      subject: `rollup read, ${afterMillion} million rows`,
      baseline: `${beforeMillion} million rows`,
      measure: 'buffers',
      ratios: [round(after.buffers.rollup / before.buffers.rollup)],
      target: { atMost: 1.15 },
    },
    {
      subject: 'raw read',
      baseline: `rollup read, ${beforeMillion} million rows`,
      measure: 'p50 ms',
      ratios: ratiosPerRound(before.p50Ms.raw, before.p50Ms.rollup),
      target: null,
    },
  ];
  return {
    comparisons,
    tables: [toTable(measured)],
    charts: [toChart(measured)],
    checks: toChecks(measured),
  };
}

function toTable(measured: readonly Measured[]) {
  return {
    title: 'Latency of one read (ms) and the buffers it touches',
    columns: [
      'raw rows',
      ...READS.flatMap((read) => [`${read}, p50`, `${read}, p99`]),
      'rollup, buffers',
      'raw, buffers',
    ],
    rows: measured.map(({ rows, p50Ms, p99Ms, buffers }) => [
      rows.toLocaleString('en-US'),
      ...READS.flatMap((read) => [round(median(p50Ms[read]), 3), round(p99Ms[read], 3)]),
      buffers.rollup,
      buffers.raw,
    ]),
  };
}

function toChart(measured: readonly Measured[]) {
  const kinds = {
    'select 1': 'limit',
    rollup: 'ours',
    balance: 'ours',
    raw: 'alternative',
  } as const;
  return {
    type: 'line' as const,
    name: 'latency',
    title: 'Latency of the three-month read (p50)',
    xLabel: 'million raw rows',
    yLabel: 'ms',
    lines: READS.map((read) => ({
      label: read,
      kind: kinds[read],
      points: measured.map(({ rows, p50Ms }): [number, number] => [
        rows / 1_000_000,
        median(p50Ms[read]),
      ]),
    })),
  };
}

function toChecks(measured: readonly Measured[]): Check[] {
  return measured.map(({ rows, isSame }) => ({
    name: `raw and rollup answer alike, ${rows.toLocaleString('en-US')} rows`,
    ok: isSame,
    detail: isSame ? '20 users, to the microdollar, none of them 0' : 'answers differ, or are 0',
  }));
}
