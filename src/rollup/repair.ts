import {
  openRollupDatabase,
  type RollupDatabase,
  requireWritable,
  tellWaiting,
  whileAway,
} from './database.js';
import type { Drift } from './explain.js';
import { openCounter } from './openCounter.js';
import { type Rebuilt, rebuildCounters, rebuildInSlices } from './rebuild.js';
import type { RebuiltRow } from './rebuild.sql.js';
import { type VerifyOnOptions, type VerifyOptions, type VerifyReport, verifyOn } from './verify.js';

/**
 * Fixes exactly what a verification finds: a missing row is created at zero and then, like a
 * wrong one, set to its true total under its row lock; an orphan becomes 0, it is not
 * deleted. Each correction is recorded in `rollup_repairs`. Idempotent: the true total is computed
 * anew under the lock, so a second repair, or one beside live writers, changes nothing.
 */
export interface RepairReport {
  found: VerifyReport;
  /** Keys corrected. */
  repaired: number;
  /** Keys whose row another session holds; run the repair again. */
  locked: number;
  /** After the repair: what the periods concerned still show. */
  left: VerifyReport | null;
}

/** Passes of verify and repair; each handles up to `MAX_DRIFTS` keys. */
const MAX_PASSES = 1_000;

export async function repairRollup(options: VerifyOptions): Promise<RepairReport> {
  const workers = options.workers ?? 2;
  const database = openRollupDatabase(options.url, workers + 1, options);
  try {
    return await repairOn(database, options, workers);
  } finally {
    await database.close();
  }
}

/** The same on connections that are open already. */
export async function repairOn(
  database: RollupDatabase,
  options: VerifyOnOptions,
  workers: number,
): Promise<RepairReport> {
  await requireWritable(database.query);
  const found = await verifyOn(database, options, workers);
  let report = found;
  let repaired = 0;
  let locked = 0;
  for (let pass = 0; pass < MAX_PASSES && report.drifts.length > 0; pass++) {
    const result = await repairDrifts(database, options, report.drifts);
    repaired += result.repaired;
    locked = result.locked;
    // What was found last stays named: nobody looked again.
    if (options.signal?.aborted) break;
    report = await verifyOn(database, { ...options, ...periodsAfter(report) }, workers);
    if (result.repaired === 0) break;
  }
  return { found, repaired, locked, left: found.driftKeys > 0 ? report : null };
}

/** Where there may be drift yet: where it was found, unless more was found than was named. */
function periodsAfter({ driftKeys, drifts }: VerifyReport): { periods?: string[] } {
  if (driftKeys > drifts.length) return {};
  return { periods: [...new Set(drifts.map((drift) => drift.period))] };
}

async function repairDrifts(
  database: RollupDatabase,
  { rollup, limits, onNotice, signal }: VerifyOnOptions,
  drifts: readonly Drift[],
): Promise<{ repaired: number; locked: number }> {
  const patiently = <T>(run: () => Promise<T>) => whileAway(run, tellWaiting(onNotice), signal);
  const done = { repaired: 0, locked: 0 };
  const add = (rebuilt: Rebuilt) => {
    done.repaired += rebuilt.rows.length;
    done.locked += rebuilt.locked;
  };
  const causes = new Map<string, string>();
  const causeOf = (row: RebuiltRow) => causes.get(row.id) ?? 'wrong';
  const ids: string[] = [];
  for (const drift of drifts.filter(({ fits }) => fits)) {
    const open = () => openCounter(database.query, rollup, drift);
    const id = drift.counterId ?? (await patiently(open));
    if (id === null) {
      done.locked++;
      continue;
    }
    causes.set(id, `${drift.kind}: ${drift.likelyCause}`);
    if (!drift.isLarge) ids.push(id);
    else {
      add(
        await patiently(() => rebuildInSlices(database, rollup, id, causeOf, limits?.rowsPerSlice)),
      );
    }
  }
  add(await patiently(() => rebuildCounters(database, rollup, ids, causeOf)));
  return done;
}
