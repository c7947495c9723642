import type { Query } from '../db/query.js';
import { classifyFailure } from '../db/sqlstate.js';
import type { Metrics } from '../metrics.js';
import {
  type DrainedRow,
  drainStatement,
  findPendingPayersStatement,
  openCountersStatement,
  type PendingPayerRow,
} from './fold.sql.js';
import type { FoldReport, PendingStatus } from './types.js';

/** Payers looked at in one page of a pass. */
const PAYERS_PER_PAGE = 2_000;
/** Payers, and pending rows, drained by one statement: bounds its length and its locks. */
const PAYERS_PER_STATEMENT = 200;
const ROWS_PER_STATEMENT = 4_000;
/** A fail-over can set transaction ids back: look from the first one now and then. */
const FULL_PASS_INTERVAL_MS = 30_000;
/** Passes in a row that drain nothing while something is left, before `drainAll` gives up. */
const MAX_IDLE_PASSES = 3;
const IDLE_PAUSE_MS = 10;

/** `left`: rows; `leftPayers`: whose rows they are. */
interface DrainReport {
  drained: number;
  left: number;
  leftPayers: number;
}

interface Payer {
  kiloUserId: string | null;
  organizationId: string | null;
  depth: number;
}

/**
 * Moves pending deltas into their counter rows, in bounded steps. Any number of folds may run,
 * in any number of processes: each takes the payers it can lock at once and leaves the rest.
 *
 *   find payers -> drain a group of them -> (rows missing? create them, drain again) -> next group
 *     -> (a full page with payers left? the page behind them)
 */
export class Fold {
  readonly #query: Query;
  readonly #metrics: Metrics;
  /** Nothing visible is pending below this transaction id. */
  #fromXid = '0';
  #fullPassAtMs = 0;
  #running: Promise<FoldReport> | null = null;

  constructor(query: Query, metrics: Metrics) {
    this.#query = query;
    this.#metrics = metrics;
  }

