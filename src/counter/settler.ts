import type { Query } from '../db/query.js';
import { withRetry } from '../db/retry.js';
import { classifyFailure, isStatementTimeout } from '../db/sqlstate.js';
import {
  EXA_LOG,
  type Log,
  PAYER_SCOPES,
  type PayerScope,
  USAGE_LOG,
} from '../schema/unsettled.js';
import { inSpan, type Tracing } from '../tracing.js';
import { AnswerLanes, type Caller } from './answerLanes.js';
import { KEYS_PER_STATEMENT, openCountersStatement } from './openCounters.sql.js';
import { type Payer, payerId, scopeOf } from './payer.js';
import {
  exactBalancesStatement,
  readBalancesStatement,
  type SettledRow,
  type SettleLimits,
  settleStatement,
} from './settle.sql.js';
import { type SettledExaRow, settleExaStatement } from './settleExa.sql.js';
import { Tails } from './tails.js';

/** Calls in flight, up to which every payer is settled before they are answered. */
const QUIET_CALLERS = 8;
/** Payers of one settle: bounds its length and its locks. */
const PAYERS_PER_STATEMENT = 100;
/**
 * Under load an open transaction that is younger may hold the mark, for it will end in a moment; an
 * older one becomes an exception (R3). Otherwise each does at once, so that base rows are current
 * whatever else is open in the cluster.
 */
const YOUNG_XIDS = 64;
/**
 * A tail that is too long for one statement, or has counter rows to be opened and is longer, is settled in
 * parts of so many rows: each reads no more than that.
 */
const ROWS_PER_PART = 20_000;

export interface SettlerOptions {
  query: Query;
  /** False: answers are read, and settling is left to the background. Default true. */
  settlesForAnswers?: boolean;
  /** Calls of the process that are in flight, also those that append. Default: those that wait here. */
  inFlight?: () => number;
  onSettled?: (rows: number) => void;
  onRetry?: (cause: string) => void;
  /** A payer could not be settled or answered; the others were. */
  onError?: (error: unknown, payer: string) => void;
  /** Default: no spans are wanted. */
  tracing?: Tracing | null;
}

export interface SettleReport {
  /** Rows settled. */
  settled: number;
  /**
   * Rows left: a counter row is held by someone else, or their transaction was open. Of a payer that
   * could not be asked, because its statement failed, one: how many it has is not known.
   */
  left: number;
}

/**
 * Settles payers and answers their balances, many callers by one statement: one at a time for users
 * and one for organizations, each for every payer asked for since the last one began, and the same
 * for payers whose tail is long, because it cannot be settled: nobody waits for these (I12). A statement
 * begins after the caller's commit, so its answer contains the caller's write and everything
 * committed before.
 *
 * Policy: with few calls in flight every payer is settled before it is answered, so that its base rows
 * are current. Under load a payer is settled when it has several rows, or when they have some age
 * (tails.ts), and is answered from counter row and tail until then. Exact either way.
 */
export class Settler {
  readonly #options: SettlerOptions;
  readonly #tails = new Tails();
  readonly #lanes: AnswerLanes;

