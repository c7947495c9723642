import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { raiseAlerts } from '../../alerts/raise.js';
import { BudgetFolder } from '../../budgets/folder.js';
import { DimensionFolder } from '../../counter/dimensionFolder.js';
import { startRollupStatement } from '../../counter/foldDimensions.sql.js';
import { Settler } from '../../counter/settler.js';
import { isKnownCluster, UNKNOWN_CLUSTER } from '../../db/migrate/generation.js';
import type { OpenTransactionRow } from '../../db/openTransactions.js';
import { type Query, queryOnPool } from '../../db/query.js';
import { withRetry } from '../../db/retry.js';
import { isRefusedRow, isSerializationFailure } from '../../db/sqlstate.js';
import { LedgerError } from '../../errors.js';
import { DIMENSION_ROLLUPS } from '../../schema/dimensionRollups.js';
import type { MoveStep } from '../../schema/shards.js';
import { EXA_LOG, USAGE_LOG } from '../../schema/unsettled.js';
import { cleanPayer } from './clean.js';
import { type Columns, sharedColumns } from './columns.js';
import { RowCopier } from './copyRows.js';
import {
  changed,
  describeOpen,
  isChanged,
  liftFence,
  raiseFence,
  stillOpen,
  waitForOpen,
} from './fence.js';
import { refusedRow, requireFitting } from './fitting.js';
import { forgetDeleted } from './forgetDeleted.js';
import { foldBudgets, handOver, requireMovable } from './handOver.js';
import { noteWith, switchAfter } from './moveRow.js';
import {
  type CopyProgress,
  endMoveStatement,
  noteProgressStatement,
  noteStepStatement,
  type StoredMove,
} from './moves.sql.js';
import { START_OF_HISTORY } from './readRows.sql.js';
import {
  keyOf,
  type MovedPayer,
  type MoveOptions,
  type MovePoint,
  type MoveReport,
  type MoveShard,
} from './types.js';
import { knowUsersStatement } from './writeRows.sql.js';

const DEFAULTS = { fenceMs: 1_000, waitMs: 60_000, pageRows: 1_000, restRatio: 0 };
const LOGS = [USAGE_LOG, EXA_LOG] as const;
const MAX_REST_MS = 1_000;
/** So many rows are left to the fence: they take some milliseconds. */
const FEW_ROWS = 200;
const MAX_PASSES = 20;
/** A transaction that is open for longer is old. */
const OLD_MS = 200;
/** Of a hand-over that met a change, or usage that the budgets have to count. */
const HAND_OVER_TRIES = 10;
/** Pages between two folds at the target, which keep its tail short. */
const PAGES_PER_FOLD = 10;

export interface PayerMoveContext {
  payer: MovedPayer;
  from: MoveShard;
  to: MoveShard;
  /** It has the directory. */
  home: pg.Pool;
  directory: Query;
  silentMs: number;
  /** Whether the payer is, without a row of its own, where it moves to. */
  isByRule: (shard: string) => Promise<boolean>;
  options: MoveOptions;
}

/**
 * One payer from a shard to another, while it is used (docs/adr/0012-shards.md). Where the move stands is
 * in the directory; each step may be done again, so whoever finds a row there goes on with it:
 *
 *   copying   the logs by id, in pages, while writers go on: rows never change, and at the target they are
 *             appends like any other, of a payer that is known there to be elsewhere
 *   fenced    is_elsewhere at the source, committed: who sees it refuses the payer. Transactions from before
 *             are waited for, for a bounded time: where one stays open the fence is lifted, and the copy goes
 *             on. Then the last rows, the rest of the payer in one transaction (handOver.ts), and the switch
 *   switched  the payer is where it moved to
 *   cleaning  what is left at the source is taken away in pages (clean.ts)
 */
export class PayerMove {
  readonly #context: PayerMoveContext;
  readonly #options: typeof DEFAULTS;
  readonly #source: Query;
  readonly #target: Query;
  #columns: Columns = new Map();
  #restedAtMs = performance.now();
  /** A test stopped it: nothing more is done. */
  #isKilled = false;
  readonly report: MoveReport;

