import type pg from 'pg';
import { COUNTER_LIMIT } from '../../counter/marks.sql.js';
import type { Query } from '../../db/query.js';
import { isLockTimeout, isStatementTimeout, leavesSession } from '../../db/sqlstate.js';
import type { Statement } from '../../db/statement.js';
import { LedgerError } from '../../errors.js';
import {
  type CounterKey,
  findRowsStatement,
  type LockedCounter,
  type LockedRows,
  type LockedUsage,
  lockDailyRowsStatement,
  lockMetadataStatement,
  lockUsageStatement,
  type MovedRow,
  moveRowsStatement,
  openDailyRowsStatement,
} from './moveRows.sql.js';
import { type ArchivedRow, keyOf } from './readFile.js';

const TARGET_MS = 500;
const MAX_ROWS = 20_000;
/** Of each statement; with the check before the last one a transaction stays below 2 s. */
const STATEMENT_TIMEOUT_MS = 900;
const LAST_STATEMENT_AFTER_MS = 900;
/** Rows are found by their keys: for some thousands of them the planner would read the whole table. */
const BEGIN = `begin; set local statement_timeout = ${STATEMENT_TIMEOUT_MS};
  set local enable_seqscan = off`;

/** What one transaction did with a chunk. */
export interface MovedChunk {
  rows: number;
  costMicrodollars: bigint;
  /** Rows left: another session holds them, their metadata, or their daily row. */
  held: ArchivedRow[];
  /** Of these: rows that no counter has yet. */
  unsettled: ArchivedRow[];
  /** Rows that are no longer in the table. */
  gone: ArchivedRow[];
  /** Keys whose daily row is missing or held. */
  unlockedKeys: CounterKey[];
  durationMs: number;
}

/** Rows a transaction, growing slowly and shrinking fast, so that each stays short. */
export class MoveSizer {
  rows: number;

  constructor(rows: number) {
    this.rows = rows;
  }

  observe(rows: number, durationMs: number): void {
    if (durationMs > TARGET_MS) this.rows = Math.max(1, Math.floor(rows / 2));
    else if (durationMs < TARGET_MS / 2 && rows >= this.rows) {
      this.rows = Math.min(MAX_ROWS, Math.ceil(this.rows * 1.25));
    }
  }

  /** False when there is nothing left to shrink. */
  shrink(): boolean {
    if (this.rows <= 1) return false;
    this.rows = Math.max(1, Math.floor(this.rows / 4));
    return true;
  }
}

class TooSlow extends Error {}

/**
 * Moves rows of a proven file, on one connection, in one transaction: daily rows, raw rows and
 * metadata are locked, each only where it is free; then, in a new statement, the raw rows that
 * are settled are deleted and their cost is added to the archived cost of their daily rows.
 * Null: it took too long and was rolled back; try fewer.
 * @throws LedgerError `internal` when a raw row differs from the file
 */
export async function moveChunk(
  client: pg.PoolClient,
  day: string,
  rows: readonly ArchivedRow[],
): Promise<MovedChunk | null> {
  const startedAt = performance.now();
  const query: Query = async <Row>({ text, values }: Statement) => {
    if (performance.now() - startedAt > LAST_STATEMENT_AFTER_MS) throw new TooSlow();
    return (await client.query({ text, values })).rows as Row[];
  };
  try {
    await client.query(BEGIN);
    const chunk = await moveLocked(query, day, rows);
    await client.query('commit');
    return { ...chunk, durationMs: performance.now() - startedAt };
  } catch (error) {
    await client.query('rollback').catch(() => {});
    if (error instanceof TooSlow) return null;
    const isSlow = isStatementTimeout(error) || isLockTimeout(error);
    if (isSlow && leavesSession(error)) return null;
    throw error;
  }
}

