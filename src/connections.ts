import type pg from 'pg';
import { createPool, READ_SETTINGS, REPORT_SETTINGS, WRITE_SETTINGS } from './db/pool.js';

/**
 * Sweeps, and folds of rollups: by index whatever the payers. Five custom plans before the generic one
 * would all be the same, and of statements this large each takes milliseconds.
 */
const FOLD_SETTINGS = [
  ...READ_SETTINGS,
  'plan_cache_mode=force_generic_plan',
  'enable_hashjoin=off',
  'enable_mergejoin=off',
] as const;

/**
 * Every connection of a ledger: its use, how many, and what they are set to. No kind of work shares
 * connections with another, so none can starve it.
 */
export const CONNECTION_USES = {
  /** Appends. A lock is met only where an id is in flight elsewhere: then another way is taken. */
  write: { size: 4, kept: 2, lockTimeoutMs: 10, settings: WRITE_SETTINGS },
  /** What met such an id: the event that waits, a part at a time its neighbours. */
  aside: { size: 5, kept: 1, lockTimeoutMs: 25, settings: WRITE_SETTINGS },
  /** Exa requests. */
  exa: { size: 2, lockTimeoutMs: 100, settings: WRITE_SETTINGS },
  /** Answers and folds. A lost fold is folded again, so its commit need not be waited for. */
  settle: {
    size: 3,
    settings: [...WRITE_SETTINGS, 'enable_hashjoin=off', 'synchronous_commit=off'],
  },
  /** The sweep. */
  sweep: { size: 1, settings: FOLD_SETTINGS },
  /** Folds of rollups by dimension: behind everything else. */
  rollup: {
    size: 1,
    lockTimeoutMs: 250,
    settings: [...FOLD_SETTINGS, 'synchronous_commit=off'],
  },
  /** Holds: slots are taken where they are free, so a lock is met only where an id is in flight. */
  hold: { size: 4, lockTimeoutMs: 30, settings: [...WRITE_SETTINGS, 'enable_hashjoin=off'] },
  /**
   * Folds of budgets. A lost one is folded again; a hold of what it gave back is committed after
   * it, and with it.
   */
  budget: {
    size: 2,
    lockTimeoutMs: 50,
    settings: [...WRITE_SETTINGS, 'enable_hashjoin=off', 'synchronous_commit=off'],
  },
  /** Expiries of grants, and of the budgets what that takes: what is locked is left for later. */
  grant: { size: 1, lockTimeoutMs: 50, settings: [...WRITE_SETTINGS, 'enable_hashjoin=off'] },
  /** The outbox of alerts: what is to be sent, and how it went. */
  alert: { size: 1, settings: [...WRITE_SETTINGS, 'enable_hashjoin=off'] },
  /** Lookups left as text, and soft deletes that waited for writes in flight. What is held is for later. */
  housekeeping: {
    size: 1,
    lockTimeoutMs: 250,
    settings: [...READ_SETTINGS, 'plan_cache_mode=force_generic_plan'],
  },
  /** Accounts, reports on the primary, and whatever a server asks. `poolSize` of them. */
  ledger: { settings: READ_SETTINGS },
  /** Reads on the replica. `poolSize` of them. */
  read: { settings: READ_SETTINGS },
  /** Reports by period and dimension, on the replica where there is one. */
  report: { size: 4, settings: REPORT_SETTINGS },
  /** Comparisons scan raw usage: a budget of time. */
  shadow: { size: 1, statementTimeoutMs: 2_000, settings: ['jit=off'] },
} as const satisfies Record<string, ConnectionUse>;

interface ConnectionUse {
  size?: number;
  /**
   * Opened soon after the process has begun to write, and kept: who meets a lock goes to another
   * connection, and must not wait for that to be opened and to plan its statements.
   */
  kept?: number;
  lockTimeoutMs?: number;
  statementTimeoutMs?: number;
  settings: readonly string[];
}

export type Use = keyof typeof CONNECTION_USES;

/** Where there is a replica. */
const ON_REPLICA: ReadonlySet<Use> = new Set(['read', 'report', 'shadow']);

export interface ConnectionOptions {
  databaseUrl: string;
  replicaUrl?: string | undefined;
  poolSize: number;
  lockTimeoutMs: number;
  statementTimeoutMs: number;
  /** Behind a pooler in transaction mode: no startup options, no named statements. */
  viaPooler: boolean;
  onLost?: () => void;
}

const KEPT_USES = (Object.keys(CONNECTION_USES) as Use[]).filter(
  (use) => 'kept' in CONNECTION_USES[use],
);
const OPENS_KEPT_AFTER_MS = 500;

/** Pools by use, opened when first asked for, and ended together. */
export class Connections {
  readonly #options: ConnectionOptions;
  readonly #pools = new Map<string, pg.Pool>();
  #opensKept: NodeJS.Timeout | undefined;

  constructor(options: ConnectionOptions) {
    this.#options = options;
  }

  /** @param size instead of what the use has */
  pool(use: Use, size?: number): pg.Pool {
    const isReplica = ON_REPLICA.has(use) && this.#options.replicaUrl !== undefined;
    if (use === 'read' && !isReplica) return this.pool('ledger');
    const open = this.#pools.get(use);
    if (open) return open;
    const { settings, ...own }: ConnectionUse = CONNECTION_USES[use];
    const pool = createPool({
      url: (isReplica ? this.#options.replicaUrl : undefined) ?? this.#options.databaseUrl,
      size: size ?? own.size ?? this.#options.poolSize,
      kept: own.kept ?? 0,
      applicationName: `microdollar ${use}`,
      lockTimeoutMs: own.lockTimeoutMs ?? this.#options.lockTimeoutMs,
      statementTimeoutMs: own.statementTimeoutMs ?? this.#options.statementTimeoutMs,
      settings,
      viaPooler: this.#options.viaPooler,
      ...(this.#options.onLost ? { onLost: this.#options.onLost } : {}),
    });
    this.#pools.set(use, pool);
    if (use === 'write') pool.once('connect', () => this.#openKeptSoon());
    return pool;
  }

  #openKeptSoon(): void {
    this.#opensKept ??= setTimeout(() => {
      for (const use of KEPT_USES) void openAtOnce(this.pool(use));
    }, OPENS_KEPT_AFTER_MS).unref();
  }

  async end(): Promise<void> {
    clearTimeout(this.#opensKept);
    await Promise.all([...this.#pools.values()].map((pool) => pool.end()));
  }
}

/** Connections that the pool keeps; what cannot be opened now is opened when it is needed. */
async function openAtOnce(pool: pg.Pool): Promise<void> {
  const opening = Array.from({ length: pool.options.min ?? 0 }, () => pool.connect());
  for (const opened of await Promise.allSettled(opening)) {
    if (opened.status === 'fulfilled') opened.value.release();
  }
}