  constructor(context: PayerMoveContext) {
    const { payer, from, to, options } = context;
    this.#context = context;
    this.#options = {
      fenceMs: options.fenceMs ?? DEFAULTS.fenceMs,
      waitMs: options.waitMs ?? DEFAULTS.waitMs,
      pageRows: options.pageRows ?? DEFAULTS.pageRows,
      restRatio: options.restRatio ?? DEFAULTS.restRatio,
    };
    this.#source = queryOnPool(from.pool, true);
    this.#target = queryOnPool(to.pool, true);
    this.report = {
      payer: keyOf(payer),
      from: from.name,
      to: to.name,
      finished: false,
      rowsCopied: 0,
      rowsCleaned: 0,
      fencedMs: 0,
      liftedFences: 0,
    };
  }

  /** What would refuse the move, before anything is changed. @throws LedgerError */
  async check(): Promise<void> {
    const { payer, from, to } = this.#context;
    for (const { name, pool } of [from, to]) {
      if (await isKnownCluster(pool)) continue;
      throw new LedgerError('unavailable', `shard ${name}: ${UNKNOWN_CLUSTER}`);
    }
    await sharedColumns(this.#source, this.#target, to.name);
    await requireMovable(this.#source, this.#target, payer, to.name);
    await this.#requireFitting();
  }

  /** From wherever the move stands to its end, or to where the signal stops it. */
  async run(move: StoredMove): Promise<MoveReport> {
    try {
      return await this.#run(move);
    } catch (error) {
      if (!isRefusedRow(error)) throw error;
      // Written since the check, by the source's own program: said as the check does.
      await this.#requireFitting();
      throw refusedRow(this.#context.payer, this.#context.to.name, error as Error);
    }
  }

  #requireFitting(): Promise<void> {
    const { payer, to } = this.#context;
    return requireFitting(this.#source, this.#target, payer, to.name);
  }

  async #run(move: StoredMove): Promise<MoveReport> {
    const { to } = this.#context;
    this.#columns = await sharedColumns(this.#source, this.#target, to.name);
    let current = move;
    const deadlineMs = performance.now() + this.#options.waitMs;
    while (!this.#isStopped()) {
      if (current.step === 'copying') {
        current = await this.#copy(current, deadlineMs);
        if (this.#isStopped()) break;
        current = await this.#step(current, 'copying', 'fenced');
        await this.#at('fence_noted');
      } else if (current.step === 'fenced') {
        current = await this.#pass(current, deadlineMs);
      } else if (current.step === 'switched') {
        await forgetDeleted(this.#context);
        current = await this.#step(current, 'switched', 'cleaning');
        await this.#at('cleaning');
      } else {
        if (!(await this.#clean())) break;
        await this.#at('cleaned');
        await this.#end(current, to.name);
        this.report.finished = true;
        break;
      }
    }
    return this.report;
  }

  /**
   * Calls a move off that is not switched yet: the payer takes writes where it is, and what was copied is
   * taken away.
   */
  async cancel(move: StoredMove): Promise<void> {
    const { payer, from, to } = this.#context;
    this.#columns = await sharedColumns(this.#source, this.#target, to.name);
    const lifted = await this.#lift(move);
    await cleanPayer({
      payer,
      shard: to,
      keeper: from,
      pageRows: this.#options.pageRows,
      copy: async () => {
        throw new LedgerError('internal', `shard ${to.name} has usage that ${from.name} lacks`);
      },
      isStopped: () => false,
      onPage: async (rows) => {
        this.report.rowsCleaned += rows;
      },
    });
    await this.#end(lifted, from.name);
  }

  /** Of a mover that died under its fence: the payer takes writes where it is, and the move waits. */
  async lift(move: StoredMove): Promise<void> {
    await this.#lift(move);
  }

  /** History, then what came meanwhile, until little comes and nothing old is open. */
  async #copy(move: StoredMove, deadlineMs: number): Promise<StoredMove> {
    // A fence that was being lifted when its mover died.
    await this.#lift(move);
    await this.#prepare();
    await this.#at('prepared');
    const copier = this.#copier();
    const began = move.progress?.began ?? (await copier.oldestPosition());
    const progress: CopyProgress = {
      began,
      copied_from: move.progress?.copied_from ?? began,
      history: { ...move.progress?.history },
    };
    for (const log of LOGS) {
      for (let pages = 1; !this.#isStopped(); pages++) {
        const after = progress.history[log.table] ?? START_OF_HISTORY;
        if (after === 'done') break;
        const page = await copier.copyHistory(log, after, began);
        progress.history[log.table] = page?.after ?? 'done';
        await this.#note(move, progress);
        if (page === null) break;
        await this.#copied(page.rows, 'copying');
        if (pages % PAGES_PER_FOLD === 0) await this.#foldTarget();
      }
    }
    let current = move;
    for (let pass = 1; !this.#isStopped(); pass++) {
      const from = progress.copied_from;
      progress.copied_from = await copier.oldestPosition();
      let rows = 0;
      const range = { until: progress.copied_from, began };
      for (const log of LOGS) rows += await copier.copyRecent(log, from, range);
      await this.#copied(rows, 'copying');
      current = await this.#note(move, progress);
      // A transaction that is open for long would keep the fence up: it is waited for before.
      const open = await waitForOpen(this.#source, OLD_MS);
      if (open.length > 0) this.#wait(open, deadlineMs);
      else if (rows < FEW_ROWS || pass >= MAX_PASSES) break;
    }
    await this.#foldTarget();
    await this.#at('copied');
    return current;
  }

  /** The payer is known at the target, to be elsewhere; its rollups are folded from the log. */
  async #prepare(): Promise<void> {
    const { scope, id } = this.#context.payer;
    for (const rollup of DIMENSION_ROLLUPS) await this.#target(startRollupStatement(rollup));
    if (scope.name === 'user') {
      await this.#target(knowUsersStatement(JSON.stringify([{ id, deleted_at: null }])));
    } else {
      await this.#target({
        name: 'shards_know_organization',
        text: `/* shards.knowOrganization */
insert into organizations (id, name, is_elsewhere)
values ($1::uuid, $1::uuid::text, true)
on conflict (id) do nothing`,
        values: [id],
      });
    }
    await this.#budgets().foldFor(scope, id, 0);
  }

  /** Under the fence, for a bounded time. */
  async #pass(move: StoredMove, deadlineMs: number): Promise<StoredMove> {
    const { payer } = this.#context;
    // Noted before an earlier process died: its copy may have ended long ago.
    const progress = move.progress as CopyProgress;
    const startedAtMs = performance.now();
    try {
      const ours = await noteWith(this.#context, move, 'fenced', () =>
        raiseFence(this.#source, payer),
      );
      await this.#at('fenced');
      const open = await waitForOpen(this.#source, this.#options.fenceMs);
      if (open.length > 0) {
        const lifted = await this.#lift(move);
        this.report.liftedFences++;
        this.#wait(open, deadlineMs);
        return lifted;
      }
      await this.#at('waited');
      const copier = this.#copier();
      let rows = 0;
      const since = (await copier.hasLeft()) ? progress.began : progress.copied_from;
      for (const log of LOGS) rows += await copier.copyRecent(log, since, null);
      rows += await copier.copyLate();
      this.report.rowsCopied += rows;
      await this.#at('caught_up');
      return await this.#handOver(ours);
    } catch (error) {
      // Where that fails too, whoever goes on with the move does it.
      if (!this.#isKilled && !isChanged(error)) await this.#lift(move).catch(() => {});
      throw error;
    } finally {
      this.report.fencedMs += Math.round(performance.now() - startedAtMs);
    }
  }

  async #handOver(move: StoredMove): Promise<StoredMove> {
    const { payer } = this.#context;
    let switched = move;
    for (let tries = 1; ; tries++) {
      await foldBudgets(this.#budgets(), this.#source, payer);
      try {
        const isDone = await handOver({
          ...this.#context,
          columns: this.#columns,
          switchAfter: async (write) => {
            switched = await switchAfter(this.#context, move, write);
          },
          onPoint: (point) => this.#at(point),
        });
        if (isDone) break;
      } catch (error) {
        // Switched, and the state could not be taken away at the source: the cleaning does.
        if (switched.step === 'switched' && !this.#isKilled) break;
        if (!isSerializationFailure(error) || tries >= HAND_OVER_TRIES) throw error;
      }
      if (tries >= HAND_OVER_TRIES) {
        throw new LedgerError('unavailable', `the budgets of ${keyOf(payer)} cannot be folded now`);
      }
    }
    await this.#at('handed_over');
    return switched;
  }

  /**
   * The payer takes writes where it is, and is copied on.
   * @throws LedgerError `unavailable` where it is switched
   */
  #lift(move: StoredMove): Promise<StoredMove> {
    const { payer } = this.#context;
    return noteWith(this.#context, move, 'copying', async () => {
      // A hand-over that was not switched may have been committed there.
      await raiseFence(this.#target, payer);
      await liftFence(this.#source, payer);
    });
  }

  async #clean(): Promise<boolean> {
    const { payer, from, to } = this.#context;
    const copier = this.#copier();
    return await cleanPayer({
      payer,
      shard: from,
      keeper: to,
      pageRows: this.#options.pageRows,
      copy: (log, ids) => copier.copyIds(log, ids),
      isStopped: () => this.#isStopped(),
      onPage: async (rows) => {
        this.report.rowsCleaned += rows;
        this.#context.options.onProgress?.({ step: 'cleaning', rows: this.report.rowsCleaned });
        await this.#at('cleaned_page');
        await this.#rest();
      },
    });
  }

  async #end(move: StoredMove, shard: string): Promise<void> {
    const isByRule = await this.#context.isByRule(shard);
    await withRetry(() => this.#context.directory(endMoveStatement(move, isByRule)));
  }

  #step(move: StoredMove, from: MoveStep, to: MoveStep): Promise<StoredMove> {
    return this.#one(noteStepStatement(move, from, to), move);
  }

  #note(move: StoredMove, progress: CopyProgress): Promise<StoredMove> {
    return this.#one(noteProgressStatement(move, progress), move);
  }

  async #one(statement: Parameters<Query>[0], move: StoredMove): Promise<StoredMove> {
    const [row] = await withRetry(() => this.#context.directory<StoredMove>(statement));
    if (row) return row;
    throw changed(this.#context.payer, move);
  }

  async #copied(rows: number, step: MoveStep): Promise<void> {
    this.report.rowsCopied += rows;
    this.#context.options.onProgress?.({ step, rows: this.report.rowsCopied });
    await this.#at('page');
    await this.#rest();
  }

  /** Leaves room to those who write: as long as it worked, or as is asked for. Never under the fence. */
  async #rest(): Promise<void> {
    const worked = performance.now() - this.#restedAtMs;
    const restMs = Math.min(MAX_REST_MS, worked * this.#options.restRatio);
    if (restMs > 0) await sleep(restMs);
    this.#restedAtMs = performance.now();
  }

  /** What was copied is counted: reads sum the rest of it. */
  async #foldTarget(): Promise<void> {
    const { scope, id } = this.#context.payer;
    await new Settler({ query: this.#target }).settle(scope, [id]);
    await new DimensionFolder({ query: this.#target }).fold(scope, [id]);
  }

  /** As a ledger of the source folds them: what is crossed is told. */
  #budgets(): BudgetFolder {
    return new BudgetFolder({
      pool: this.#context.from.pool,
      named: true,
      onSettled: async (query, scope, id, rows) => {
        await raiseAlerts(query, scope, id, rows);
      },
    });
  }

  #copier(): RowCopier {
    const { payer, from, to } = this.#context;
    return new RowCopier(payer, from, to, {
      columns: this.#columns,
      pageRows: this.#options.pageRows,
    });
  }

  #isStopped(): boolean {
    return this.#context.options.signal?.aborted ?? false;
  }

  /** @throws LedgerError `unavailable` after the deadline */
  #wait(open: readonly OpenTransactionRow[], deadlineMs: number): void {
    const { from, options } = this.#context;
    if (performance.now() > deadlineMs) throw stillOpen(from.name, describeOpen(open));
    options.onNotice?.(`waiting for transactions on shard ${from.name}: ${describeOpen(open)}`);
  }

  async #at(point: MovePoint): Promise<void> {
    try {
      await this.#context.options.onPoint?.(point);
    } catch (error) {
      this.#isKilled = true;
      throw error;
    }
  }
}
