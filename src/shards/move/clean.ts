import { setTimeout as sleep } from 'node:timers/promises';
import { DimensionFolder } from '../../counter/dimensionFolder.js';
import { Settler } from '../../counter/settler.js';
import { type Query, queryOn, queryOnPool } from '../../db/query.js';
import { withRetry } from '../../db/retry.js';
import { inTransaction } from '../../db/transaction.js';
import { LedgerError } from '../../errors.js';
import { EXA_LOG, type Log, USAGE_LOG } from '../../schema/unsettled.js';
import {
  cleanExaMonthStatement,
  cleanUsageStatement,
  findIdsStatement,
  findSinceStatement,
  forgetPayerStatement,
  HORIZON,
  hasTailStatement,
  listIdsStatement,
} from './clean.sql.js';
import { forwardHeldStatement, lockPayerStatements } from './state.sql.js';
import { keyOf, type MovedPayer, type MoveShard } from './types.js';

const FOLD_TRIES = 50;
const FOLD_PAUSE_MS = 100;

export interface CleanOptions {
  payer: MovedPayer;
  /** Where the payer is elsewhere. */
  shard: MoveShard;
  /** Who must have a row before it is deleted. */
  keeper: MoveShard;
  pageRows: number;
  /** Rows that the keeper lacks, which a program of its own wrote there late: copied before. */
  copy: (log: Log, ids: readonly string[]) => Promise<unknown>;
  isStopped: () => boolean;
  onPage: (rows: number) => Promise<void>;
}

/**
 * Takes away what a shard has of a payer that is elsewhere, in pages: rows that the other shard is seen to
 * have, with what they add to the counters here. Every statement leaves the shard exact; a kill leaves less
 * to do.
 * @returns whether all of it is gone
 */
export async function cleanPayer(options: CleanOptions): Promise<boolean> {
  if (!(await isKnown(options))) return true;
  await fold(options);
  for (const log of [USAGE_LOG, EXA_LOG]) {
    if (!(await cleanLog(log, options))) return false;
  }
  const { scope, id } = options.payer;
  await inLock(options, async (query) => {
    // Where a mover was killed before the hand-over was committed here.
    await query(forwardHeldStatement(scope, id));
    await query(forgetPayerStatement(scope, id));
  });
  return true;
}

/** Not so where a mover was killed, or refused, before it made the payer known. */
async function isKnown({ payer: { scope, id }, shard }: CleanOptions): Promise<boolean> {
  const [lockPayer] = lockPayerStatements(scope, id);
  return (await withRetry(() => queryOnPool(shard.pool, true)(lockPayer))).length > 0;
}

/** What is settled can be taken off again; nobody appends any more. */
async function fold({ payer: { scope, id }, shard }: CleanOptions): Promise<void> {
  const query = queryOnPool(shard.pool, true);
  const settler = new Settler({ query });
  const folder = new DimensionFolder({ query });
  for (let tries = 1; ; tries++) {
    const { left } = await settler.settle(scope, [id]);
    await folder.fold(scope, [id]);
    if (left === 0) return;
    if (tries === FOLD_TRIES) {
      throw new LedgerError(
        'unavailable',
        `usage of ${scope.name}:${id} on shard ${shard.name} cannot be settled: another session holds it`,
      );
    }
    await sleep(FOLD_PAUSE_MS);
  }
}

async function cleanLog(log: Log, options: CleanOptions): Promise<boolean> {
  const { payer, shard, keeper, pageRows, copy, isStopped, onPage } = options;
  const { scope, id } = payer;
  // Planned for each page, as pages are read (copyRows.ts).
  const from = queryOnPool(shard.pool, false);
  const kept = queryOnPool(keeper.pool, false);
  while (!isStopped()) {
    // Of Exa a whole month goes at once: all of it must be there.
    const limit = log === EXA_LOG ? 1_000_000 : pageRows;
    const listed = await withRetry(() =>
      from<{ id: string }>(listIdsStatement(log, scope, id, limit)),
    );
    const ids = listed.map((row) => row.id);
    if (ids.length === 0) return true;
    const find = findIdsStatement(log, scope, id, ids);
    const found = new Set((await withRetry(() => kept<{ id: string }>(find))).map((row) => row.id));
    const missing = ids.filter((each) => !found.has(each));
    const lost = missing.length > 0 ? await withoutArchived(options, log, missing) : [];
    if (lost.length > 0) await copy(log, lost);
    await onPage(await deletePage(log, options, ids));
  }
  return false;
}

/**
 * Of rows that the keeper lacks those that no archive of it can have taken: what lies before its horizon
 * was there, and its cost still is.
 */
async function withoutArchived(
  { shard, keeper }: CleanOptions,
  log: Log,
  ids: readonly string[],
): Promise<string[]> {
  const kept = queryOnPool(keeper.pool, false);
  const [row] = await withRetry(() => kept<{ horizon: string | null }>(HORIZON));
  const horizon = row?.horizon ?? null;
  if (horizon === null) return [...ids];
  const from = queryOnPool(shard.pool, false);
  const young = await withRetry(() => from<{ id: string }>(findSinceStatement(log, ids, horizon)));
  return young.map(({ id }) => id);
}

async function deletePage(
  log: Log,
  options: CleanOptions,
  ids: readonly string[],
): Promise<number> {
  const { scope, id } = options.payer;
  for (let tries = 1; ; tries++) {
    const rows = await inLock(options, async (query, planned) => {
      const [tail] = await query<{ has_tail: boolean }>(hasTailStatement(scope, id));
      if (tail?.has_tail) return null;
      if (log === USAGE_LOG) {
        await planned(cleanUsageStatement(scope, id, ids));
        return ids.length;
      }
      const [gone] = await planned<{ rows: number }>(cleanExaMonthStatement(scope, id));
      return gone?.rows ?? 0;
    });
    if (rows !== null) return rows;
    if (tries === FOLD_TRIES) throw new LedgerError('internal', 'usage came to a payer elsewhere');
    await fold(options);
  }
}

/** In a transaction that has the payer and its marks. `planned` plans anew, for so many rows. */
function inLock<T>(
  { payer, shard }: CleanOptions,
  work: (query: Query, planned: Query) => Promise<T>,
): Promise<T> {
  return withRetry(() =>
    inTransaction(shard.pool, async (client) => {
      const query = queryOn(client, true);
      const [lockPayer, lockMarks] = lockPayerStatements(payer.scope, payer.id);
      const [row] = await query<{ is_elsewhere: boolean }>(lockPayer);
      if (!row?.is_elsewhere) {
        throw new LedgerError(
          'internal',
          `${keyOf(payer)} is at home on shard ${shard.name}: nothing is taken away`,
        );
      }
      await query(lockMarks);
      return await work(query, queryOn(client, false));
    }),
  );
}
