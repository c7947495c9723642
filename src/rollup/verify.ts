import { toSafeInteger } from '../money.js';
import type { Rollup } from '../schema/rollups.js';
import { ChunkSizer, type ComparedChunk, compareNext, compareUser } from './compare.js';
import type { Finding } from './compare.sql.js';
import {
  type Began,
  beginVerifyStatement,
  saveVerifiedStatement,
  sourceRangeStatement,
} from './coverage.sql.js';
import { openRollupDatabase, type RollupDatabase, whileAway } from './database.js';
import { readRange } from './days.js';
import { fallBackToRaw } from './readMode.js';

/**
 * Proves, or disproves, that reported totals equal raw usage, in both directions, by period and
 * by chunk, each chunk in one snapshot, so that a live write is never mistaken for drift. Notes the
 * result in `rollup_coverage`.
 */
export interface VerifyOptions {
  url: string;
  rollup: Rollup;
  /** UTC days, inclusive. Default: first raw or reported period until today. */
  from?: string;
  until?: string;
  /** Only this user; coverage is not noted then. */
  kiloUserId?: string;
  /** Default 2. */
  workers?: number;
  signal?: AbortSignal;
  onPeriod?: (period: string, done: number, total: number) => void;
  onNotice?: (message: string) => void;
  /** Rest between chunks, ms; for a low rate in the background. Default 0. */
  restMs?: number;
}

export type DriftKind = 'wrong' | 'missing' | 'orphan';

export interface Drift {
  kind: DriftKind;
  rollup: Rollup['name'];
  period: string;
  kiloUserId: string;
  organizationId: string | null;
  /** Row and pending, microdollars. */
  reportedMicrodollars: number;
  /** Raw rows and what was archived from them, microdollars. */
  trueMicrodollars: number;
  /** Reported minus true, microdollars. */
  driftMicrodollars: number;
  /** Reported minus true; Exa only. */
  requestDrift: number;
  likelyCause: string;
  counterId: string | null;
}

export interface VerifyReport {
  rollup: Rollup['name'];
  periods: number;
  rows: number;
  keys: number;
  driftKeys: number;
  /** Sum of absolute drift, microdollars. */
  driftMicrodollars: bigint;
  /** The first `MAX_DRIFTS`. */
  drifts: Drift[];
  durationMs: number;
}

/** Drifts kept in memory and reported one by one; all are counted. */
export const MAX_DRIFTS = 1_000;

export async function verifyRollup(options: VerifyOptions): Promise<VerifyReport> {
  const workers = options.workers ?? 2;
  const database = openRollupDatabase(options.url, workers);
  try {
    return await verifyOn(database, options, workers);
  } finally {
    await database.close();
  }
}

/** The same on connections that are open already. */
export async function verifyOn(
  database: RollupDatabase,
  options: Omit<VerifyOptions, 'url'>,
  workers: number,
): Promise<VerifyReport> {
  const startedAt = performance.now();
  const report: VerifyReport = {
    rollup: options.rollup.name,
    periods: 0,
    rows: 0,
    keys: 0,
    driftKeys: 0,
    driftMicrodollars: 0n,
    drifts: [],
    durationMs: 0,
  };
  const periods = await listPeriods(database, options);
  const queue = [...periods].reverse();
  await Promise.all(
    Array.from({ length: workers }, async () => {
      const sizer = new ChunkSizer();
      for (let period = queue.shift(); period && !options.signal?.aborted; period = queue.shift()) {
        await verifyPeriod(database, options, sizer, period, report);
        options.onPeriod?.(period, report.periods, periods.length);
      }
    }),
  );
  if (report.driftKeys > 0) await fallBack(database, options.rollup, report);
  report.durationMs = performance.now() - startedAt;
  return report;
}

/** Reads must not go on using a rollup that was found wrong (I10). */
async function fallBack(
  database: RollupDatabase,
  rollup: Rollup,
  report: VerifyReport,
): Promise<void> {
  if (rollup.name !== 'microdollar_usage_daily') return;
  const reason =
    `fell back: verify found ${report.driftKeys} wrong keys, ` +
    `${report.driftMicrodollars} microdollars in all`;
  await unlessReadOnly(() => fallBackToRaw(database.query, reason));
}

/** Periods from the first raw, reported or pending one, or `from`, until today, or `until`. */
async function listPeriods(
  database: RollupDatabase,
  options: Omit<VerifyOptions, 'url'>,
): Promise<string[]> {
  const { rollup } = options;
  const [source] = await database.query<{ first: string | null; current: string | null }>(
    sourceRangeStatement(rollup),
  );
  const [reported] = await database.query<{
    first: string | null;
    last: string | null;
    today: string;
  }>({
    name: 'microdollar_reported_range',
    text: `/* microdollar.reportedRange */
select least((select min(${rollup.periodColumn}) from ${rollup.name}),
    (select min(${rollup.pendingColumn}) from microdollar_usage_pending))::text as first,
  greatest((select max(${rollup.periodColumn}) from ${rollup.name}),
    (select max(${rollup.pendingColumn}) from microdollar_usage_pending))::text as last,
  (now() at time zone 'UTC')::date::text as today`,
    values: [],
  });
  const today = reported?.today ?? new Date().toISOString().slice(0, 10);
  const first =
    [source?.first, reported?.first, today].filter((day) => day != null).sort()[0] ?? today;
  const range = readRange(options.from, options.until, { first, current: today });
  // A reported day after today (an event may lie 5 min ahead) is part of the default range.
  const until = options.until ?? [range.until, reported?.last ?? today].sort()[1] ?? range.until;
  const rows = await database.query<{ period: string }>({
    name: 'microdollar_list_periods',
    text: `/* microdollar.listPeriods */
select p::date::text as period
from generate_series(date_trunc('${rollup.grain}', $1::date::timestamp), $2::date::timestamp,
  interval '1 ${rollup.grain}') as p
order by p`,
    values: [range.from, until],
  });
  return rows.map((row) => row.period);
}

