import { startRollupStatement } from '../../counter/foldDimensions.sql.js';
import { LedgerError } from '../../errors.js';
import { toExactInteger } from '../../money.js';
import {
  DIMENSION_ROLLUPS,
  type DimensionRollup,
  QUARTER_HOURLY,
} from '../../schema/dimensionRollups.js';
import { type Began, beginVerifyStatement, saveVerifiedStatement } from '../coverage.sql.js';
import {
  openRollupDatabase,
  pause,
  type RollupDatabase,
  type RollupDatabaseOptions,
  requireWritable,
  tellWaiting,
  whileAway,
} from '../database.js';
import { readRange } from '../dayRange.js';
import type { Drift } from '../explain.js';
import { describeFailure, isOfPeriod } from '../periodFailure.js';
import { type ListedPeriod, todayStatement } from '../periods.sql.js';
import { JobEnd, runWorkers } from '../runWorkers.js';
import {
  MAX_DRIFTS,
  proveEmpty,
  requireUser,
  unlessReadOnly,
  type VerifyReport,
} from '../verify.js';
import { type ComparedDay, compareDay } from './compareDay.js';
import type { SliceFinding } from './compareSlice.sql.js';
import {
  freezeDayStatement,
  isComparableStatement,
  listDaysStatement,
  noteDriftStatement,
} from './days.sql.js';
import { AT_ONCE, type Pace } from './pace.js';
import { rebuildSlice } from './rebuildSlice.js';

export interface ProveOptions extends RollupDatabaseOptions {
  url: string;
  rollup: DimensionRollup;
  /** UTC days, inclusive. Default: every day that has anything. */
  from?: string | undefined;
  until?: string | undefined;
  /** Only this user, whoever pays; of what is known of a day only drift is noted then. */
  kiloUserId?: string | undefined;
  /** Default 2. */
  workers?: number | undefined;
  signal?: AbortSignal | undefined;
  onPeriod?: ((day: string, done: number, total: number) => void) | undefined;
  onNotice?: ((message: string) => void) | undefined;
  /** Once, at the start: the report grows in place, so a job that fails is told as far as it came. */
  onReport?: ((report: ProveReport) => void) | undefined;
}

export interface ProveReport {
  /** What was found at first. */
  found: VerifyReport;
  /** Days that something was wrong of. */
  wrongDays: number;
  /** Counter rows written or deleted. */
  changed: number;
  /** Payers whose rows another session holds; run it again. */
  locked: number;
  /** What is wrong still; null where nothing was wrong. */
  left: VerifyReport | null;
}

/** Rounds of compare and rebuild of one day: others may hold a payer, or write without a position. */
const MAX_ROUNDS = 5;

export const provenOf = ({ name }: DimensionRollup) => ({ name, grain: 'day' as const });

/** Compares, by day; changes nothing but what is known of the days. */
export async function verifyDimensions(
  options: Omit<ProveOptions, 'onReport'> & { onReport?: (report: VerifyReport) => void },
): Promise<VerifyReport> {
  const { onReport } = options;
  return (await run({ ...options, onReport: ({ found }) => onReport?.(found) }, null)).found;
}

/** Fixes what a comparison finds, and keeps every correction in `rollup_repairs`. Idempotent. */
export async function repairDimensions(options: ProveOptions): Promise<ProveReport> {
  return await run(options, 'repair: counter rows differed from raw usage');
}

/** A job on an open database: what it waits for, and who is told of its progress. */
export interface ProveJob {
  database: RollupDatabase;
  end: JobEnd;
  pace: Pace;
  onDay?: (day: string, report: VerifyReport, totalDays: number) => void;
}

async function run(options: ProveOptions, cause: string | null): Promise<ProveReport> {
  const database = openRollupDatabase(options.url, options.workers ?? 2, options);
  try {
    const end = new JobEnd(options.signal);
    return await proveDays(options, cause, { database, end, pace: AT_ONCE });
  } finally {
    await database.close();
  }
}

