import type { Rollup } from '../schema/rollups.js';
import { openRollupDatabase, type RollupDatabase, requireWritable } from './database.js';
import { rebuildCounters } from './rebuild.js';
import {
  type Drift,
  MAX_DRIFTS,
  type VerifyOptions,
  type VerifyReport,
  verifyOn,
} from './verify.js';

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
  const database = openRollupDatabase(options.url, workers + 1);
  try {
    await requireWritable(database.query);
    const found = await verifyOn(database, options, workers);
    let report = found;
    let repaired = 0;
    let locked = 0;
    for (let pass = 0; pass < MAX_PASSES && report.drifts.length > 0; pass++) {
      const result = await repairDrifts(database, options.rollup, report.drifts);
      repaired += result.repaired;
      locked = result.locked;
      const days = report.drifts.map((drift) => drift.period).sort();
      const range = { from: days[0] ?? '', until: days.at(-1) ?? '' };
      const more = report.driftKeys > MAX_DRIFTS ? {} : range;
      report = await verifyOn(database, { ...options, ...more }, workers);
      if (result.repaired === 0) break;
    }
    return { found, repaired, locked, left: found.driftKeys > 0 ? report : null };
  } finally {
    await database.close();
  }
}

async function repairDrifts(
  database: RollupDatabase,
  rollup: Rollup,
  drifts: readonly Drift[],
): Promise<{ repaired: number; locked: number }> {
  let repaired = 0;
  let locked = 0;
  const ids: string[] = [];
  const causes = new Map<string, string>();
  for (const drift of drifts) {
    const id = drift.counterId ?? (await createRow(database, rollup, drift));
    if (id === null) {
      locked++;
      continue;
    }
    ids.push(id);
    causes.set(id, `${drift.kind}: ${drift.likelyCause}`);
  }
  const rebuilt = await rebuildCounters(
    database,
    rollup,
    ids,
    (row) => causes.get(row.id) ?? 'wrong',
  );
  repaired += rebuilt.rows.length;
  return { repaired, locked: locked + rebuilt.locked };
}

/** The missing row at zero, in a transaction of its own (rule 1); null when someone else is at it. */
async function createRow(
  database: RollupDatabase,
  rollup: Rollup,
  drift: Drift,
): Promise<string | null> {
  const opened =
    rollup.name === 'microdollar_usage_daily'
      ? 'microdollar_open_daily($1::text, $2::uuid, $3::date, 0)'
      : `microdollar_open_exa_month($1::text, $2::uuid, $3::date, coalesce((
          select e.free_allowance_microdollars from exa_monthly_usage_exact as e
          where e.kilo_user_id = $1::text
            and e.organization_id is not distinct from $2::uuid
            and e.month = $3::date), 10000000))`;
  const values = [drift.kiloUserId, drift.organizationId, drift.period];
  await database.query({
    name: `microdollar_open_${rollup.name}`,
    text: `/* microdollar.openMissingRow */ select ${opened}`,
    values,
  });
  const [row] = await database.query<{ id: string }>({
    name: `microdollar_find_${rollup.name}`,
    text: `/* microdollar.findCounterRow */
select id
from ${rollup.name}
where kilo_user_id = $1::text
  and organization_id is not distinct from $2::uuid
  and ${rollup.periodColumn} = $3::date`,
    values,
  });
  return row?.id ?? null;
}
