import { openMarksStatement, startRollupStatement } from '../../counter/foldDimensions.sql.js';
import type { DimensionRollup } from '../../schema/dimensionRollups.js';
import { ORGANIZATION_SCOPE, type PayerScope, USER_SCOPE } from '../../schema/unsettled.js';
import type { RollupDatabase } from '../database.js';
import { auditStatement } from '../rebuild.sql.js';
import type { WrongSlice } from './compareDay.js';
import { AT_ONCE, type Pace } from './pace.js';
import {
  lockMarksStatement,
  type RebuiltPayerRow,
  rebuildSliceStatement,
} from './rebuildSlice.sql.js';

/** At first; then as many as fill the time: a step of few is mostly its round trips and its flush. */
const PAYERS_PER_STEP = 100;
const MAX_PAYERS_PER_STEP = 3_200;
const TARGET_MS = 500;
/** The payers' folds wait meanwhile, and nobody else: reads sum a longer tail. */
const REBUILD_TIMEOUT_MS = 10 * 60_000;

export interface RebuiltSlice {
  /** Counter rows written or deleted. */
  changed: number;
  /** Payers whose mark someone else held; try again later. */
  locked: number;
}

/**
 * Sets the counter rows of payers in a slice to what their raw rows say, in short transactions, each
 * under the payers' marks. Idempotent. With a cause, corrections are kept in `rollup_repairs`.
 */
export async function rebuildSlice(
  database: Pick<RollupDatabase, 'query' | 'transaction'>,
  rollup: DimensionRollup,
  { slice, users, organizations }: WrongSlice,
  cause: string | null,
  { pace = AT_ONCE, evenBelowHorizon = false }: { pace?: Pace; evenBelowHorizon?: boolean } = {},
): Promise<RebuiltSlice> {
  const rebuilt: RebuiltSlice = { changed: 0, locked: 0 };
  await database.query(startRollupStatement(rollup));
  const scopes: [PayerScope, string[]][] = [
    [USER_SCOPE, users],
    [ORGANIZATION_SCOPE, organizations],
  ];
  for (const [scope, payers] of scopes) {
    let size = PAYERS_PER_STEP;
    for (let from = 0; from < payers.length; ) {
      const ids = payers.slice(from, from + size);
      from += ids.length;
      await database.query(openMarksStatement(rollup, scope, ids));
      const part = await pace.step(async () => {
        const startedAt = performance.now();
        const done = await database.transaction(
          async (query) => {
            const locked = await query<{ id: string }>(lockMarksStatement(rollup, scope, ids));
            const lockedIds = locked.map(({ id }) => id);
            const rows = await query<RebuiltPayerRow>(
              rebuildSliceStatement(rollup, scope, lockedIds, slice, evenBelowHorizon),
            );
            if (cause !== null && rows.length > 0) {
              const causes = rows.map(() => cause);
              await query(auditStatement(rollup.name, rows, causes));
            }
            const changed = rows.reduce((sum, row) => sum + Number(row.changed), 0);
            return { changed, locked: ids.length - lockedIds.length };
          },
          { statementTimeoutMs: REBUILD_TIMEOUT_MS },
        );
        size = nextSize(size, performance.now() - startedAt);
        return done;
      });
      rebuilt.changed += part.changed;
      rebuilt.locked += part.locked;
    }
  }
  return rebuilt;
}

/** Grows only while there is room for twice as many; shrinks at once. */
function nextSize(size: number, durationMs: number): number {
  if (durationMs > TARGET_MS) return Math.max(1, Math.floor(size / 2));
  return durationMs < TARGET_MS / 2 ? Math.min(MAX_PAYERS_PER_STEP, size * 2) : size;
}
