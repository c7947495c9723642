import type { Query } from '../db/query.js';
import type { Rollup } from '../schema/rollups.js';
import type { ComparedRow } from './compare.sql.js';
import type { RollupDatabase } from './database.js';
import {
  compareSumsStatement,
  type Slice,
  type SliceSum,
  sliceEndStatement,
  sumSliceStatement,
} from './slices.sql.js';

/**
 * One user's rows of one period, when they are too many for one short statement: summed in slices
 * by created_at, all in one snapshot. Nobody waits for that snapshot; nothing is locked.
 */
const ROWS_PER_SLICE = 100_000;
/** Of one slice: however many rows share one instant, they are in one. */
export const SLICE_TIMEOUT_MS = 60_000;

/** In a transaction of one snapshot. By organization; empty when there are no rows. */
export async function sumInSlices(
  query: Query,
  rollup: Rollup,
  { period, kiloUserId }: { period: string; kiloUserId: string },
  rowsPerSlice = ROWS_PER_SLICE,
): Promise<SliceSum[]> {
  const sums = new Map<string | null, SliceSum>();
  for (let after: string | null = null; ; ) {
    const slice: Slice = { period, kiloUserId, after, until: null };
    const [end]: { until: string }[] = await query(sliceEndStatement(rollup, slice, rowsPerSlice));
    const until: string | null = end?.until ?? null;
    for (const sum of await query<SliceSum>(sumSliceStatement(rollup, { ...slice, until }))) {
      const before = sums.get(sum.organization_id);
      sums.set(sum.organization_id, before ? add(before, sum) : sum);
    }
    if (until === null) return [...sums.values()];
    after = until;
  }
}

function add(a: SliceSum, b: SliceSum): SliceSum {
  const plus = (column: Exclude<keyof SliceSum, 'organization_id'>) =>
    String(BigInt(a[column]) + BigInt(b[column]));
  return {
    organization_id: a.organization_id,
    cost: plus('cost'),
    row_count: plus('row_count'),
    settled_cost: plus('settled_cost'),
    settled_requests: plus('settled_requests'),
  };
}

/** Compares one user's part of a period, as `compareStatement` does. Works on a replica too. */
export async function compareInSlices(
  database: Pick<RollupDatabase, 'transaction'>,
  rollup: Rollup,
  of: { period: string; kiloUserId: string },
  rowsPerSlice?: number,
): Promise<ComparedRow> {
  return await database.transaction(
    async (query) => {
      const sums = await sumInSlices(query, rollup, of, rowsPerSlice);
      const [row] = await query<ComparedRow>(
        compareSumsStatement(rollup, of.period, of.kiloUserId, sums),
      );
      if (!row) throw new Error('compare returned no row');
      return row;
    },
    { snapshot: 'read', statementTimeoutMs: SLICE_TIMEOUT_MS },
  );
}
