import { setTimeout as sleep } from 'node:timers/promises';
import { type Payer, payerId, scopeOf } from '../counter/payer.js';
import type { Query } from '../db/query.js';
import { withRetry } from '../db/retry.js';
import { isLockTimeout, isUniqueViolation, toLedgerError } from '../db/sqlstate.js';
import { elsewhere, LedgerError } from '../errors.js';
import { toSafeInteger } from '../money.js';
import { formatMicros } from '../record/instants.sql.js';
import { SLOTS } from '../schema/budgets.js';
import type { PayerScope } from '../schema/unsettled.js';
import type { FoldedWindowRow } from './fold.sql.js';
import type { BudgetFolder } from './folder.js';
import { type BudgetStateRow, readBudgetsStatement } from './read.sql.js';
import { type ReservedRow, type ReserveRequest, reserveStatement } from './reserve.sql.js';
import { areAlike, type ReservedAlikeRow, reserveAlikeStatement } from './reserveAlike.sql.js';
import type { HoldResult } from './types.js';

/** Holds of one statement. */
const MAX_BATCH = 64;
/** Rounds in a row in which nobody is answered, and how long they take, before the rest is. */
const MAX_IDLE_ROUNDS = 60;
/**
 * How long what others hold is asked for again, ms: on a busy machine their transactions go on only when
 * they have a processor, however often one asks.
 */
export const PATIENCE_MS = 3_000;
/** Of these, folds that could not gather all: a slot, or the mark, stays with someone else. */
const MAX_PARTIAL_FOLDS = 12;
const MAX_PAUSE_MS = 16;
/** Between looks at ids that are in flight elsewhere: each waits for a lock. */
const MAX_ASIDE_PAUSE_MS = 100;

export interface Waiting {
  request: ReserveRequest;
  resolve: (result: HoldResult) => void;
  reject: (error: Error) => void;
}

export interface LaneOptions {
  query: Query;
  folder: BudgetFolder;
  /** The slot that this process begins with. */
  slot: number;
}

/** `row` null: its id is in flight elsewhere. */
interface Tried {
  waiting: Waiting;
  row: ReservedRow | null;
}

/**
 * Requests of one payer, one statement at a time: what comes while one is out goes together with
 * the next. Who meets an id that is in flight elsewhere waits aside, and keeps nobody else waiting.
 * It alone decides on refusals:
 * - granted as long as some slot has enough; alike ones by a statement of their own, which is cheaper
 * - else what came back is folded and gathered, and tried again
 * - refused only where a fold had all slots of a window, and they were less than what is asked; or
 *   where something stays with someone else for longer than MAX_PARTIAL_FOLDS tries
 */
export class PayerLane {
  readonly #options: LaneOptions;
  readonly #scope: PayerScope;
  readonly #id: string;
  readonly #onIdle: () => void;
  #queue: Waiting[] = [];
  #isRunning = false;
  /** Whose id is in flight elsewhere, and how long they wait for that to end. */
  readonly #aside = new Map<Waiting, number>();
  #isTryingAside = false;

  /** @param onIdle everybody is answered: the lane may be let go of */
  constructor(options: LaneOptions, payer: Payer, onIdle: () => void) {
    this.#options = options;
    this.#onIdle = onIdle;
    this.#scope = scopeOf(payer);
    this.#id = payerId(payer);
  }