async function verifyPeriod(
  database: RollupDatabase,
  options: Omit<VerifyOptions, 'url'>,
  sizer: ChunkSizer,
  period: string,
  report: VerifyReport,
): Promise<void> {
  const { rollup, kiloUserId } = options;
  const sums = { rows: 0, cost: 0n, driftKeys: 0, drift: 0n };
  const [began] = kiloUserId
    ? []
    : await database.query<Began>(beginVerifyStatement(rollup, period));
  let userAfter: string | null = null;
  do {
    const at: { period: string; userAfter: string | null; build: false } = {
      period,
      userAfter,
      build: false,
    };
    const chunk: ComparedChunk = await whileAway(
      () =>
        kiloUserId
          ? compareUser(database.query, rollup, period, kiloUserId)
          : compareNext(database.query, rollup, sizer, at),
      (reason) => options.onNotice?.(`waiting for the database: ${reason}`),
    );
    sums.rows += chunk.rawRows;
    sums.cost += chunk.rawCost;
    sums.driftKeys += chunk.wrong;
    sums.drift += chunk.wrongCost;
    report.keys += chunk.keys;
    for (const finding of chunk.findings.slice(0, MAX_DRIFTS - report.drifts.length)) {
      report.drifts.push(await explain(database, rollup, period, finding));
    }
    userAfter = chunk.userUntil;
    if (options.restMs) await new Promise((resolve) => setTimeout(resolve, options.restMs));
  } while (userAfter !== null && !options.signal?.aborted);
  report.rows += sums.rows;
  report.driftKeys += sums.driftKeys;
  report.driftMicrodollars += sums.drift;
  if (options.signal?.aborted && userAfter !== null) return;
  report.periods++;
  if (kiloUserId) return;
  await saveVerified(database, rollup, period, { ...sums, began });
}

async function saveVerified(
  database: RollupDatabase,
  rollup: Rollup,
  period: string,
  sums: { rows: number; cost: bigint; driftKeys: number; drift: bigint; began: Began | undefined },
): Promise<void> {
  await unlessReadOnly(() =>
    database.query(
      saveVerifiedStatement(rollup, {
        period,
        rawRows: sums.rows,
        rawCost: String(sums.cost),
        driftKeys: sums.driftKeys,
        drift: String(sums.drift),
        began: sums.began,
      }),
    ),
  );
}

/** Verification may run on a replica or as a reader: then nothing is noted. */
async function unlessReadOnly(run: () => Promise<unknown>): Promise<void> {
  try {
    await run();
  } catch (error) {
    const code = (error as { code?: string }).code;
    if (code !== '25006' && code !== '42501') throw error;
  }
}

async function explain(
  database: RollupDatabase,
  rollup: Rollup,
  period: string,
  finding: Finding,
): Promise<Drift> {
  const reported = BigInt(finding.row_total) + BigInt(finding.pending_cost);
  const truth = BigInt(finding.raw_cost) + BigInt(finding.archived_cost);
  const drift = BigInt(finding.drift);
  const kind: DriftKind =
    finding.counter_id === null
      ? 'missing'
      : Number(finding.raw_rows) === 0 && truth === 0n
        ? 'orphan'
        : 'wrong';
  return {
    kind,
    rollup: rollup.name,
    period,
    kiloUserId: finding.kilo_user_id,
    organizationId: finding.organization_id,
    reportedMicrodollars: toSafeInteger(reported),
    trueMicrodollars: toSafeInteger(truth),
    driftMicrodollars: toSafeInteger(drift),
    requestDrift: Number(finding.request_drift),
    likelyCause: await likelyCause(database, rollup, period, finding, kind, drift),
    counterId: finding.counter_id,
  };
}

/** A guess that helps to find the culprit; never used to correct anything. */
async function likelyCause(
  database: RollupDatabase,
  rollup: Rollup,
  period: string,
  finding: Finding,
  kind: DriftKind,
  drift: bigint,
): Promise<string> {
  if (kind === 'missing') {
    return BigInt(finding.pending_cost) === 0n
      ? 'no counter row: raw rows written by another program, or never built, or the row deleted'
      : 'counter row deleted while deltas were pending';
  }
  if (kind === 'orphan') return 'counter row without raw rows: raw rows deleted, or row planted';
  if (drift === 0n) return 'number of requests changed';
  if (drift > 0n) return 'raw row deleted behind the back, or total raised';
  const [match] = await database.query<{ id: string }>({
    name: 'microdollar_uncounted_row',
    text: `/* microdollar.findUncountedRow */
select s.id
from ${rollup.source} as s
where s.kilo_user_id = $1::text
  and s.organization_id is not distinct from $2::uuid
  and s.created_at >= $3::date::timestamp at time zone 'UTC'
  and s.created_at < ($3::date + interval '1 ${rollup.grain}') at time zone 'UTC'
  and s.cost = $4::bigint
limit 1`,
    values: [finding.kilo_user_id, finding.organization_id, period, String(-drift)],
  });
  return match
    ? `raw row ${match.id} is not counted: written by another program, or its pending row deleted`
    : 'raw rows are not counted, a pending row was deleted, or the total was lowered';
}
