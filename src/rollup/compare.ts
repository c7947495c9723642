import type { Query } from '../db/query.js';
import { isLockTimeout, isStatementTimeout } from '../db/sqlstate.js';
import type { Rollup } from '../schema/rollups.js';
import type { ChunkSizer } from './chunkSizer.js';
import { type Chunk, type ComparedRow, compareStatement, type Finding } from './compare.sql.js';
import type { RollupDatabase } from './database.js';
import { expectRows } from './expectRows.js';
import { compareInSlices } from './slices.js';

/** `isLarge`: its rows are too many for one short statement. */
export type ChunkFinding = Finding & { isLarge: boolean };

export interface ComparedChunk {
  rawRows: number;
  rawCost: bigint;
  keys: number;
  inserted: number;
  conflicts: number;
  wrong: number;
  wrongCost: bigint;
  findings: ChunkFinding[];
  /** The last user of the chunk; null when the period is done. */
  userUntil: string | null;
  durationMs: number;
  /** A row could not be created: another session holds an uncommitted one of the same key. */
  isBlocked: boolean;
}

type Database = Pick<RollupDatabase, 'query' | 'transaction'>;

/** Compares one user's part of a period. */
export async function compareUser(
  database: Database,
  rollup: Rollup,
  sizer: ChunkSizer,
  { period, kiloUserId }: { period: string; kiloUserId: string },
): Promise<ComparedChunk> {
  const chunk = { period, access: 'user', userAfter: kiloUserId, userLimit: 1 } as const;
  const startedAt = performance.now();
  const compare = (rowLimit: number) =>
    compareChunk(database.query, rollup, { ...chunk, rowLimit }, false);
  const compared = await compare(sizer.rowLimit).catch((error) => {
    if (!isStatementTimeout(error)) throw error;
    return compare(0);
  });
  await addOversized(database, rollup, sizer, period, compared);
  return toChunk(compared, performance.now() - startedAt, false);
}

/** Compares, and with `build` completes, the next chunk of a period. */
export async function compareNext(
  database: Database,
  rollup: Rollup,
  sizer: ChunkSizer,
  at: { period: string; userAfter: string | null; build: boolean },
): Promise<ComparedChunk> {
  let { build } = at;
  let rowLimit = sizer.rowLimit;
  for (;;) {
    const byPeriod =
      at.userAfter === null &&
      sizer.usesPeriod(
        at.period,
        await expectRows(database.query, rollup, { from: at.period, until: at.period }),
      );
    const chunk: Chunk = {
      period: at.period,
      access: byPeriod ? 'period' : 'users',
      userAfter: at.userAfter,
      userLimit: sizer.users,
      rowLimit,
    };
    try {
      const startedAt = performance.now();
      const compared = await compareChunk(database.query, rollup, chunk, build);
      const durationMs = performance.now() - startedAt;
      if (byPeriod) sizer.observePeriod(compared.rawRows, durationMs);
      else sizer.observeBlock(compared.rawRows, durationMs);
      await addOversized(database, rollup, sizer, at.period, compared);
      return toChunk(compared, durationMs, build !== at.build);
    } catch (error) {
      if (!isStatementTimeout(error) && !isLockTimeout(error)) throw error;
      if (sizer.shrink(at.period, byPeriod)) continue;
      // Down to one user, and its row still cannot be created: tell what is missing.
      if (isLockTimeout(error) && build) build = false;
      // Its rows take too long: whoever has any is summed in slices.
      else if (isStatementTimeout(error) && rowLimit > 0) rowLimit = 0;
      else throw error;
    }
  }
}

interface Compared extends Omit<ComparedChunk, 'durationMs' | 'isBlocked'> {
  oversized: string[];
}

async function compareChunk(
  query: Query,
  rollup: Rollup,
  chunk: Chunk,
  build: boolean,
): Promise<Compared> {
  const [row] = await query<ComparedRow>(compareStatement(rollup, chunk, build));
  if (!row) throw new Error('compare returned no row');
  return toCompared(row, false);
}

/** Users who have too many rows for the chunk's statement, each in slices. */
async function addOversized(
  database: Database,
  rollup: Rollup,
  sizer: ChunkSizer,
  period: string,
  chunk: Compared,
): Promise<void> {
  for (const kiloUserId of chunk.oversized) {
    const of = { period, kiloUserId };
    const row = await compareInSlices(database, rollup, of, sizer.limits.rowsPerSlice);
    const user = toCompared(row, true);
    for (const sum of ['rawRows', 'keys', 'wrong'] as const) chunk[sum] += user[sum];
    for (const sum of ['rawCost', 'wrongCost'] as const) chunk[sum] += user[sum];
    chunk.findings.push(...user.findings);
  }
}

function toCompared(row: ComparedRow, isLarge: boolean): Compared {
  return {
    rawRows: Number(row.raw_rows),
    rawCost: BigInt(row.raw_cost),
    keys: Number(row.keys),
    inserted: Number(row.inserted),
    conflicts: Number(row.conflicts),
    wrong: Number(row.wrong),
    wrongCost: BigInt(row.wrong_cost),
    findings: (row.findings ?? []).map((finding) => ({ ...finding, isLarge })),
    oversized: row.oversized ?? [],
    userUntil: row.user_until,
  };
}

function toChunk(
  { oversized: _, ...compared }: Compared,
  durationMs: number,
  isBlocked: boolean,
): ComparedChunk {
  return { ...compared, durationMs, isBlocked };
}
