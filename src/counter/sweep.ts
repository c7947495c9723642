import { setTimeout as sleep } from 'node:timers/promises';
import type { Query } from '../db/query.js';
import { PAYER_SCOPES } from '../schema/unsettled.js';
import type { SettleLimits } from './settle.sql.js';
import type { Settler } from './settler.js';
import {
  ENDED_STATEMENT,
  type EndedRow,
  noteSweepStatement,
  type SweptPageRow,
  sweepPageStatement,
} from './sweep.sql.js';

const PAYERS_PER_PAGE = 2_000;
/** Rounds in a row that settle nothing while something is left, before a fold gives up. */
const MAX_IDLE_ROUNDS = 3;
const IDLE_PAUSE_MS = 10;

export interface FoldReport {
  /** Rows of the log settled into their counter rows. */
  drained: number;
  /** Rows left because someone else holds their counter row, or their transaction is open. */
  remaining: number;
}

export interface PendingStatus {
  /** Unsettled rows. */
  depth: number;
  /** Age of the oldest, by its own `created_at`, ms; 0 when there is none. */
  oldestAgeMs: number;
}

interface Swept {
  settled: number;
  left: number;
  /** Every row below is settled; null = not known. */
  settledBelow: bigint | null;
  /** No transaction had begun from here on when the sweep began; null in an unknown cluster. */
  begunBelow: bigint | null;
}

const isSameGeneration = (a: bigint, b: bigint): boolean => a >> 44n === b >> 44n;

/**
 * Looks at every payer, page by page, and settles what is found: rows that a process left behind when
 * it ended, or that a host wrote on a pool of its own. What it proves is noted, so that a
 * verification need not ask for the marks of history.
 *
 * Proven is what had ended before a reading that nothing in progress then outlived: payers that
 * come behind the sweep's back were then created by transactions younger than those rows, which
 * see them (functions/microdollar_note_new_payers.sql). Where nothing is in progress, the reading
 * that a sweep begins with is such a one; else it is that of an earlier sweep.
 */
export class Sweep {
  readonly #query: Query;
  readonly #settler: Settler;
  /** Waits until everything that was in progress then has ended. */
  #reading: { endedBelow: bigint; begunBelow: bigint } | null = null;

  constructor(query: Query, settler: Settler) {
    this.#query = query;
    this.#settler = settler;
  }

  /** One look at everybody. */
  async pass(): Promise<FoldReport> {
    const swept = await this.#sweep();
    return { drained: swept.settled, remaining: swept.left };
  }

  /**
   * Settles everything that is committed now, whatever transactions are open beside; tries a few
   * times for rows that others hold. It ends however much is written meanwhile: progress is fewer
   * rows left than ever before, or a higher lowest one, up to where the first round began.
   */
  async foldAll(): Promise<FoldReport> {
    const report: FoldReport = { drained: 0, remaining: 0 };
    let goal: bigint | null = null;
    let fewest = Number.POSITIVE_INFINITY;
    let highest = 0n;
    for (let idle = 0; idle < MAX_IDLE_ROUNDS; ) {
      // What was left behind a young transaction is settled around it.
      const swept = await this.#sweep(idle > 0 ? { youngXids: 0 } : {});
      report.drained += swept.settled;
      report.remaining = swept.left;
      goal ??= swept.begunBelow;
      const settledBelow = swept.settledBelow ?? 0n;
      if (swept.left === 0 || (goal !== null && settledBelow >= goal)) break;
      const isProgress = swept.left < fewest || settledBelow > highest;
      idle = swept.settled > 0 && isProgress ? 0 : idle + 1;
      fewest = Math.min(swept.left, fewest);
      if (settledBelow > highest) highest = settledBelow;
      await sleep(IDLE_PAUSE_MS);
    }
    return report;
  }

  /** What is unsettled now, without settling it. */
  async status(): Promise<PendingStatus> {
    const status: PendingStatus = { depth: 0, oldestAgeMs: 0 };
    for await (const { page } of this.#pages()) {
      status.depth += Number(page.depth);
      status.oldestAgeMs = Math.max(status.oldestAgeMs, Number(page.oldest_age_ms ?? 0));
    }
    return status;
  }

  async #sweep(limits: Partial<SettleLimits> = {}): Promise<Swept> {
    const [ended] = await this.#query<EndedRow>(ENDED_STATEMENT);
    const provableBelow = this.#provableBelow(ended);
    const endedBelow = ended?.position ?? null;
    const swept: Swept = {
      settled: 0,
      left: 0,
      settledBelow: endedBelow === null ? null : BigInt(endedBelow),
      begunBelow: ended?.begun ? BigInt(ended.begun) : null,
    };
    for await (const { scope, page } of this.#pages()) {
      if (!page.ids) continue;
      const report = await this.#settler.settle(scope, page.ids, limits);
      swept.settled += report.settled;
      swept.left += report.left;
      if (report.left === 0) continue;
      // Held, or failed: what is below the lowest row of this page is settled all the same.
      const lowest = page.lowest === null ? null : BigInt(page.lowest);
      if (lowest !== null && swept.settledBelow !== null && lowest < swept.settledBelow) {
        swept.settledBelow = lowest;
      }
    }
    if (ended && endedBelow !== null && swept.settledBelow !== null) {
      const proven = swept.settledBelow < provableBelow ? swept.settledBelow : provableBelow;
      await this.#query(noteSweepStatement(String(proven), endedBelow, ended.changed_at));
    }
    return swept;
  }

  /** What a sweep that begins with this reading can prove at best; 0 = nothing new. */
  #provableBelow(ended: EndedRow | undefined): bigint {
    if (!ended?.position || !ended.begun) {
      this.#reading = null;
      return 0n;
    }
    const now = { endedBelow: BigInt(ended.position), begunBelow: BigInt(ended.begun) };
    const isIdle = now.endedBelow === now.begunBelow;
    const reading = this.#reading;
    if (isIdle || reading === null || !isSameGeneration(reading.endedBelow, now.endedBelow)) {
      this.#reading = now;
      return isIdle ? now.endedBelow : 0n;
    }
    if (now.endedBelow < reading.begunBelow) return 0n;
    this.#reading = now;
    return reading.endedBelow;
  }

  async *#pages() {
    for (const scope of PAYER_SCOPES) {
      for (let afterId: string | null = null; ; ) {
        const [page]: SweptPageRow[] = await this.#query<SweptPageRow>(
          sweepPageStatement(scope, afterId, PAYERS_PER_PAGE),
        );
        if (!page) break;
        yield { scope, page };
        if (page.payers < PAYERS_PER_PAGE) break;
        afterId = page.last_id;
      }
    }
  }
}
