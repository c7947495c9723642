import type { PayerScope } from '../schema/unsettled.js';
import type { SettledRow } from './settle.sql.js';

/** Unsettled rows of a payer from which on a fold pays under load. */
const DEEP_ROWS = 16;
const LONG_ROWS = 8 * DEEP_ROWS;
/** Under load a payer with fewer is left so long; when nobody waits, so long. */
const LOADED_AGE_MS = 30_000;
const QUIET_AGE_MS = 250;
/**
 * Folds of one payer: each leaves a dead version of two rows, which an old snapshot keeps. A burst is
 * free, so that calls one after the other find current base rows; then so many a second.
 */
const FOLD_BURST = 64;
const FOLDS_PER_SECOND = 5;
/** A payer whose rows are held is tried again after a pause that grows to this. */
const MAX_HELD_PAUSE_MS = 2_000;
const MAX_TAILS = 200_000;

interface Tail {
  /** Rows that may be unsettled. */
  depth: number;
  /** Of these, what was there when somebody looked last. */
  left: number;
  /** Since when there are any, ms of `performance.now()`. */
  sinceMs: number;
  folds: number;
  foldsAtMs: number;
  heldPauseMs: number;
  retryAtMs: number;
}

/**
 * What a process knows of the tails that it wrote: a hint of what to settle when. Being wrong, or
 * forgetting, costs time and never exactness: a sweep finds whatever is left (sweep.ts).
 */
export class Tails {
  readonly #tails = new Map<PayerScope, Map<string, Tail>>();
  #size = 0;

  add(scope: PayerScope, id: string, nowMs: number): void {
    const tail = this.#open(scope, id, nowMs);
    if (tail.depth === 0) tail.sinceMs = nowMs;
    tail.depth++;
  }

  /** Whether to fold the payer in answering; takes one of its folds if so. */
  mayFold(scope: PayerScope, id: string, nowMs: number, isQuiet: boolean): boolean {
    const tail = this.#tails.get(scope)?.get(id);
    if (!tail || tail.depth === 0) return false;
    if (nowMs < tail.retryAtMs || !(isQuiet || isDue(tail, nowMs, false))) return false;
    return takeFold(tail, nowMs);
  }

  /** Payers that are due, the first found; takes one fold of each. */
  takeDue(scope: PayerScope, nowMs: number, isQuiet: boolean, limit: number): string[] {
    const due: string[] = [];
    for (const [id, tail] of this.#tails.get(scope) ?? []) {
      if (due.length >= limit) break;
      if (tail.depth === 0) {
        if (foldsNow(tail, nowMs) >= FOLD_BURST) this.#drop(scope, id);
        continue;
      }
      if (nowMs < tail.retryAtMs || !isDue(tail, nowMs, isQuiet)) continue;
      if (takeFold(tail, nowMs)) due.push(id);
    }
    return due;
  }

  /** Payers with rows that may be unsettled. */
  open(scope: PayerScope): string[] {
    const tails = [...(this.#tails.get(scope) ?? [])];
    return tails.filter(([, tail]) => tail.depth > 0).map(([id]) => id);
  }

  /** What a statement saw of payers, and settled. */
  seen(scope: PayerScope, rows: readonly SettledRow[], nowMs: number): void {
    for (const row of rows) {
      const settled = Number(row.settled);
      const left = Number(row.depth) - settled;
      const tail = left > 0 ? this.#open(scope, row.id, nowMs) : this.#find(scope, row.id);
      if (!tail) continue;
      if (settled > 0 || tail.depth === 0) tail.sinceMs = nowMs;
      tail.depth = left;
      tail.left = left;
      if (settled > 0 || left === 0) {
        tail.heldPauseMs = 0;
        tail.retryAtMs = 0;
      }
    }
  }

  /** Payers whose statement failed, or whose fold moved nothing: later, with growing pauses. */
  failed(scope: PayerScope, ids: readonly string[], nowMs: number): void {
    for (const id of ids) {
      const tail = this.#find(scope, id);
      if (!tail) continue;
      tail.heldPauseMs = Math.min(MAX_HELD_PAUSE_MS, Math.max(50, tail.heldPauseMs * 2));
      tail.retryAtMs = nowMs + tail.heldPauseMs;
    }
  }

  /** Whether a tail is long though it was folded: an open transaction holds the mark, not a young one. */
  isHeld(scope: PayerScope, ids: readonly string[]): boolean {
    return ids.some((id) => (this.#find(scope, id)?.depth ?? 0) > LONG_ROWS);
  }

  /** Whether the last look left a long tail: a counter row is held or full, or the mark is held. */
  isLong(scope: PayerScope, id: string): boolean {
    return (this.#find(scope, id)?.left ?? 0) > LONG_ROWS;
  }

  backlog(nowMs: number): { depth: number; oldestAgeMs: number } {
    let depth = 0;
    let oldestAgeMs = 0;
    for (const tails of this.#tails.values()) {
      for (const tail of tails.values()) {
        if (tail.depth === 0) continue;
        depth += tail.depth;
        oldestAgeMs = Math.max(oldestAgeMs, nowMs - tail.sinceMs);
      }
    }
    return { depth, oldestAgeMs };
  }

  #find(scope: PayerScope, id: string): Tail | undefined {
    return this.#tails.get(scope)?.get(id);
  }

  #open(scope: PayerScope, id: string, nowMs: number): Tail {
    let tails = this.#tails.get(scope);
    if (!tails) {
      tails = new Map();
      this.#tails.set(scope, tails);
    }
    let tail = tails.get(id);
    if (!tail) {
      if (this.#size >= MAX_TAILS) {
        for (const each of this.#tails.values()) each.clear();
        this.#size = 0;
      }
      tail = {
        depth: 0,
        left: 0,
        sinceMs: nowMs,
        folds: FOLD_BURST,
        foldsAtMs: nowMs,
        heldPauseMs: 0,
        retryAtMs: 0,
      };
      tails.set(id, tail);
      this.#size++;
    }
    return tail;
  }

  #drop(scope: PayerScope, id: string): void {
    if (this.#tails.get(scope)?.delete(id)) this.#size--;
  }
}

function isDue(tail: Tail, nowMs: number, isQuiet: boolean): boolean {
  return (
    tail.depth >= DEEP_ROWS || nowMs - tail.sinceMs >= (isQuiet ? QUIET_AGE_MS : LOADED_AGE_MS)
  );
}

function foldsNow(tail: Tail, nowMs: number): number {
  return Math.min(FOLD_BURST, tail.folds + ((nowMs - tail.foldsAtMs) / 1000) * FOLDS_PER_SECOND);
}

function takeFold(tail: Tail, nowMs: number): boolean {
  const folds = foldsNow(tail, nowMs);
  tail.foldsAtMs = nowMs;
  tail.folds = folds < 1 ? folds : folds - 1;
  return folds >= 1;
}