  /** One pass over everything pending now. Passes of one process do not overlap. */
  pass(): Promise<FoldReport> {
    this.#running ??= this.#pass().finally(() => {
      this.#running = null;
    });
    return this.#running;
  }

  /**
   * Passes until nothing is pending, or nothing moves: two folds may each have skipped what the
   * other one held, so a few idle passes are needed to tell that from a row held for long.
   */
  async drainAll(): Promise<FoldReport> {
    // A pass may have begun before the caller's last write: let it end first.
    await this.#running?.catch(() => {});
    const total: FoldReport = { drained: 0, remaining: 0 };
    for (let idlePasses = 0; idlePasses < MAX_IDLE_PASSES; ) {
      const report = await this.pass();
      total.drained += report.drained;
      total.remaining = report.remaining;
      if (report.drained > 0) idlePasses = 0;
      else if (report.remaining === 0) break;
      else {
        idlePasses++;
        await new Promise((resolve) => setTimeout(resolve, IDLE_PAUSE_MS));
      }
    }
    return total;
  }

  async status(): Promise<PendingStatus> {
    return this.#observe(await this.#find(1, 0));
  }

  async #pass(): Promise<FoldReport> {
    const report: FoldReport = { drained: 0, remaining: 0 };
    if (performance.now() - this.#fullPassAtMs > FULL_PASS_INTERVAL_MS) {
      this.#fromXid = '0';
      this.#fullPassAtMs = performance.now();
    }
    for (let skipped = 0; ; ) {
      const rows = await this.#find(PAYERS_PER_PAGE, skipped);
      if (skipped === 0) {
        this.#observe(rows);
        this.#advance(rows);
      }
      let leftPayers = 0;
      for (const group of groupPayers(rows.map(toPayer))) {
        const part = await this.#drainOrSplit(group);
        report.drained += part.drained;
        report.remaining += part.left;
        leftPayers += part.leftPayers;
        this.#metrics.folded.inc(part.drained);
      }
      // Payers that someone holds for long must not keep those behind them from being folded.
      if (rows.length < PAYERS_PER_PAGE || leftPayers === 0) return report;
      skipped += leftPayers;
    }
  }

  async #find(limit: number, offset: number): Promise<PendingPayerRow[]> {
    return await this.#query<PendingPayerRow>(
      findPendingPayersStatement(this.#fromXid, limit, offset),
    );
  }

  /** What was pending in this pass, oldest first, is where the next pass begins. */
  #advance(rows: readonly PendingPayerRow[]): void {
    const oldest = rows[0];
    if (!oldest) return;
    const bound = [BigInt(oldest.oldest_xid), BigInt(oldest.snapshot_xmin)];
    this.#fromXid = String(bound.reduce((a, b) => (a < b ? a : b)));
  }

  #observe(rows: readonly PendingPayerRow[]): PendingStatus {
    const depth = Number(rows[0]?.total_depth ?? 0);
    const oldestAgeMs = rows.reduce((max, row) => Math.max(max, Number(row.oldest_age_ms)), 0);
    this.#metrics.pendingDepth.set(depth);
    this.#metrics.pendingAge.set(oldestAgeMs / 1000);
    return { depth, oldestAgeMs };
  }

  /** Isolates a payer whose total its counter cannot hold: it stays pending, reported exactly. */
  async #drainOrSplit(group: readonly Payer[]): Promise<DrainReport> {
    const report: DrainReport = { drained: 0, left: 0, leftPayers: 0 };
    try {
      await this.#drain(group, report);
    } catch (error) {
      if (classifyFailure(error) !== 'data') throw error;
      if (group.length === 1) {
        this.#metrics.foldErrors.inc();
        return { ...report, left: group[0]?.depth ?? 0, leftPayers: 1 };
      }
      const middle = Math.ceil(group.length / 2);
      for (const half of [group.slice(0, middle), group.slice(middle)]) {
        const part = await this.#drainOrSplit(half);
        report.drained += part.drained;
        report.left += part.left;
        report.leftPayers += part.leftPayers;
      }
    }
    return report;
  }

  async #drain(group: readonly Payer[], report: DrainReport): Promise<void> {
    const users = group.flatMap((payer) => payer.kiloUserId ?? []);
    const organizations = group.flatMap((payer) => payer.organizationId ?? []);
    const limit = Math.max(50, Math.floor(ROWS_PER_STATEMENT / group.length));
    for (let opened = false; ; ) {
      const [row] = await this.#query<DrainedRow>(drainStatement(users, organizations, limit));
      const moved = Number(row?.drained ?? 0);
      const left = Number(row?.left ?? 0);
      report.drained += moved;
      if (left > 0 && !opened) {
        await this.#query(openCountersStatement(users, organizations, limit));
        opened = true;
        continue;
      }
      // A full step: there may be more of the same payers.
      if (moved >= limit) continue;
      report.left += left;
      report.leftPayers += Number(row?.left_payers ?? 0);
      return;
    }
  }
}

function toPayer(row: PendingPayerRow): Payer {
  return {
    kiloUserId: row.kilo_user_id,
    organizationId: row.organization_id,
    depth: Number(row.depth),
  };
}

/** Groups of payers such that one statement stays within its bounds of payers and rows. */
function groupPayers(payers: readonly Payer[]): Payer[][] {
  const groups: Payer[][] = [];
  let group: Payer[] = [];
  let rows = 0;
  for (const payer of payers) {
    const full = group.length >= PAYERS_PER_STATEMENT || rows + payer.depth > ROWS_PER_STATEMENT;
    if (group.length > 0 && full) {
      groups.push(group);
      group = [];
      rows = 0;
    }
    group.push(payer);
    rows += payer.depth;
  }
  if (group.length > 0) groups.push(group);
  return groups;
}

export interface BackgroundFold {
  stop(): Promise<void>;
}

/**
 * Folds in the background: again soon while there is work, less often when idle. A pass that
 * fails is counted and tried again; what is pending is never lost, only later.
 */
export function startBackgroundFold(
  fold: Fold,
  metrics: Metrics,
  options: { busyIntervalMs: number; idleIntervalMs: number },
): BackgroundFold {
  let stopped = false;
  let timer: NodeJS.Timeout | undefined;
  let current: Promise<void> = Promise.resolve();
  const run = async () => {
    let delayMs = options.idleIntervalMs;
    try {
      const report = await fold.pass();
      if (report.drained > 0) delayMs = options.busyIntervalMs;
    } catch (error) {
      metrics.foldErrors.inc();
      if (classifyFailure(error) === 'setup') delayMs = options.idleIntervalMs * 20;
    }
    if (stopped) return;
    timer = setTimeout(() => {
      current = run();
    }, delayMs);
    timer.unref();
  };
  current = run();
  return {
    async stop() {
      stopped = true;
      clearTimeout(timer);
      await current;
    },
  };
}
