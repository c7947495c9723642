import { type Query, queryOnPool } from '../../db/query.js';
import { withRetry } from '../../db/retry.js';
import { LedgerError } from '../../errors.js';
import { scopeNamed } from '../../schema/unsettled.js';
import { bucketOf } from '../placement.js';
import {
  type BucketPayerRow,
  closeBucketStatement,
  findBucketStatement,
  LIST_PAYER_ROWS,
  listBucketStatement,
  openBucketStatement,
  type PayerRow,
  switchBucketStatement,
} from './buckets.sql.js';
import { describeOpen, waitForOpen } from './fence.js';
import { endMoveStatement, noteStepStatement, type StoredMove } from './moves.sql.js';
import {
  keyOf,
  type MovedPayer,
  type MoveOptions,
  type MoveReport,
  type MoveShard,
} from './types.js';

const PAYERS_PER_LIST = 1_000;
const WAIT_MS = 60_000;

export interface BucketReport {
  bucket: number;
  from: string;
  to: string;
  finished: boolean;
  payers: number;
  rowsCopied: number;
  /** The longest that one of them was fenced, ms. */
  longestFenceMs: number;
}

export interface BucketMoveContext {
  bucket: number;
  from: MoveShard;
  to: MoveShard;
  home: MoveShard;
  directory: Query;
  options: MoveOptions;
  /** Moves one payer of it, and keeps a row of its own. */
  movePayer: (payer: MovedPayer) => Promise<MoveReport>;
}

/**
 * A bucket from a shard to another, payer by payer, each by a row of its own (movePayer.ts):
 *
 *   copying   the payers that are there; new ones come where the bucket is still
 *   fenced    no new payers: by a row in the directory of the shard that it leaves, on home by the step.
 *             Those that came before, transactions that are open too, are moved
 *   switched  one row of the bucket in place of those of its payers
 *
 * Payers that were put somewhere by themselves stay there.
 */
export class BucketMove {
  readonly #context: BucketMoveContext;
  readonly report: BucketReport;

  constructor(context: BucketMoveContext) {
    this.#context = context;
    const { bucket, from, to } = context;
    this.report = {
      bucket,
      from: from.name,
      to: to.name,
      finished: false,
      payers: 0,
      rowsCopied: 0,
      longestFenceMs: 0,
    };
  }

  /** From wherever it stands to its end, or to where the signal stops it. */
  async run(move: StoredMove): Promise<BucketReport> {
    let current = move;
    if (current.step === 'copying') {
      await this.#moveAll();
      if (this.#isStopped()) return this.report;
      current = await this.#step(current, 'copying', 'fenced');
    }
    await this.#close();
    try {
      await this.#waitForOpen();
    } catch (error) {
      await this.#reopen();
      await this.#step(current, 'fenced', 'copying');
      throw error;
    }
    await this.#moveAll();
    if (this.#isStopped()) return this.report;
    await this.#switch(current);
    this.report.finished = true;
    return this.report;
  }

  /** Who has moved stays where they are, by rows of their own. */
  async cancel(move: StoredMove): Promise<void> {
    await this.#reopen();
    await withRetry(() => this.#context.directory(endMoveStatement(move, false)));
  }

  /** Payers of it that are at home there, but for those that were put there by themselves. */
  async #list(): Promise<MovedPayer[]> {
    const { bucket, from, directory } = this.#context;
    const own = await directory<PayerRow>(LIST_PAYER_ROWS);
    // In the statement: however many of them there are, they hide nobody behind its limit.
    const put = own.filter(({ shard }) => shard === from.name);
    const list = listBucketStatement(
      bucket,
      PAYERS_PER_LIST,
      put.map((row) => `${row.scope}:${row.payer_id}`),
    );
    const rows = await withRetry(() => queryOnPool(from.pool, false)<BucketPayerRow>(list));
    return rows.map(({ scope, id }) => ({ scope: scopeNamed(scope), id }));
  }

  async #moveAll(): Promise<void> {
    for (;;) {
      const payers = await this.#list();
      if (payers.length === 0) return;
      for (const payer of payers) {
        if (this.#isStopped()) return;
        const moved = await this.#context.movePayer(payer);
        if (!moved.finished) return;
        this.report.payers++;
        this.report.rowsCopied += moved.rowsCopied;
        this.report.longestFenceMs = Math.max(this.report.longestFenceMs, moved.fencedMs);
      }
    }
  }

  async #close(): Promise<void> {
    const { bucket, from, to, home } = this.#context;
    if (from.name === home.name) return;
    await withRetry(() => queryOnPool(from.pool, false)(closeBucketStatement(bucket, to.name)));
  }

  async #reopen(): Promise<void> {
    const { bucket, from, home } = this.#context;
    if (from.name === home.name) return;
    await withRetry(() => queryOnPool(from.pool, false)(openBucketStatement(bucket)));
  }

  /** Somebody may be making a payer by what they saw before. */
  async #waitForOpen(): Promise<void> {
    const { from, options } = this.#context;
    const open = await waitForOpen(queryOnPool(from.pool, false), options.waitMs ?? WAIT_MS);
    if (open.length === 0) return;
    throw new LedgerError(
      'unavailable',
      `transactions stay open on shard ${from.name}, and could still make payers: ${describeOpen(open)}`,
      { details: { shard: from.name } },
    );
  }

  async #switch(move: StoredMove): Promise<void> {
    const { bucket, to, home, directory } = this.#context;
    if (to.name !== home.name) {
      await withRetry(() => queryOnPool(to.pool, false)(openBucketStatement(bucket)));
    }
    const rows = await directory<PayerRow>(LIST_PAYER_ROWS);
    const ids = rows
      .filter(({ shard }) => shard === to.name)
      .filter(
        (row) => bucketOf(keyOf({ scope: scopeNamed(row.scope), id: row.payer_id })) === bucket,
      )
      .map(({ id }) => id);
    const switched = await withRetry(() => directory(switchBucketStatement(move.id, ids)));
    if (switched.length === 0 && !(await this.#isSwitched(move.id))) throw changed(bucket);
  }

  /** By a statement whose answer was lost: sent again, it finds nothing to do. */
  async #isSwitched(id: string): Promise<boolean> {
    const { bucket, to, directory } = this.#context;
    const [row] = await withRetry(() => directory<StoredMove>(findBucketStatement(bucket)));
    return row?.id === id && row.shard === to.name && row.step === null;
  }

  async #step(
    move: StoredMove,
    from: 'copying' | 'fenced',
    to: 'copying' | 'fenced',
  ): Promise<StoredMove> {
    const [row] = await withRetry(() =>
      this.#context.directory<StoredMove>(noteStepStatement(move, from, to)),
    );
    if (row) return row;
    throw changed(this.#context.bucket);
  }

  #isStopped(): boolean {
    return this.#context.options.signal?.aborted ?? false;
  }
}

const changed = (bucket: number): LedgerError =>
  new LedgerError('unavailable', `somebody else changed the move of bucket ${bucket}`);
