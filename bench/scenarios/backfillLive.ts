import { createLedger } from '../../src/ledger.js';
import { setBackfillPaused } from '../../src/rollup/backfill.js';
import { openRollupDatabase } from '../../src/rollup/database.js';
import { verifyRollup } from '../../src/rollup/verify.js';
import { DAILY_ROLLUP } from '../../src/schema/rollups.js';
import type { Bench, BenchDatabase } from '../lib/bench.js';
import { atRate } from '../lib/openLoop.js';
import type { Comparison, Table } from '../lib/scenario.js';
import { quantile, ratiosPerRound, round } from '../lib/statistics.js';

/** Of what a closed loop of 32 callers reaches: an operator adds a machine not far above it. */
const SHARE_OF_CAPACITY = 0.45;
const CALLERS = 32;
/** After a switch: the job looks twice a second whether it is paused. */
const SWITCH_MS = 800;

type Write = () => Promise<unknown>;

/** One way to write, in turns without the backfill and beside it. */
interface Turns {
  label: string;
  /** Milliseconds a call, by turn. */
  without: number[][];
  beside: number[][];
}

export interface LivePart {
  users: number;
  /** The newest, that are built: the live part ends with them. */
  days: number;
  startBackfill(from: string): Promise<unknown>;
}

export interface LiveFigures {
  rate: number;
  atRate: Turns;
  saturated: Turns;
  /** Of the backfill, beside writers at that rate. */
  rowsPerSecond: number;
  failures: string[];
  driftKeys: number;
}

/**
 * Latency of live writers in turns with the backfill paused and not, on the same history: at a fixed rate,
 * whether or not earlier calls were answered, and in a closed loop that takes all there is.
 */
export async function measureLive(
  bench: Bench,
  database: BenchDatabase,
  { users, days, startBackfill }: LivePart,
): Promise<LiveFigures> {
  const ledger = await createLedger({ databaseUrl: database.url });
  const jobs = openRollupDatabase(database.url, 1);
  const failures: string[] = [];
  try {
    const write = () => {
      const ageMs = Math.random() < 0.1 ? Math.random() * 90 * 86_400_000 : 0;
      return ledger.recordUsage({
        kilo_user_id: `user-${Math.floor(Math.random() * users)}`,
        cost: 1 + Math.floor(Math.random() * 5000),
        created_at: new Date(Date.now() - ageMs),
      });
    };
    const closedLoop = (durationMs: number) => inClosedLoop(write, durationMs);
    const warmUp = await closedLoop(bench.pick(5_000, 1_000));
    const rate = Math.max(1, Math.round(warmUp.perSecond * SHARE_OF_CAPACITY));
    const openLoop = async (durationMs: number) => {
      const { timesMs, failures: failed } = await atRate(rate, durationMs, write);
      failures.push(...failed);
      return { timesMs };
    };
    const setPaused = (isPaused: boolean) => setBackfillPaused(jobs, DAILY_ROLLUP, isPaused);
    const from = new Date(Date.now() - days * 86_400_000).toISOString().slice(0, 10);
    await setPaused(true);
    let isRunning = true;
    const working = startBackfill(from).finally(() => {
      isRunning = false;
    });
    const done: { rows: number; ms: number } = { rows: 0, ms: 0 };

    /** Writers go on over the switch: the job knows them by what they did a moment ago. */
    const takeTurns = async (
      turns: Turns,
      count: number,
      load: (durationMs: number) => Promise<{ timesMs: number[] }>,
    ) => {
      for (let turn = 0; turn < count; turn++) {
        await setPaused(true);
        await load(SWITCH_MS);
        const without = await load(bench.pick(4_000, 500));
        await setPaused(false);
        await load(SWITCH_MS);
        if (!isRunning) return;
        const before = await rowsDone(database);
        const startedAt = performance.now();
        const beside = await load(bench.pick(8_000, 500));
        const ms = performance.now() - startedAt;
        if (!isRunning) return;
        turns.without.push(without.timesMs);
        turns.beside.push(beside.timesMs);
        if (load !== openLoop) continue;
        done.rows += (await rowsDone(database)) - before;
        done.ms += ms;
      }
    };

    const steady: Turns = { label: `${rate} events/s`, without: [], beside: [] };
    const saturated: Turns = { label: `closed loop of ${CALLERS}`, without: [], beside: [] };
    // Connections of the worker's process, and its first look.
    await openLoop(bench.pick(2_000, 1_000));
    await takeTurns(steady, bench.pick(5, 1), openLoop);
    await takeTurns(saturated, bench.pick(2, 1), closedLoop);
    await setPaused(false);
    await working;
    await ledger.fold();
    const { driftKeys } = await verifyRollup({ url: database.url, rollup: DAILY_ROLLUP, from });
    const rowsPerSecond = Math.round((done.rows / Math.max(1, done.ms)) * 1_000);
    for (const turns of [steady, saturated]) {
      bench.log(
        `  live, ${turns.label}: p99 ${p99s(turns.without)} ms without, ${p99s(turns.beside)} ms beside`,
      );
    }
    bench.log(`  the backfill beside them: ${rowsPerSecond} rows/s`);
    return { rate, atRate: steady, saturated, rowsPerSecond, failures, driftKeys };
  } finally {
    await jobs.close();
    await ledger.close();
  }
}

const p99s = (turns: readonly number[][]) =>
  turns.map((timesMs) => round(quantile(timesMs, 0.99), 3)).join(' ');

async function rowsDone({ admin }: BenchDatabase): Promise<number> {
  const { rows } = await admin.query<{ rows_done: string }>(
    'select rows_done from rollup_backfill where rollup = $1',
    [DAILY_ROLLUP.name],
  );
  return Number(rows[0]?.rows_done ?? 0);
}

async function inClosedLoop(write: Write, durationMs: number) {
  const timesMs: number[] = [];
  const endsAt = performance.now() + durationMs;
  await Promise.all(
    Array.from({ length: CALLERS }, async () => {
      for (let at = performance.now(); at < endsAt; ) {
        await write();
        const now = performance.now();
        timesMs.push(now - at);
        at = now;
      }
    }),
  );
  return { timesMs, perSecond: (timesMs.length / durationMs) * 1000 };
}

export function compareLive({ atRate: steady, saturated }: LiveFigures): Comparison[] {
  const p99 = (turns: readonly number[][]) => turns.map((timesMs) => quantile(timesMs, 0.99));
  return [steady, saturated].map((turns) => ({
    subject: `live writers beside backfill, ${turns.label}`,
    baseline: 'the same with it paused, in turns',
    measure: 'p99 ms',
    ratios: ratiosPerRound(p99(turns.beside), p99(turns.without)),
    // What saturates both cores shares them with whatever comes: nothing is promised there.
    target: turns === steady ? { atMost: 2 } : null,
  }));
}

export function toLiveTable({ atRate: steady, saturated, rowsPerSecond }: LiveFigures): Table {
  const row = (label: string, turns: readonly number[][]) => {
    const values = turns.flat();
    return [label, values.length, ...[0.5, 0.99, 1].map((q) => round(quantile(values, q), 3))];
  };
  const built = rowsPerSecond.toLocaleString('en-US');
  return {
    title: `Latency of live writers (ms); beside them at a fixed rate ${built} rows/s are built`,
    columns: ['', 'calls', 'p50', 'p99', 'max'],
    rows: [steady, saturated].flatMap((turns) => [
      row(`${turns.label}, without`, turns.without),
      row(`${turns.label}, beside`, turns.beside),
    ]),
  };
}