  add(waiting: Waiting): void {
    this.#queue.push(waiting);
    if (!this.#isRunning) void this.#run();
  }

  async #run(): Promise<void> {
    this.#isRunning = true;
    do {
      await thoseOfThisTurn();
      const batch = new Set(this.#take());
      try {
        await this.#answer(batch);
      } catch (error) {
        const ledgerError = toLedgerError(error);
        for (const { reject } of batch) reject(ledgerError);
      }
    } while (this.#queue.length > 0);
    // At once: who comes a moment later would wait in a queue that nobody looks at.
    this.#isRunning = false;
    if (!this.#isTryingAside) this.#onIdle();
  }

  /** Not of the batch any more: what becomes of that is nothing to them. */
  #setAside(waiting: Waiting, batch: Set<Waiting>): void {
    batch.delete(waiting);
    this.#aside.set(waiting, performance.now() + PATIENCE_MS);
    if (!this.#isTryingAside) void this.#tryAside();
  }

  /** One after the other, so that they take one connection. */
  async #tryAside(): Promise<void> {
    this.#isTryingAside = true;
    let pauseMs = 1;
    while (this.#aside.size > 0) {
      await sleep(Math.random() * pauseMs);
      pauseMs = Math.min(MAX_ASIDE_PAUSE_MS, 2 * pauseMs);
      for (const [waiting, untilMs] of [...this.#aside]) {
        try {
          const [tried] = await this.#reserve([waiting]);
          if (!tried?.row && performance.now() <= untilMs) continue;
          this.#aside.delete(waiting);
          if (!tried?.row) waiting.reject(contended());
          else if (!answered(this.#scope, waiting, tried.row)) this.add(waiting);
        } catch (error) {
          this.#aside.delete(waiting);
          waiting.reject(toLedgerError(error));
        }
      }
    }
    this.#isTryingAside = false;
    if (!this.#isRunning) this.#onIdle();
  }

  /** In order of arrival; a second one of the same id waits for the next. */
  #take(): Waiting[] {
    const batch = new Map<string, Waiting>();
    const later: Waiting[] = [];
    for (const waiting of this.#queue) {
      const { id } = waiting.request;
      if (batch.size < MAX_BATCH && !batch.has(id)) batch.set(id, waiting);
      else later.push(waiting);
    }
    this.#queue = later;
    return [...batch.values()];
  }

  async #answer(batch: Set<Waiting>): Promise<void> {
    let left = await this.#grantAlike([...batch]);
    let partialFolds = 0;
    let hasOpened = false;
    let answeredAtMs = performance.now();
    for (let idle = 0; left.length > 0; idle++) {
      if (idle > 0) await sleep(Math.random() * Math.min(MAX_PAUSE_MS, 2 ** idle), undefined);
      const tried = await this.#reserve(left);
      const open = tried.flatMap(({ waiting, row }) => {
        if (row === null) this.#setAside(waiting, batch);
        return row === null || answered(this.#scope, waiting, row) ? [] : [{ waiting, row }];
      });
      if (open.length < left.length) {
        idle = 0;
        answeredAtMs = performance.now();
      }
      left = open.map(({ waiting }) => waiting);
      if (idle > MAX_IDLE_ROUNDS && performance.now() - answeredAtMs > PATIENCE_MS) {
        for (const { reject } of left) reject(contended());
        return;
      }
      if (open.some(({ row }) => row.status === 'missing')) {
        if (!hasOpened) await this.#options.folder.openWithOthers(this.#scope, this.#id);
        hasOpened = true;
      } else if (!open.some(({ row }) => row.status === 'short')) continue;
      const asked = Math.max(...left.map(({ request }) => request.amount));
      const isLast = partialFolds >= MAX_PARTIAL_FOLDS;
      const { windows, isWhole } = await this.#gather(open, asked, isLast);
      const verdicts = open.map(({ waiting, row }) => ({
        waiting,
        verdict: row.status === 'short' ? judge(waiting.request.amount, row, windows) : null,
      }));
      if (!isWhole || verdicts.some(({ verdict }) => verdict?.isWhole === false)) partialFolds++;
      left = verdicts
        .filter(({ waiting, verdict }) => {
          if (verdict === null || !(verdict.isWhole || isLast)) return true;
          waiting.resolve(toRefused(waiting.request.id, verdict.window));
          return false;
        })
        .map(({ waiting }) => waiting);
    }
  }

  /** Windows of the payer, and of others whose keys it pays for. */
  async #gather(
    open: readonly { waiting: Waiting; row: ReservedRow }[],
    asked: number,
    isLast: boolean,
  ): Promise<{ windows: Map<string, FoldedWindowRow>; isWhole: boolean }> {
    const { folder } = this.#options;
    let payers = [{ scope: this.#scope, id: this.#id }];
    const keys = open.flatMap(({ waiting }) => waiting.request.api_key_id ?? []);
    if (keys.length > 0) {
      const found = { windowIds: open.flatMap(({ row }) => row.window_ids ?? []), keys };
      payers = await folder.involvedIn(this.#scope, this.#id, found);
      const isOther = ({ id }: { id: string }) => id !== this.#id;
      for (const { scope, id } of payers.filter(isOther)) await folder.openWithOthers(scope, id);
    }
    const windows = new Map<string, FoldedWindowRow>();
    let isWhole = true;
    // In turn: what one fold forwards, the next takes in.
    for (const { scope, id } of payers) {
      const folded = await folder.foldFor(scope, id, asked);
      if (folded === null) isWhole = false;
      const known = folded ?? (isLast ? await this.#readWindows(scope, id) : []);
      for (const row of known) windows.set(row.window_id, row);
    }
    return { windows, isWhole };
  }

  /**
   * What is left, without a lock: where someone else keeps the mark. Exact in its snapshot, so that a
   * refusal is true; what it finds may still have to be folded.
   */
  async #readWindows(scope: PayerScope, id: string): Promise<FoldedWindowRow[]> {
    const rows = await this.#options.query<BudgetStateRow>(readBudgetsStatement(scope, id));
    return rows.flatMap((row) => {
      if (row.window_id === null || !row.is_hard) return [];
      const left = BigInt(row.limit_microdollars) - BigInt(row.spent) - BigInt(row.held);
      const whole = { slots: SLOTS, is_open: true, has_more: false };
      return { ...row, ...whole, window_id: row.window_id, pool: String(left) };
    });
  }

  /** Those that are still to be answered: all of them, or none. */
  async #grantAlike(batch: readonly Waiting[]): Promise<readonly Waiting[]> {
    const [first, ...others] = batch.map(({ request }) => request);
    if (first === undefined || !areAlike([first, ...others])) return batch;
    const statement = reserveAlikeStatement(
      this.#scope,
      this.#id,
      [first, ...others],
      this.#options.slot,
    );
    try {
      const [row] = await withRetry(() => this.#options.query<ReservedAlikeRow>(statement), {
        splits: true,
      });
      if (row === undefined) return batch;
      const createdAt = formatMicros(row.created_micros);
      for (const { request, resolve } of batch) {
        resolve({
          id: request.id,
          status: 'granted',
          amount: request.amount,
          available_microdollars: toAvailable(row.available),
          created_at: createdAt,
        });
      }
      return [];
    } catch (error) {
      if (isUniqueViolation(error) || isLockTimeout(error)) return batch;
      throw error;
    }
  }

  /** One id that is in flight elsewhere must not hold up the others: then one by one. */
  async #reserve(left: readonly Waiting[]): Promise<Tried[]> {
    const requests = left.map(({ request }) => request);
    try {
      const rows = await withRetry(
        () =>
          this.#options.query<ReservedRow>(
            reserveStatement(this.#scope, this.#id, requests, this.#options.slot),
          ),
        { splits: true },
      );
      return left.map((waiting, index) => ({ waiting, row: rows[index] as ReservedRow }));
    } catch (error) {
      if (!isUniqueViolation(error) && !isLockTimeout(error)) throw error;
      if (left.length === 1) return left.map((waiting) => ({ waiting, row: null }));
      const singly: Tried[] = [];
      for (const waiting of left) singly.push(...(await this.#reserve([waiting])));
      return singly;
    }
  }
}

/**
 * Once everything that is ready has run: calls made together travel together, and so do those of callers who
 * were just answered. The loop does not turn for it, which beside many streams would be a wait.
 */
const thoseOfThisTurn = (): Promise<void> =>
  Promise.resolve().then(() => new Promise((resolve) => process.nextTick(resolve)));

/** Answers what is decided by the statement alone. */
function answered(
  { name }: PayerScope,
  { request, resolve, reject }: Waiting,
  row: ReservedRow,
): boolean {
  switch (row.status) {
    case 'granted':
    case 'duplicate':
      resolve({
        id: request.id,
        status: row.status,
        amount: toSafeInteger(row.amount ?? 0),
        available_microdollars: toAvailable(row.available),
        created_at: formatMicros(row.created_micros ?? ''),
      });
      return true;
    case 'conflict':
      reject(
        new LedgerError(
          'idempotency_conflict',
          'this id is held, or recorded, by another request',
          {
            details: { field: 'id', id: request.id },
          },
        ),
      );
      return true;
    case 'unknown_user':
      reject(
        new LedgerError('unknown_user', 'kilo_user_id names no user; create the user first', {
          details: { field: 'kilo_user_id', id: request.id },
        }),
      );
      return true;
    case 'elsewhere':
      reject(elsewhere(name, { id: request.id }));
      return true;
    default:
      return false;
  }
}

interface Verdict {
  window: FoldedWindowRow;
  /** The fold had every slot of it: nothing was left elsewhere. */
  isWhole: boolean;
}

/** The window that has least of those that cannot give the amount; null: try again. */
export function judge(
  amount: number,
  row: Pick<ReservedRow, 'window_ids'>,
  windows: ReadonlyMap<string, FoldedWindowRow>,
): Verdict | null {
  const short = (row.window_ids ?? [])
    .flatMap((id) => windows.get(id) ?? [])
    .filter((window) => window.is_open && BigInt(window.pool) < BigInt(amount))
    .sort((a, b) => (BigInt(a.pool) < BigInt(b.pool) ? -1 : 1));
  const window = short.find(({ slots }) => slots >= SLOTS) ?? short[0];
  return window === undefined ? null : { window, isWhole: window.slots >= SLOTS };
}

/** Not below zero, and for what is beyond 2^53 that. */
export function toAvailable(amount: string | null): number {
  return Math.max(0, Math.min(Number(amount ?? 0), Number.MAX_SAFE_INTEGER));
}

export function toRefused(id: string, window: FoldedWindowRow): HoldResult {
  return {
    id,
    status: 'refused',
    amount: 0,
    available_microdollars: toAvailable(window.pool),
    created_at: null,
    refused_by: {
      id: window.budget_id,
      scope: window.scope,
      window: window.period,
      is_balance: window.is_balance,
      limit_microdollars: toSafeInteger(window.limit_microdollars),
    },
    resets_at: window.resets_micros === null ? null : formatMicros(window.resets_micros),
  };
}

export function contended(details: Record<string, unknown> = {}): LedgerError {
  return new LedgerError(
    'unavailable',
    'the budgets of this payer are held by another transaction; try again',
    { details },
  );
}
