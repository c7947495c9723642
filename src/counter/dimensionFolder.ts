import type { Query } from '../db/query.js';
import { withRetry } from '../db/retry.js';
import { isStatementTimeout } from '../db/sqlstate.js';
import { DIMENSION_ROLLUPS, type DimensionRollup } from '../schema/dimensionRollups.js';
import { PAYER_SCOPES, type PayerScope } from '../schema/unsettled.js';
import {
  type FoldedRow,
  foldStatement,
  openMarksStatement,
  type SweptTailsRow,
  startRollupStatement,
  sweepTailsStatement,
} from './foldDimensions.sql.js';
import { type Payer, payerId, scopeOf } from './payer.js';

const PAYERS_PER_STATEMENT = 100;
const PAYERS_PER_PAGE = 2_000;
/** Bound the length of a statement, of a half the half; a payer with more is folded again at once. */
const ROWS_PER_PAYER = 20_000;
const ROWS_PER_STATEMENT = 200_000;
/** As few are tried of one payer whose rows run into the statement's time. */
const FEWEST_ROWS = 500;
/** A tail is folded when it has so many rows, or is so old: reads sum it until then. */
const DEEP_ROWS = 256;
const MAX_AGE_MS = 600_000;
const MAX_TAILS = 200_000;

export interface DimensionFolderOptions {
  query: Query;
  /** Default: all that are declared. */
  rollups?: readonly DimensionRollup[];
  /** A payer could not be folded; the others were. */
  onError?: (error: unknown, payer: string) => void;
}

interface Tail {
  rows: number;
  sinceMs: number;
}

/**
 * Folds the log into the rollups by dimension, in the background: nothing that is reported waits for it.
 * What this process wrote is folded when it is worth it; a sweep finds what others left.
 */
export class DimensionFolder {
  readonly #options: DimensionFolderOptions;
  readonly #rollups: readonly DimensionRollup[];
  readonly #tails = new Map<PayerScope, Map<string, Tail>>();

  constructor(options: DimensionFolderOptions) {
    this.#options = options;
    this.#rollups = options.rollups ?? DIMENSION_ROLLUPS;
    for (const scope of PAYER_SCOPES) this.#tails.set(scope, new Map());
  }

  /** A row of the payer was written. A hint: forgetting it costs time and no exactness. */
  appended(payer: Payer): void {
    const tails = this.#tails.get(scopeOf(payer)) as Map<string, Tail>;
    const tail = tails.get(payerId(payer));
    if (tail) tail.rows++;
    else if (tails.size < MAX_TAILS)
      tails.set(payerId(payer), { rows: 1, sinceMs: performance.now() });
  }

  /** Folds what is worth it by now; the background's step. */
  async foldDue(signal?: AbortSignal): Promise<void> {
    for (const scope of PAYER_SCOPES) {
      const tails = this.#tails.get(scope) as Map<string, Tail>;
      const before = performance.now() - MAX_AGE_MS;
      const due = [...tails]
        .filter(([, { rows, sinceMs }]) => rows >= DEEP_ROWS || sinceMs <= before)
        .map(([id]) => id);
      for (const id of due) tails.delete(id);
      await this.fold(scope, due, signal);
    }
  }

  /** Folds everybody's tail, once. @returns rows of the log counted, over all rollups */
  async foldAll(signal?: AbortSignal): Promise<number> {
    let folded = 0;
    for (const rollup of this.#rollups) {
      for (const scope of PAYER_SCOPES) {
        for (let afterId: string | null = null; !signal?.aborted; ) {
          const [page]: SweptTailsRow[] = await this.#options.query<SweptTailsRow>(
            sweepTailsStatement(rollup, scope, afterId, PAYERS_PER_PAGE),
          );
          if (!page) break;
          folded += await this.#foldRollup(rollup, scope, page.ids, signal);
          if (page.payers < PAYERS_PER_PAGE) break;
          afterId = page.last_id;
        }
      }
    }
    return folded;
  }

  /** Folds payers, in every rollup. @returns rows of the log counted, over all rollups */
  async fold(scope: PayerScope, ids: readonly string[], signal?: AbortSignal): Promise<number> {
    let folded = 0;
    for (const rollup of this.#rollups) {
      folded += await this.#foldRollup(rollup, scope, ids, signal);
    }
    return folded;
  }

  async #foldRollup(
    rollup: DimensionRollup,
    scope: PayerScope,
    ids: readonly string[],
    signal?: AbortSignal,
  ): Promise<number> {
    let folded = 0;
    for (let from = 0; from < ids.length && !signal?.aborted; from += PAYERS_PER_STATEMENT) {
      const payers = ids.slice(from, from + PAYERS_PER_STATEMENT);
      folded += await this.#foldPart(rollup, scope, payers, ROWS_PER_STATEMENT, signal);
    }
    return folded;
  }

  /** Where one payer makes the statement fail, it is split until that one stands alone (I12). */
  async #foldPart(
    rollup: DimensionRollup,
    scope: PayerScope,
    ids: readonly string[],
    rows: number,
    signal?: AbortSignal,
  ): Promise<number> {
    try {
      return await this.#foldTogether(rollup, scope, ids, rows, signal);
    } catch (error) {
      if (ids.length === 1) {
        if (isStatementTimeout(error) && rows > FEWEST_ROWS) {
          const fewer = Math.ceil(Math.min(rows, ROWS_PER_PAYER) / 4);
          return await this.#foldPart(rollup, scope, ids, fewer, signal);
        }
        this.#options.onError?.(error, `${scope.name}:${ids[0]}`);
        return 0;
      }
      const half = Math.ceil(ids.length / 2);
      const fewer = Math.ceil(rows / 2);
      const first = await this.#foldPart(rollup, scope, ids.slice(0, half), fewer, signal);
      return first + (await this.#foldPart(rollup, scope, ids.slice(half), fewer, signal));
    }
  }

  async #foldTogether(
    rollup: DimensionRollup,
    scope: PayerScope,
    ids: readonly string[],
    atMost: number,
    signal?: AbortSignal,
  ): Promise<number> {
    let folded = 0;
    let hasOpened = false;
    for (let left = ids; left.length > 0 && !signal?.aborted; ) {
      const limit = Math.min(ROWS_PER_PAYER, Math.ceil(atMost / left.length));
      // What ran into its time, or met a lock, would do so again: it is split.
      const rows = await withRetry(
        () => this.#options.query<FoldedRow>(foldStatement(rollup, scope, left, limit)),
        { splits: true },
      );
      folded += rows.reduce((sum, row) => sum + Number(row.folded), 0);
      const seen = new Set(rows.map((row) => row.id));
      const more = rows.filter((row) => row.has_more).map((row) => row.id);
      const without = hasOpened ? [] : left.filter((id) => !seen.has(id));
      if (without.length > 0) {
        hasOpened = true;
        // Each time: that this process has started the rollup before may be lost with a commit.
        await this.#options.query(startRollupStatement(rollup));
        await this.#options.query(openMarksStatement(rollup, scope, without));
      }
      left = [...more, ...without];
    }
    return folded;
  }
}
