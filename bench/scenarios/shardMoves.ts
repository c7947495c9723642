import { createUser, migrateShards } from '../../src/index.js';
import type { Ledger } from '../../src/ledgerTypes.js';
import { openMoves } from '../../src/shards/move/openMoves.js';
import { createShardedLedger } from '../../src/shards/shardedLedger.js';
import type { Bench, BenchDatabase } from '../lib/bench.js';
import { atRate } from '../lib/openLoop.js';
import { eventSource, type Population, userId } from '../lib/population.js';
import type { Check, Comparison, Table } from '../lib/scenario.js';
import { quantile, quantilesOf, ratiosPerRound, round } from '../lib/statistics.js';

const NEIGHBOURS = 500;
const MOVERS = 40;
const ROWS = 1_000;
const ROUNDS = 5;
const WRITERS = 16;
const WRITES_PER_SECOND = 100;
const QUIET_MS = 6_000;
const POPULATION: Population = {
  users: NEIGHBOURS,
  draw: (random) => () => Math.floor(random() * NEIGHBOURS),
};

/** What is found out of moves, of a scenario that has more to tell. */
export interface MoveFindings {
  tables: Table[];
  comparisons: Comparison[];
  checks: Check[];
}

interface Measured {
  /** Of each move, ms. */
  fencesMs: number[];
  /** Of each write of a payer that moves, ms. */
  ownMs: number[];
  /** Of others' writes, by round, ms. */
  quiet: number[][];
  beside: number[][];
  failures: string[];
  acknowledged: number;
}

const moverId = (n: number): string => `mover-${n}`;

/**
 * Moves of payers, one after the other, there and back, each under as many writers of its own; beside them others
 * write at a fixed rate, and before each round without a move.
 */
export async function measureMoves(bench: Bench): Promise<MoveFindings> {
  const databases: BenchDatabase[] = [await bench.createDatabase(), await bench.createDatabase()];
  const shards = databases.map(({ url }, n) => ({ name: `s${n}`, databaseUrl: url }));
  await migrateShards(shards);
  const ledger = await createShardedLedger({ shards });
  try {
    const measured = await measure(bench, ledger, shards);
    return toFindings(measured, await totalsOf(databases));
  } finally {
    await ledger.close();
    for (const database of databases) await database.drop();
  }
}

async function measure(
  bench: Bench,
  ledger: Ledger,
  shards: Parameters<typeof openMoves>[0],
): Promise<Measured> {
  const measured: Measured = {
    fencesMs: [],
    ownMs: [],
    quiet: [],
    beside: [],
    failures: [],
    acknowledged: 0,
  };
  const movers = Array.from({ length: bench.pick(MOVERS, 3) }, (_, n) => moverId(n));
  await fill(bench, ledger, movers, measured);
  await using opened = await openMoves(shards);
  const next = eventSource(POPULATION, 11);
  const write = () => record(ledger, next(), measured);
  await atRate(WRITES_PER_SECOND, 1_000, write);
  for (let turn = 0; turn < bench.pick(ROUNDS, 1); turn++) {
    // Its writers are there as well: what a move adds is the question.
    const stopQuiet = startWriters(ledger, movers[0] as string, measured);
    const quiet = await atRate(WRITES_PER_SECOND, bench.pick(QUIET_MS, 500), write);
    await stopQuiet();
    const beside: number[] = [];
    let isOver = false;
    const moving = (async () => {
      for (const mover of movers) {
        const there = await otherSideOf(ledger, mover);
        const stop = startWriters(ledger, mover, measured);
        const report = await opened.moves.move({ kilo_user_id: mover }, there);
        await stop();
        measured.fencesMs.push(report.fencedMs);
      }
    })().finally(() => {
      isOver = true;
    });
    while (!isOver) {
      const slice = await atRate(WRITES_PER_SECOND, 500, write);
      beside.push(...slice.timesMs);
      measured.failures.push(...slice.failures);
    }
    await moving;
    measured.failures.push(...quiet.failures);
    measured.quiet.push(quiet.timesMs);
    measured.beside.push(beside);
    bench.log(
      `  moves: fence p99 ${quantilesOf(measured.fencesMs).p99} ms, others' p99 ` +
        `${quantilesOf(quiet.timesMs).p99} -> ${quantilesOf(beside).p99} ms`,
    );
  }
  await ledger.fold();
  return measured;
}