async function moveLocked(
  query: Query,
  day: string,
  rows: readonly ArchivedRow[],
): Promise<Omit<MovedChunk, 'durationMs'>> {
  const keys = [...new Map(rows.map((row) => [keyOf(row), row])).values()];
  const counters = await query<LockedCounter>(lockDailyRowsStatement(day, keys));
  const lockedKeys = new Set(counters.map(keyOf));
  const { free, held, unsettled, gone } = await lockRows(query, rows);

  // A key whose daily row is not ours, or cannot hold the cost, can lose rows only where their cost
  // cancels out (I6).
  const sums = sumByKey(free);
  const takers = new Set(counters.filter((row) => canTake(row, sums)).map(keyOf));
  const isMovable = (row: ArchivedRow) => takers.has(keyOf(row)) || sums.get(keyOf(row)) === 0n;
  const movable = free.filter(isMovable);
  const unlockedKeys = keys.filter((key) => !lockedKeys.has(keyOf(key)) && sums.get(keyOf(key)));
  const costMicrodollars = movable.reduce((sum, row) => sum + BigInt(row.cost), 0n);
  if (movable.length > 0) {
    const [moved] = await query<MovedRow>(
      moveRowsStatement(
        movable.map((row) => row.id),
        counters,
      ),
    );
    if (
      Number(moved?.rows) !== movable.length ||
      BigInt(moved?.cost ?? 0) !== costMicrodollars ||
      BigInt(moved?.archived_cost ?? 0) !== costMicrodollars
    ) {
      throw new LedgerError('internal', 'archived rows and their cost do not agree; rolled back', {
        details: { day },
      });
    }
  }
  return {
    rows: movable.length,
    costMicrodollars,
    held: [...held, ...free.filter((row) => !isMovable(row))],
    unsettled,
    gone,
    unlockedKeys,
  };
}

/** Locks raw rows and metadata; what others hold, in either table, or is unsettled, is left. */
async function lockRows(
  query: Query,
  rows: readonly ArchivedRow[],
): Promise<Pick<MovedChunk, 'held' | 'unsettled' | 'gone'> & { free: ArchivedRow[] }> {
  const ids = rows.map((row) => row.id);
  const [usage] = await query<LockedUsage>(lockUsageStatement(rows));
  if (usage === undefined) throw new Error('a query without rows');
  if (usage.different !== null) {
    throw new LedgerError(
      'internal',
      `usage row ${usage.different} differs from its archive file; nothing of its chunk was deleted`,
      { details: { usage_id: usage.different } },
    );
  }
  const lockedIds = new Set(usage.ids ?? ids);
  const unsettledIds = new Set(usage.unsettled);
  const heldIds = new Set(unsettledIds);
  /** Those that were asked for, are there and are not locked. */
  const findHeld = async (
    table: Parameters<typeof findRowsStatement>[0],
    asked: readonly string[],
    locked: string[] | null,
  ) => {
    if (locked === null) return;
    const isLocked = new Set(locked);
    const others = asked.filter((id) => !isLocked.has(id));
    const found = await query<{ id: string }>(findRowsStatement(table, others));
    for (const { id } of found) heldIds.add(id);
  };
  await findHeld('microdollar_usage', ids, usage.ids);
  const asked = [...lockedIds];
  const [metadata] = await query<LockedRows>(lockMetadataStatement(asked));
  await findHeld('microdollar_usage_metadata', asked, metadata?.ids ?? null);
  return {
    free: rows.filter((row) => lockedIds.has(row.id) && !heldIds.has(row.id)),
    held: rows.filter((row) => heldIds.has(row.id)),
    unsettled: rows.filter((row) => unsettledIds.has(row.id)),
    gone: rows.filter((row) => !lockedIds.has(row.id) && !heldIds.has(row.id)),
  };
}

/** Makes missing daily rows, each only where that waits for nobody. */
export async function openDailyRows(
  client: pg.PoolClient,
  day: string,
  keys: readonly CounterKey[],
): Promise<void> {
  const { text, values } = openDailyRowsStatement(day, keys);
  await client.query({ text, values });
}

function canTake(counter: LockedCounter, sums: ReadonlyMap<string, bigint>): boolean {
  const archived = BigInt(counter.archived_cost) + (sums.get(keyOf(counter)) ?? 0n);
  return (archived < 0n ? -archived : archived) < BigInt(COUNTER_LIMIT);
}

function sumByKey(rows: readonly ArchivedRow[]): Map<string, bigint> {
  const sums = new Map<string, bigint>();
  for (const row of rows) sums.set(keyOf(row), (sums.get(keyOf(row)) ?? 0n) + BigInt(row.cost));
  return sums;
}
