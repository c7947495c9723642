import type { Rollup } from '../schema/rollups.js';
import type { RollupDatabase } from './database.js';
import {
  auditStatement,
  lockCountersStatement,
  type RebuiltRow,
  rebuildCountersStatement,
} from './rebuild.sql.js';

const KEYS_PER_STEP = 100;

export interface Rebuilt {
  rows: RebuiltRow[];
  /** Counter rows that someone else held; try again later. */
  locked: number;
}

/**
 * Sets counter rows to their true totals, in short transactions, each fenced by the row locks
 * (design, section 5, step 2). With causes, each correction is recorded in `rollup_repairs`.
 */
export async function rebuildCounters(
  database: RollupDatabase,
  rollup: Rollup,
  ids: readonly string[],
  causeOf?: (row: RebuiltRow) => string,
): Promise<Rebuilt> {
  const rebuilt: Rebuilt = { rows: [], locked: 0 };
  for (let from = 0; from < ids.length; from += KEYS_PER_STEP) {
    const part = ids.slice(from, from + KEYS_PER_STEP);
    const { rows, locked } = await database.transaction(async (query) => {
      const lockedRows = await query<{ id: string }>(lockCountersStatement(rollup, part));
      const changed = await query<RebuiltRow>(
        rebuildCountersStatement(
          rollup,
          lockedRows.map((row) => row.id),
        ),
      );
      if (causeOf && changed.length > 0) {
        await query(auditStatement(rollup.name, changed, changed.map(causeOf)));
      }
      return { rows: changed, locked: part.length - lockedRows.length };
    });
    rebuilt.rows.push(...rows);
    rebuilt.locked += locked;
  }
  return rebuilt;
}