/** `cause`: null = change nothing; empty = keep no record of corrections. */
export async function proveDays(
  options: ProveOptions,
  cause: string | null,
  { database, end, pace, onDay }: ProveJob,
): Promise<ProveReport> {
  const workers = options.workers ?? 2;
  if (cause !== null) await requireWritable(database.query);
  if (options.kiloUserId !== undefined) await requireUser(database, options.kiloUserId);
  const startedAt = performance.now();
  const found = emptyReport(options.rollup);
  const left = emptyReport(options.rollup);
  const report: ProveReport = { found, wrongDays: 0, changed: 0, locked: 0, left: null };
  options.onReport?.(report);
  await start(database, options.rollup);
  const { empty, others: queue } = await pace.step(async () => {
    const listed = await listDays(database, options);
    return await proveEmpty(database, provenOf(options.rollup), listed, {
      isNoted: options.kiloUserId === undefined,
    });
  });
  const total = empty.length + queue.length;
  /** Days with payers that were held at the time, and what was found of them. */
  const late: [day: string, proven: ProvenDay][] = [];
  found.periods = left.periods = empty.length;
  const newestEmpty = empty.at(-1);
  if (newestEmpty !== undefined) tellDay(newestEmpty);
  const prove = async (day: string, before: ProvenDay | null): Promise<void> => {
    const patiently = <T>(work: () => Promise<T>) =>
      whileAway(work, tellWaiting(options.onNotice), end.signal);
    try {
      const proven = await pace.turn(() =>
        patiently(() =>
          proveDay(database, options.rollup, day, { cause, pace, kiloUserId: options.kiloUserId }),
        ),
      );
      report.changed += proven.changed;
      if (before === null && proven.locked > 0 && proven.left.wrong > 0) {
        late.push([day, proven]);
        return;
      }
      noteDay(day, before ?? proven, proven);
    } catch (error) {
      if (before !== null) noteDay(day, before, before);
      if (!isOfPeriod(error)) throw error;
      found.failures.push(describeFailure(day, error));
      left.failures.push(describeFailure(day, error));
    }
    tellDay(day);
  };
  try {
    await runWorkers(workers, end, async () => {
      // The newest first: it is what reads need.
      for (let day = queue.pop(); day !== undefined && !end.signal.aborted; day = queue.pop()) {
        await prove(day, null);
      }
    });
    // One after the other: few payers are in all days, and a worker may have held them for another day.
    while (late.length > 0 && !end.signal.aborted) {
      const [day, proven] = late.shift() as (typeof late)[number];
      await prove(day, proven);
    }
  } finally {
    // Whatever ended the job: what was found of them at first is told.
    for (const [day, proven] of late) noteDay(day, proven, proven);
    found.durationMs = left.durationMs = performance.now() - startedAt;
    if (found.driftKeys > 0) report.left = left;
  }
  return report;

  function noteDay(day: string, first: ProvenDay, last: ProvenDay): void {
    report.locked += last.locked;
    note(found, day, first.found);
    note(left, day, last.left);
    if (first.found.wrong > 0) report.wrongDays++;
  }

  function tellDay(day: string): void {
    onDay?.(day, found, total);
    options.onPeriod?.(day, found.periods + found.failures.length, total);
  }
}

/** Before anything is known of a day: what is history by the start would be lost to one proven before it. */
const start = (database: Pick<RollupDatabase, 'query'>, rollup: DimensionRollup) =>
  unlessReadOnly(() => database.query(startRollupStatement(rollup)));

async function listDays(database: RollupDatabase, options: ProveOptions): Promise<ListedPeriod[]> {
  const [row] = await database.query<{ today: string }>(todayStatement());
  const { from, until } = readRange(options.from, options.until, row?.today ?? '');
  return await database.query(listDaysStatement(options.rollup, from, until));
}

interface ProvenDay {
  found: ComparedDay;
  left: ComparedDay;
  changed: number;
  locked: number;
}

interface ProveDayOptions {
  cause: string | null;
  evenBelowHorizon?: boolean;
  pace?: Pace;
  kiloUserId?: string | undefined;
}

/**
 * Compares a day and, with a cause, sets right what is wrong until nothing is; notes the result. A day
 * that is archived has no raw rows to compare with: it is left as it was proven before, also where an
 * archive has come to it since the comparison began.
 */
export async function proveDay(
  database: Pick<RollupDatabase, 'query' | 'transaction'>,
  rollup: DimensionRollup,
  day: string,
  { cause, evenBelowHorizon = false, pace = AT_ONCE, kiloUserId }: ProveDayOptions,
): Promise<ProvenDay> {
  const isArchived = async () => {
    if (evenBelowHorizon) return false;
    const statement = isComparableStatement(rollup, day);
    const [state] = await database.query<{ comparable: boolean }>(statement);
    return !state?.comparable;
  };
  const nothing = { rawRows: 0, rawCost: 0n, keys: 0, wrong: 0, wrongCost: 0n };
  const none: ComparedDay = { ...nothing, findings: [], wrongSlices: [] };
  if (await isArchived()) return { found: none, left: none, changed: 0, locked: 0 };
  let first: ComparedDay | null = null;
  const rebuilt = { changed: 0, locked: 0 };
  for (let round = 1; ; round++) {
    const [began] = await database.query<Began>(beginVerifyStatement(provenOf(rollup), day));
    const compared = await compareDay(database, rollup, day, { pace, kiloUserId });
    if (compared.wrong > 0 && (await isArchived())) {
      return { found: first ?? none, left: none, changed: rebuilt.changed, locked: 0 };
    }
    first ??= compared;
    if (compared.wrong === 0 || cause === null || round > MAX_ROUNDS) {
      if (kiloUserId === undefined) await save(database, rollup, day, compared, began);
      else if (compared.wrong > 0) await noteDrift(database, rollup, day, compared);
      return { found: first, left: compared, ...rebuilt };
    }
    if (round > 1) await pause(50 * round);
    rebuilt.locked = 0;
    for (const wrong of compared.wrongSlices) {
      const slices = { pace, evenBelowHorizon };
      const part = await rebuildSlice(database, rollup, wrong, cause || null, slices);
      rebuilt.changed += part.changed;
      rebuilt.locked += part.locked;
    }
  }
}