async function fill(
  bench: Bench,
  ledger: Ledger,
  movers: readonly string[],
  measured: Measured,
): Promise<void> {
  for (let n = 0; n < NEIGHBOURS; n++) await createUser(ledger, { id: userId(n) });
  for (const id of movers) {
    await createUser(ledger, { id });
    const events = Array.from({ length: bench.pick(ROWS, 50) }, () => ({
      kilo_user_id: id,
      cost: 3,
    }));
    for (const answer of await ledger.recordUsageBatch(events)) {
      if (answer.status === 'recorded') measured.acknowledged += 3;
    }
  }
}

/** The shard where the payer is not. */
async function otherSideOf(ledger: Ledger, id: string): Promise<string> {
  const { pool } = await ledger.ask({ kilo_user_id: id }, async (part) => part);
  return ledger.parts.find((part) => part.ledger.pool !== pool)?.name ?? '';
}

/** Callers of one payer in a closed loop. @returns what ends them */
function startWriters(ledger: Ledger, id: string, measured: Measured): () => Promise<void> {
  let isOver = false;
  const writers = Array.from({ length: WRITERS }, async () => {
    while (!isOver) {
      const startedAt = performance.now();
      await record(ledger, { kilo_user_id: id, cost: 1 }, measured).catch((error: Error) => {
        measured.failures.push(error.message);
      });
      measured.ownMs.push(performance.now() - startedAt);
    }
  });
  return async () => {
    isOver = true;
    await Promise.all(writers);
  };
}

async function record(
  ledger: Ledger,
  event: { kilo_user_id: string; cost: number },
  measured: Measured,
): Promise<void> {
  const { status } = await ledger.recordUsage(event);
  if (status === 'recorded') measured.acknowledged += event.cost;
}

/** Of the log, and of balances of payers where they are at home. */
async function totalsOf(databases: readonly BenchDatabase[]): Promise<[number, number]> {
  let [log, balances] = [0, 0];
  for (const { admin } of databases) {
    const { rows } = await admin.query<{ log: string; balances: string }>(
      `select (select coalesce(sum(cost), 0) from microdollar_usage) as log,
        (select coalesce(sum(microdollars_used), 0) from kilocode_users where not is_elsewhere)
          as balances`,
    );
    log += Number(rows[0]?.log);
    balances += Number(rows[0]?.balances);
  }
  return [log, balances];
}

function toFindings(measured: Measured, [log, balances]: [number, number]): MoveFindings {
  const { fencesMs, ownMs, quiet, beside, failures, acknowledged } = measured;
  const p99s = (slices: readonly number[][]) => slices.map((each) => quantile(each, 0.99));
  const row = (label: string, values: readonly number[]) => {
    const { p50, p99, max } = quantilesOf(values);
    return [label, values.length, round(p50, 3), round(p99, 3), round(max, 3)];
  };
  const off = Math.abs(log - acknowledged) + Math.abs(balances - acknowledged);
  return {
    tables: [
      {
        title: `Moves of payers of ${ROWS} rows and more, each under ${WRITERS} writers of its own (ms)`,
        columns: ['what', 'measured', 'p50', 'p99', 'max'],
        rows: [
          row('a fence', fencesMs),
          row('a write of the payer that moves', ownMs),
          row("others' writes without a move", quiet.flat()),
          row("others' writes beside moves", beside.flat()),
        ],
      },
    ],
    comparisons: [
      {
        subject: 'beside moves',
        baseline: 'without a move',
        measure: "p99 ms of other payers' writes",
        ratios: ratiosPerRound(p99s(beside), p99s(quiet)),
        target: { atMost: 2 },
      },
      {
        subject: 'fences of moves, p99',
        baseline: 'one second',
        measure: 'ms',
        ratios: [round(quantile(fencesMs, 0.99) / 1_000)],
        target: { atMost: 1 },
      },
    ],
    checks: [
      {
        name: 'moves: totals are exact, and no call failed',
        ok: off === 0 && failures.length === 0,
        detail: failures[0] ?? `off by ${off}`,
      },
    ],
  };
}