  constructor(options: SettlerOptions) {
    this.#options = options;
    this.#lanes = new AnswerLanes({
      isLong: (scope, id) => this.#tails.isLong(scope, id),
      answer: (scope, batch) => this.#answer(scope, batch),
    });
  }

  /** Rows of this process that may be unsettled, and since when, ms. */
  get backlog(): { depth: number; oldestAgeMs: number } {
    return this.#tails.backlog(performance.now());
  }

  /** A row of the payer was appended to the log. */
  appended(payer: Payer): void {
    this.#tails.add(scopeOf(payer), payerId(payer), performance.now());
  }

  /**
   * What the payer has used, microdollars, exact; null when that could not be read (the event of the
   * caller is recorded all the same, I9). Never rejects.
   */
  balance(payer: Payer): Promise<bigint | null> {
    return new Promise((resolve) => {
      this.#lanes.ask(scopeOf(payer), payerId(payer), { resolve });
    });
  }

  /** Settles what is due by now; the background's step. */
  async settleDue(): Promise<SettleReport> {
    const report = { settled: 0, left: 0 };
    const isQuiet = this.#lanes.isQuiet && (this.#options.inFlight?.() ?? 0) <= QUIET_CALLERS;
    for (const scope of PAYER_SCOPES) {
      for (;;) {
        const ids = this.#tails.takeDue(scope, performance.now(), isQuiet, PAYERS_PER_STATEMENT);
        if (ids.length === 0) break;
        const part = await this.settle(scope, ids);
        report.settled += part.settled;
        report.left += part.left;
        if (ids.length < PAYERS_PER_STATEMENT) break;
      }
    }
    return report;
  }

  /** Settles what this process wrote, once; what is held is left to a sweep. */
  async flush(): Promise<void> {
    for (const scope of PAYER_SCOPES) await this.settle(scope, this.#tails.open(scope));
  }

  /** Settles payers now, in both logs, as far as their rows are free. */
  async settle(
    scope: PayerScope,
    ids: readonly string[],
    limits: Partial<SettleLimits> = {},
  ): Promise<SettleReport> {
    const report = { settled: 0, left: 0 };
    for (let from = 0; from < ids.length; from += PAYERS_PER_STATEMENT) {
      const payers = ids.slice(from, from + PAYERS_PER_STATEMENT);
      const part = await this.#settlePart(scope, payers, limits);
      report.settled += part.settled;
      report.left += part.left;
    }
    return report;
  }

  async #settlePart(
    scope: PayerScope,
    ids: readonly string[],
    limits: Partial<SettleLimits>,
  ): Promise<SettleReport> {
    const report = { settled: 0, left: 0 };
    const rows = await this.#isolated(scope, ids, (part) => this.#settleRows(scope, part, limits));
    report.left += ids.length - rows.length;
    for (const row of rows) {
      report.settled += Number(row.settled);
      report.left += Number(row.depth) - Number(row.settled);
    }
    const withExa = rows.filter((row) => row.has_exa).map((row) => row.id);
    if (withExa.length > 0) {
      const exa = await this.#isolated(scope, withExa, (part) =>
        this.#settleExa(scope, part, limits),
      );
      report.left += withExa.length - exa.length;
      for (const row of exa) {
        report.settled += Number(row.settled);
        report.left += Number(row.depth) - Number(row.settled);
      }
    }
    return report;
  }

  async #answer(scope: PayerScope, batch: ReadonlyMap<string, Caller[]>): Promise<void> {
    let callers = 0;
    for (const each of batch.values()) callers += each.length;
    const isQuiet = Math.max(callers, this.#options.inFlight?.() ?? 0) <= QUIET_CALLERS;
    const nowMs = performance.now();
    const fold: string[] = [];
    const read: string[] = [];
    for (const id of batch.keys()) {
      const isDue =
        (this.#options.settlesForAnswers ?? true) &&
        fold.length < PAYERS_PER_STATEMENT &&
        this.#tails.mayFold(scope, id, nowMs, isQuiet);
      (isDue ? fold : read).push(id);
    }
    const [folded, answered] = await Promise.all([
      this.#isolated(scope, fold, (ids) => {
        const isYoungWaitedFor = !isQuiet && !this.#tails.isHeld(scope, ids);
        return this.#settleRows(scope, ids, { youngXids: isYoungWaitedFor ? YOUNG_XIDS : 0 });
      }),
      this.#isolated(scope, read, (ids) => this.#readRows(scope, ids)),
    ]);
    const rows = [...folded, ...answered];
    const balances = new Map(rows.map((row) => [row.id, BigInt(row.balance)]));
    const withExa = rows.filter((row) => row.has_exa).map((row) => row.id);
    if (withExa.length > 0) await this.#answerExa(scope, withExa, balances);
    for (const [id, each] of batch) {
      const balance = balances.get(id) ?? null;
      for (const caller of each) caller.resolve(balance);
    }
  }

  /** Payers with Exa requests that are not in their counter: settled, and read by the exact view. */
  async #answerExa(
    scope: PayerScope,
    ids: readonly string[],
    balances: Map<string, bigint>,
  ): Promise<void> {
    await this.#isolated(scope, ids, (part) => this.#settleExa(scope, part));
    const rows = await this.#isolated(scope, ids, (part) =>
      this.#query<{ id: string; balance: string }>(exactBalancesStatement(scope, part)),
    );
    for (const id of ids) balances.delete(id);
    for (const row of rows) balances.set(row.id, BigInt(row.balance));
  }

  async #readRows(scope: PayerScope, ids: readonly string[]): Promise<SettledRow[]> {
    const rows = await this.#query<SettledRow>(readBalancesStatement(scope, ids));
    this.#tails.seen(scope, rows, performance.now());
    return rows;
  }

  #settleRows(
    scope: PayerScope,
    ids: readonly string[],
    limits: Partial<SettleLimits> = {},
  ): Promise<SettledRow[]> {
    const attributes = { 'microdollar.scope': scope.name, 'microdollar.payers': ids.length };
    const { tracing = null } = this.#options;
    return inSpan(tracing, 'microdollar.settle', { attributes }, async (span) => {
      const rows = await this.#foldRows(scope, ids, limits);
      const settled = rows.reduce((sum, row) => sum + Number(row.settled), 0);
      span?.setAttribute('microdollar.rows', settled);
      this.#options.onSettled?.(settled);
      this.#tails.seen(scope, rows, performance.now());
      return rows;
    });
  }

  /** Folds, after opening the counter rows that are missing. */
  async #foldRows(
    scope: PayerScope,
    ids: readonly string[],
    { youngXids = 0 }: Partial<SettleLimits>,
  ): Promise<SettledRow[]> {
    const send = (part: readonly string[], rowsPerPayer: number | null = null) =>
      this.#query<SettledRow>(
        settleStatement(
          scope,
          part,
          part.map(() => true),
          { youngXids, rowsPerPayer },
        ),
      );
    let rows: SettledRow[];
    try {
      rows = await send(ids);
    } catch (error) {
      if (ids.length > 1 || !isStatementTimeout(error)) throw error;
      rows = await this.#settleInParts(scope, ids, send, error);
    }
    const missing = rows.filter((row) => Number(row.missing) > 0);
    if (missing.length === 0) return rows;
    const first = new Map(rows.map((row) => [row.id, row]));
    const isLong = (row: SettledRow) => Number(row.depth) > ROWS_PER_PART;
    for (const { id } of missing.filter(isLong)) {
      for (const row of await this.#settleInParts(scope, [id], send)) first.set(id, row);
    }
    const short = missing.filter((row) => !isLong(row)).map((row) => row.id);
    if (short.length > 0 && (await this.#open(USAGE_LOG, scope, short)) > 0) {
      for (const row of await send(short)) first.set(row.id, row);
    }
    return [...first.values()];
  }

  /**
   * One payer whose tail is too long for a statement: in parts as far as the snapshot of the last one
   * reaches, however much is written meanwhile, then what is left as a whole, which alone knows the balance.
   * @param met what a whole one met before: told where the parts settle nothing either, for it would again
   * @returns the last answer, with what all parts settled
   */
  async #settleInParts(
    scope: PayerScope,
    ids: readonly string[],
    send: (ids: readonly string[], rowsPerPayer: number | null) => Promise<SettledRow[]>,
    met: unknown = null,
  ): Promise<SettledRow[]> {
    for (let settled = 0; ; ) {
      const [part] = await send(ids, ROWS_PER_PART);
      const now = Number(part?.settled ?? 0);
      settled += now;
      if (now > 0 && part?.has_more) continue;
      const isMissing = Number(part?.missing ?? 0) > 0;
      if (isMissing && (await this.#open(USAGE_LOG, scope, ids, ROWS_PER_PART)) > 0) continue;
      if (settled === 0 && met !== null) throw met;
      const rows = await send(ids, null);
      return rows.map((row) => ({
        ...row,
        depth: String(settled + Number(row.depth)),
        settled: String(settled + Number(row.settled)),
      }));
    }
  }

  async #settleExa(
    scope: PayerScope,
    ids: readonly string[],
    { youngXids = 0 }: Partial<SettleLimits> = {},
  ): Promise<SettledExaRow[]> {
    const statement = settleExaStatement(scope, ids, { youngXids, rowsPerPayer: null });
    const rows = await this.#query<SettledExaRow>(statement);
    if (rows.every((row) => Number(row.missing) === 0)) return rows;
    if ((await this.#open(EXA_LOG, scope, ids)) === 0) return rows;
    return await this.#query<SettledExaRow>(statement);
  }

  /** Opens the counter rows that payers lack. @returns how many; others may be opening the rest */
  async #open(
    log: Log,
    scope: PayerScope,
    ids: readonly string[],
    rowsPerPayer: number | null = null,
  ): Promise<number> {
    for (let opened = 0; ; ) {
      const statement = openCountersStatement(log, scope, ids, rowsPerPayer);
      const [row] = await this.#query<{ opened: string }>(statement);
      const now = Number(row?.opened ?? 0);
      opened += now;
      if (now < KEYS_PER_STATEMENT) return opened;
    }
  }

  /**
   * Runs a statement of several payers. Where one of them makes it fail, the statement is split until
   * that one stands alone (I12): it gets no row, and is counted; the others get theirs. A lock
   * that was waited for is nobody's row, but a table's, so everybody's.
   */
  async #isolated<Row>(
    scope: PayerScope,
    ids: readonly string[],
    run: (ids: readonly string[]) => Promise<Row[]>,
  ): Promise<Row[]> {
    if (ids.length === 0) return [];
    try {
      return await run(ids);
    } catch (error) {
      const kind = classifyFailure(error);
      const isOnesOwn = kind === 'data' || isStatementTimeout(error);
      if (ids.length > 1 && isOnesOwn) {
        const half = Math.ceil(ids.length / 2);
        const parts = [ids.slice(0, half), ids.slice(half)];
        const rows: Row[] = [];
        for (const part of parts) rows.push(...(await this.#isolated(scope, part, run)));
        return rows;
      }
      this.#tails.failed(scope, ids, performance.now());
      this.#options.onError?.(error, ids.length === 1 ? `${scope.name}:${ids[0]}` : scope.payers);
      return [];
    }
  }

  #query<Row>(statement: Parameters<Query>[0]): Promise<Row[]> {
    return withRetry(() => this.#options.query<Row>(statement), {
      splits: true,
      ...(this.#options.onRetry ? { onRetry: this.#options.onRetry } : {}),
    });
  }
}
