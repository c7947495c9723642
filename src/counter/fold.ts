import type { Query } from '../db/query.js';
import { classifyFailure } from '../db/sqlstate.js';
import type { FoldReport, PendingStatus } from '../ledgerTypes.js';
import type { Metrics } from '../metrics.js';
import {
  type DrainedRow,
  drainStatement,
  findPendingPayersStatement,
  openCountersStatement,
  type PendingPayerRow,
} from './fold.sql.js';

/** Payers looked at in one pass. */
const PAYERS_PER_PASS = 2_000;
/** Payers, and pending rows, drained by one statement: bounds its length and its locks. */
const PAYERS_PER_STATEMENT = 200;
const ROWS_PER_STATEMENT = 4_000;

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
 */
export class Fold {
  readonly #query: Query;
  readonly #metrics: Metrics;
  /** Nothing visible is pending below this transaction id. */
  #fromXid = '0';
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

  /** Passes until nothing is pending, or a pass drains nothing. */
  async drainAll(): Promise<FoldReport> {
    // A pass may have begun before the caller's last write: let it end first.
    await this.#running?.catch(() => {});
    const total: FoldReport = { drained: 0, remaining: 0 };
    for (;;) {
      const report = await this.pass();
      total.drained += report.drained;
      total.remaining = report.remaining;
      if (report.drained === 0) return total;
    }
  }

  async status(): Promise<PendingStatus> {
    const rows = await this.#find(this.#fromXid, 1_000_000);
    return this.#observe(rows);
  }

  async #pass(): Promise<FoldReport> {
    const rows = await this.#find(this.#fromXid, PAYERS_PER_PASS);
    this.#observe(rows);
    this.#advance(rows);
    const report: FoldReport = { drained: 0, remaining: 0 };
    const payers = rows.map(toPayer);
    for (const group of groupPayers(payers)) {
      const { drained, left } = await this.#drain(group);
      report.drained += drained;
      report.remaining += left;
    }
    this.#metrics.folded.inc(report.drained);
    return report;
  }

  async #find(fromXid: string, limit: number): Promise<PendingPayerRow[]> {
    return await this.#query<PendingPayerRow>(findPendingPayersStatement(fromXid, limit));
  }

  /** What was pending in this pass, oldest first, is where the next pass begins. */
  #advance(rows: readonly PendingPayerRow[]): void {
    const oldest = rows[0];
    if (!oldest) return;
    const bound = [BigInt(oldest.oldest_xid), BigInt(oldest.snapshot_xmin)];
    this.#fromXid = String(bound.reduce((a, b) => (a < b ? a : b)));
  }

  #observe(rows: readonly PendingPayerRow[]): PendingStatus {
    const depth = rows.reduce((sum, row) => sum + Number(row.depth), 0);
    const oldestAgeMs = rows.reduce((max, row) => Math.max(max, Number(row.oldest_age_ms)), 0);
    this.#metrics.pendingDepth.set(depth);
    this.#metrics.pendingAge.set(oldestAgeMs / 1000);
    return { depth, oldestAgeMs };
  }

  async #drain(group: readonly Payer[]): Promise<{ drained: number; left: number }> {
    const users = group.flatMap((payer) => payer.kiloUserId ?? []);
    const organizations = group.flatMap((payer) => payer.organizationId ?? []);
    const limit = Math.max(50, Math.floor(ROWS_PER_STATEMENT / group.length));
    let drained = 0;
    for (let opened = false; ; ) {
      const [row] = await this.#query<DrainedRow>(drainStatement(users, organizations, limit));
      const moved = Number(row?.drained ?? 0);
      const left = Number(row?.left ?? 0);
      drained += moved;
      if (left > 0 && !opened) {
        await this.#query(openCountersStatement(users, organizations, limit));
        opened = true;
        continue;
      }
      // A full step: there may be more of the same payers.
      if (moved >= limit) continue;
      return { drained, left };
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
