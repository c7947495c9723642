import type { Query } from '../db/query.js';
import { isSerializationFailure, isStatementTimeout } from '../db/sqlstate.js';
import type { Rollup } from '../schema/rollups.js';
import type { RollupDatabase } from './database.js';
import {
  auditStatement,
  type LockedCounterRow,
  lockCountersStatement,
  type RebuiltRow,
  rebuildCountersStatement,
  setCounterStatement,
} from './rebuild.sql.js';
import { SLICE_TIMEOUT_MS, sumInSlices } from './slices.js';

const KEYS_PER_STEP = 100;
/** For a row that moved on between the snapshot and its lock. */
const LOCK_TRIES = 10;

export interface Rebuilt {
  rows: RebuiltRow[];
  /** Counter rows that someone else held; try again later. */
  locked: number;
}

type Database = Pick<RollupDatabase, 'transaction'>;
type CauseOf = (row: RebuiltRow) => string;

/**
 * Sets counter rows to their true totals, in short transactions, each fenced by the row locks. With
 * causes, each correction is recorded in `rollup_repairs`. A row whose raw rows are too many for
 * a short statement is summed in slices.
 */
export async function rebuildCounters(
  database: Database,
  rollup: Rollup,
  ids: readonly string[],
  causeOf?: CauseOf,
): Promise<Rebuilt> {
  const rebuilt: Rebuilt = { rows: [], locked: 0 };
  for (let from = 0; from < ids.length; from += KEYS_PER_STEP) {
    add(
      rebuilt,
      await rebuildPart(database, rollup, ids.slice(from, from + KEYS_PER_STEP), causeOf),
    );
  }
  return rebuilt;
}

/** In one transaction; when that takes too long, in two halves. */
async function rebuildPart(
  database: Database,
  rollup: Rollup,
  ids: readonly string[],
  causeOf: CauseOf | undefined,
): Promise<Rebuilt> {
  try {
    return await database.transaction(async (query) => {
      const locked = await query<LockedCounterRow>(lockCountersStatement(rollup, ids));
      const lockedIds = locked.map((row) => row.id);
      const rows = await query<RebuiltRow>(rebuildCountersStatement(rollup, lockedIds));
      await audit(query, rollup, rows, causeOf);
      return { rows, locked: ids.length - locked.length };
    });
  } catch (error) {
    if (!isStatementTimeout(error)) throw error;
  }
  const [first] = ids;
  if (first !== undefined && ids.length === 1) {
    return await rebuildInSlices(database, rollup, first, causeOf);
  }
  const middle = Math.ceil(ids.length / 2);
  const rebuilt = await rebuildPart(database, rollup, ids.slice(0, middle), causeOf);
  return add(rebuilt, await rebuildPart(database, rollup, ids.slice(middle), causeOf));
}

/**
 * One counter row, however many raw rows it has, in one transaction of one snapshot, that of its
 * lock. What the lock holds up meanwhile is the settling of its payer: writers append, and
 * reported totals stay exact.
 */
export async function rebuildInSlices(
  database: Database,
  rollup: Rollup,
  id: string,
  causeOf?: CauseOf,
  rowsPerSlice?: number,
): Promise<Rebuilt> {
  for (let tries = 1; ; tries++) {
    try {
      return await database.transaction(
        async (query) => {
          const [counter] = await query<LockedCounterRow>(lockCountersStatement(rollup, [id]));
          if (!counter) return { rows: [], locked: 1 };
          const of = { period: counter.period, kiloUserId: counter.kilo_user_id };
          const sums = await sumInSlices(query, rollup, of, rowsPerSlice);
          const sum = sums.find((each) => each.organization_id === counter.organization_id);
          const rows = await query<RebuiltRow>(setCounterStatement(rollup, id, sum));
          await audit(query, rollup, rows, causeOf);
          return { rows, locked: 0 };
        },
        { snapshot: 'write', statementTimeoutMs: SLICE_TIMEOUT_MS },
      );
    } catch (error) {
      if (!isSerializationFailure(error) || tries >= LOCK_TRIES) throw error;
    }
  }
}

async function audit(
  query: Query,
  rollup: Rollup,
  rows: readonly RebuiltRow[],
  causeOf: CauseOf | undefined,
): Promise<void> {
  if (!causeOf || rows.length === 0) return;
  await query(auditStatement(rollup.name, rows, rows.map(causeOf)));
}

function add(to: Rebuilt, more: Rebuilt): Rebuilt {
  to.rows.push(...more.rows);
  to.locked += more.locked;
  return to;
}
