import type { Query } from '../db/query.js';
import { sqlStateOf } from '../db/sqlstate.js';
import type { Rollup } from '../schema/rollups.js';
import { type Chunk, type ComparedRow, compareStatement, type Finding } from './compare.sql.js';

const STATEMENT_TIMEOUT = '57014';
const LOCK_TIMEOUT = '55P03';

/** Aimed length of one chunk's statement. */
const TARGET_MS = 700;
const MIN_USERS = 1;
const MAX_USERS = 200_000;
/** Raw rows that one statement groups well within its time, before anything was measured. */
const INITIAL_ROWS_PER_STATEMENT = 300_000;

export interface ComparedChunk {
  rawRows: number;
  rawCost: bigint;
  keys: number;
  inserted: number;
  conflicts: number;
  wrong: number;
  wrongCost: bigint;
  findings: Finding[];
  /** The last user of the chunk; null when the period is done. */
  userUntil: string | null;
  durationMs: number;
  /** A row could not be created: another session holds an uncommitted one of the same key. */
  isBlocked: boolean;
}

/**
 * Chooses chunks that end within the target: a whole period by one index scan where it is small
 * enough, else blocks of users, growing slowly and shrinking fast. One per worker.
 */
export class ChunkSizer {
  #users = 2_000;
  #rowsPerStatement = INITIAL_ROWS_PER_STATEMENT;
  #blocksOnly = new Set<string>();

  get users(): number {
    return this.#users;
  }

  usesPeriod(period: string, expectedRows: number): boolean {
    return !this.#blocksOnly.has(period) && expectedRows <= this.#rowsPerStatement;
  }

  observeBlock(durationMs: number): void {
    if (durationMs > TARGET_MS) this.#users = Math.max(MIN_USERS, Math.floor(this.#users / 2));
    else if (durationMs < TARGET_MS / 2) {
      this.#users = Math.min(MAX_USERS, Math.ceil(this.#users * 1.25));
    }
  }

  observePeriod(rows: number, durationMs: number): void {
    if (rows < 10_000) return;
    const affordable = (rows / Math.max(durationMs, 1)) * TARGET_MS;
    this.#rowsPerStatement = Math.min(affordable, this.#rowsPerStatement * 1.25);
  }

  /** A statement ran into its timeout. */
  observeTimeout(period: string, wasPeriod: boolean): void {
    if (wasPeriod) this.#blocksOnly.add(period);
    else this.#users = Math.max(MIN_USERS, Math.floor(this.#users / 4));
  }
}

/** Compares one user's part of a period: one chunk. */
export async function compareUser(
  query: Query,
  rollup: Rollup,
  period: string,
  kiloUserId: string,
): Promise<ComparedChunk> {
  const startedAt = performance.now();
  const chunk: Chunk = { period, access: 'user', userAfter: kiloUserId, userLimit: 1 };
  const compared = await compareChunk(query, rollup, chunk, false);
  return { ...compared, durationMs: performance.now() - startedAt, isBlocked: false };
}

/** Compares, and with `build` completes, the next chunk of a period. */
export async function compareNext(
  query: Query,
  rollup: Rollup,
  sizer: ChunkSizer,
  at: { period: string; userAfter: string | null; build: boolean },
): Promise<ComparedChunk> {
  let { build } = at;
  for (;;) {
    const expectedRows = at.userAfter === null ? await expectRows(query, rollup, at.period) : 0;
    const byPeriod = at.userAfter === null && sizer.usesPeriod(at.period, expectedRows);
    const chunk: Chunk = {
      period: at.period,
      access: byPeriod ? 'period' : 'users',
      userAfter: at.userAfter,
      userLimit: sizer.users,
    };
    try {
      const startedAt = performance.now();
      const compared = await compareChunk(query, rollup, chunk, build);
      const durationMs = performance.now() - startedAt;
      if (byPeriod) sizer.observePeriod(compared.rawRows, durationMs);
      else sizer.observeBlock(durationMs);
      return { ...compared, durationMs, isBlocked: build !== at.build };
    } catch (error) {
      const state = sqlStateOf(error);
      if (state !== STATEMENT_TIMEOUT && state !== LOCK_TIMEOUT) throw error;
      if (byPeriod || sizer.users > MIN_USERS) sizer.observeTimeout(at.period, byPeriod);
      // Down to one user, and its row still cannot be created: tell what is missing.
      else if (state === LOCK_TIMEOUT && build) build = false;
      else throw error;
    }
  }
}

async function compareChunk(query: Query, rollup: Rollup, chunk: Chunk, build: boolean) {
  const [row] = await query<ComparedRow>(compareStatement(rollup, chunk, build));
  if (!row) throw new Error('compare returned no row');
  return {
    rawRows: Number(row.raw_rows),
    rawCost: BigInt(row.raw_cost),
    keys: Number(row.keys),
    inserted: Number(row.inserted),
    conflicts: Number(row.conflicts),
    wrong: Number(row.wrong),
    wrongCost: BigInt(row.wrong_cost),
    findings: row.findings ?? [],
    userUntil: row.user_until,
  };
}

/** The planner's estimate of a period's raw rows: an index range, so good and nearly free. */
async function expectRows(query: Query, rollup: Rollup, period: string): Promise<number> {
  const [row] = await query<{ 'QUERY PLAN': { Plan: { 'Plan Rows': number } }[] }>({
    name: 'microdollar_expect_rows',
    text: `explain (format json)
select from ${rollup.source}
where created_at >= '${period}'::timestamp at time zone 'UTC'
  and created_at < ('${period}'::date + interval '1 ${rollup.grain}') at time zone 'UTC'`,
    values: [],
  });
  return row?.['QUERY PLAN'][0]?.Plan['Plan Rows'] ?? 0;
}