/**
 * Before raw rows of the day are deleted: proven by every rollup, set right if need be, and kept as it is
 * from then on. The quarters last: of what is frozen by them rows may be gone. A rollup that came after that
 * stays without the day, and reports of it come from the quarters.
 * @throws LedgerError `unavailable` where it stays wrong
 */
export async function freezeDay(
  database: Pick<RollupDatabase, 'query' | 'transaction'>,
  day: string,
  rollups: readonly DimensionRollup[] = DIMENSION_ROLLUPS,
): Promise<void> {
  const known = await database.query<{ rollup: string }>({
    name: 'microdollar_frozen_by',
    text: `select rollup from rollup_coverage where period = $1::date and state = 'archived'`,
    values: [day],
  });
  const frozen = new Set(known.map(({ rollup }) => rollup));
  const isLast = ({ name }: DimensionRollup) => Number(name === QUARTER_HOURLY.name);
  const thawed = rollups
    .filter(({ name }) => !frozen.has(name))
    .sort((a, b) => isLast(a) - isLast(b));
  if (thawed.length === 0) return;
  if (frozen.has(QUARTER_HOURLY.name)) {
    const { wrong } = await compareDay(database, QUARTER_HOURLY, day);
    if (wrong > 0) return;
  }
  // Side by side: each is one connection's work, and nothing else is done meanwhile.
  const settled = await Promise.allSettled(
    thawed.map(async (rollup) => {
      await start(database, rollup);
      return await proveDay(database, rollup, day, { cause: '', evenBelowHorizon: true });
    }),
  );
  for (const [index, rollup] of thawed.entries()) {
    const proof = settled[index];
    if (proof?.status === 'rejected') throw proof.reason;
    const wrong = proof?.value.left.wrong ?? 0;
    const isFrozen = async () => (await database.query(freezeDayStatement(rollup, day))).length > 0;
    if (wrong === 0 && (await isFrozen())) continue;
    throw new LedgerError(
      'unavailable',
      `${wrong} rows of ${rollup.name} are wrong on ${day}, or held by other sessions; run ` +
        '`repair`, then archive again',
      { details: { day } },
    );
  }
}

async function save(
  database: Pick<RollupDatabase, 'query'>,
  rollup: DimensionRollup,
  day: string,
  compared: ComparedDay,
  began: Began | undefined,
): Promise<void> {
  await unlessReadOnly(() =>
    database.query(
      saveVerifiedStatement(provenOf(rollup), {
        period: day,
        rawRows: compared.rawRows,
        rawCost: String(compared.rawCost),
        driftKeys: compared.wrong,
        drift: String(compared.wrongCost),
        began,
      }),
    ),
  );
}

/** Of one user: reads must not go on using the day (I10), and nothing is proven of the others'. */
async function noteDrift(
  database: Pick<RollupDatabase, 'query'>,
  rollup: DimensionRollup,
  day: string,
  { wrong, wrongCost }: ComparedDay,
): Promise<void> {
  const statement = noteDriftStatement(rollup, day, wrong, String(wrongCost));
  await unlessReadOnly(() => database.query(statement));
}

function emptyReport(rollup: DimensionRollup): VerifyReport {
  return {
    rollup: rollup.name,
    periods: 0,
    rows: 0,
    keys: 0,
    driftKeys: 0,
    driftMicrodollars: 0n,
    drifts: [],
    failures: [],
    durationMs: 0,
  };
}

function note(report: VerifyReport, day: string, compared: ComparedDay): void {
  report.periods++;
  report.rows += compared.rawRows;
  report.keys += compared.keys;
  report.driftKeys += compared.wrong;
  report.driftMicrodollars += compared.wrongCost;
  for (const finding of compared.findings) {
    if (report.drifts.length >= MAX_DRIFTS) return;
    report.drifts.push(toDrift(report.rollup, day, finding));
  }
}

function toDrift(rollup: string, _day: string, finding: SliceFinding): Drift {
  const reported = BigInt(finding.reported_cost);
  const truth = BigInt(finding.true_cost);
  const key = Object.entries(finding.dimensions)
    .filter(([, value]) => value !== null)
    .map(([name, value]) => `${name} ${value}`)
    .join(', ');
  return {
    kind: finding.kind,
    rollup,
    period: finding.period_start,
    kiloUserId: finding.kilo_user_id,
    organizationId: finding.organization_id,
    reportedMicrodollars: toExactInteger(reported),
    trueMicrodollars: toExactInteger(truth),
    driftMicrodollars: toExactInteger(reported - truth),
    requestDrift: Number(finding.request_drift),
    likelyCause: `${causeOf(finding)}${key === '' ? '' : ` (${key})`}`,
    counterId: finding.counter_id,
    fits: true,
    isLarge: false,
  };
}

function causeOf(finding: SliceFinding): string {
  if (finding.is_misfiled) return 'columns of the row are not those of its key';
  if (finding.kind === 'orphan')
    return 'counter row without raw rows: planted, or they were deleted';
  if (finding.kind === 'missing') {
    return 'no counter row: raw rows of another program, never built, or the row deleted';
  }
  return 'sums changed, raw rows of another program or deleted, or a mark moved';
}
