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

const PAYERS_PER_STEP = 100;
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
  pace: Pace = AT_ONCE,
): Promise<RebuiltSlice> {
  const rebuilt: RebuiltSlice = { changed: 0, locked: 0 };
  await database.query(startRollupStatement(rollup));
  const scopes: [PayerScope, string[]][] = [
    [USER_SCOPE, users],
    [ORGANIZATION_SCOPE, organizations],
  ];
  for (const [scope, payers] of scopes) {
    for (let from = 0; from < payers.length; from += PAYERS_PER_STEP) {
      const ids = payers.slice(from, from + PAYERS_PER_STEP);
      await database.query(openMarksStatement(rollup, scope, ids));
      const part = await pace.step(() =>
        database.transaction(
          async (query) => {
            const locked = await query<{ id: string }>(lockMarksStatement(rollup, scope, ids));
            const lockedIds = locked.map(({ id }) => id);
            const rows = await query<RebuiltPayerRow>(
              rebuildSliceStatement(rollup, scope, lockedIds, slice),
            );
            if (cause !== null && rows.length > 0) {
              const causes = rows.map(() => cause);
              await query(auditStatement(rollup.name, rows, causes));
            }
            const changed = rows.reduce((sum, row) => sum + Number(row.changed), 0);
            return { changed, locked: ids.length - lockedIds.length };
          },
          { statementTimeoutMs: REBUILD_TIMEOUT_MS },
        ),
      );
      rebuilt.changed += part.changed;
      rebuilt.locked += part.locked;
    }
  }
  return rebuilt;
}
