import { setTimeout as sleep } from 'node:timers/promises';
import type { Query } from '../db/query.js';
import type { Statement } from '../db/statement.js';

/** Beside chunks and in the rests, each. */
const PROBE_EVERY_MS = 50;
/** What is known of the load is as old as that at most, where chunks are short. */
const LOOK_EVERY_MS = 50;
/** Aimed length of a chunk beside others, ms: first, and within these. */
export const CHUNK_MS = 20;
const MIN_CHUNK_MS = 10;
const MAX_CHUNK_MS = 40;
/** Of each kind, before they are compared. */
const MIN_PROBES = 5;
/** Probes beside chunks that take this many times those between chunks: too much. */
const SLOWDOWN = 2;
/** Below this, ms, a difference is noise. */
const SLOWDOWN_FLOOR_MS = 2;
/** Rest for each unit of work, while others are at work. */
const MIN_REST_RATIO = 1.5;
/** Resting longer would not help those who come beside a chunk; the job must end. */
const MAX_REST_RATIO = 3;
const MAX_REST_MS = 5_000;
/** Bytes of WAL a replica may be behind before bulk work waits for it. */
const MAX_REPLICA_LAG_BYTES = 64 * 1024 * 1024;
/** Ungranted locks of others: somebody waits; do not add to it. */
const LOCK_WAIT_REST_MS = 500;

export interface Load {
  /** Other client sessions of this database that are running a statement, or were just now. */
  activeSessions: number;
  lockWaits: number;
  replicaLagBytes: number;
}

/**
 * Leaves room to live writers; one per job, shared by its workers. On an idle database it does
 * nothing. While others are at work:
 *
 *   wait for the turn (one worker at a time) -> chunk -> rest -> chunk -> rest -> ... -> next turn
 *            probes: small commits, timed __________|       |__________ the same, nothing beside
 *
 * A probe is what a live writer feels: a round trip, its share of the processors, a flush of the
 * log. When probes beside chunks are slower than those in the rests, the rests grow and chunks become
 * shorter; else the other way round, slower. Waiting locks and lagging replicas make rests longer still.
 */
export class Throttle {
  readonly #query: Query;
  readonly #queryLoad: Query;
  readonly #rest: (ms: number) => Promise<unknown>;
  #isBusy = true;
  #hasLooked = false;
  #atWork = 0;
  #waiting: (() => void)[] = [];
  #restRatio = MIN_REST_RATIO;
  #chunkMs = CHUNK_MS;
  #load: Load = { activeSessions: 0, lockWaits: 0, replicaLagBytes: 0 };
  #lookedAtMs = Number.NEGATIVE_INFINITY;
  readonly #beside = new Probes();
  readonly #between = new Probes();

  /**
   * `queryLoad`: the same as `query` with the caller's patience for a database that is away;
   * `rest`: ends early when the job does.
   */
  constructor(
    query: Query,
    options: { queryLoad?: Query; rest?: (ms: number) => Promise<unknown> } = {},
  ) {
    this.#query = query;
    this.#queryLoad = options.queryLoad ?? query;
    this.#rest = options.rest ?? ((ms) => sleep(ms));
  }

  /** Others were at work when it looked last; before it did, too. */
  get isBusy(): boolean {
    return this.#isBusy;
  }

  /** Rest for each unit of work. */
  get restRatio(): number {
    return this.#restRatio;
  }

  /** Aimed length of a chunk while others are at work, ms. */
  get chunkMs(): number {
    return this.#chunkMs;
  }

  /** While others are at work, one worker at a time. @throws what the work throws */
  async turn<T>(work: () => Promise<T>): Promise<T> {
    while (this.#isBusy && this.#atWork > 0) {
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
    this.#atWork++;
    try {
      return await work();
    } finally {
      this.#atWork--;
      this.#wake();
    }
  }

  /** Runs a chunk, and rests after it. @throws what the chunk throws */
  async run<T>(chunk: () => Promise<T>): Promise<T> {
    // The first chunk as well is of a size for those who are at work.
    if (!this.#hasLooked) await this.#look();
    const startedAt = performance.now();
    const result = await this.#probing(this.#beside, chunk);
    const chunkMs = performance.now() - startedAt;
    const restMs = restAfter(chunkMs, await this.#look(), this.#restRatio);
    if (restMs > 0) await this.#probing(this.#between, () => this.#rest(restMs));
    this.#adapt();
    return result;
  }

  async #look(): Promise<Load> {
    const now = performance.now();
    if (this.#isBusy && now - this.#lookedAtMs < LOOK_EVERY_MS) return this.#load;
    this.#lookedAtMs = now;
    this.#load = await readLoad(this.#queryLoad);
    this.#hasLooked = true;
    this.#isBusy = this.#load.activeSessions > 0;
    if (!this.#isBusy) this.#wake();
    return this.#load;
  }

  /** Those who wait for their turn look again. */
  #wake(): void {
    for (const resolve of this.#waiting.splice(0)) resolve();
  }

  /** At some moment of the work: it is short, and begins and ends as it always does. */
  async #probing<T>(probes: Probes, work: () => Promise<T>): Promise<T> {
    if (!this.#isBusy) return await work();
    let isOver = false;
    const probe = async () => {
      const startedAt = performance.now();
      probes.startedAtMs = startedAt;
      try {
        await this.#query(PROBE);
        probes.times.push(performance.now() - startedAt);
      } catch {
        // Away: the chunk meets it too.
      }
      if (!isOver) timer = setTimeout(probe, PROBE_EVERY_MS);
    };
    const dueMs = probes.startedAtMs + PROBE_EVERY_MS - performance.now();
    let timer = setTimeout(probe, Math.max(dueMs, (Math.random() * this.#chunkMs) / 2));
    try {
      return await work();
    } finally {
      isOver = true;
      clearTimeout(timer);
    }
  }

  #adapt(): void {
    if (this.#beside.times.length < MIN_PROBES || this.#between.times.length < MIN_PROBES) return;
    const between = mean(this.#between.times);
    const limitMs = Math.max(between * SLOWDOWN, between + SLOWDOWN_FLOOR_MS);
    const isSlow = mean(this.#beside.times) > limitMs;
    if (isSlow) {
      this.#restRatio = Math.min(MAX_REST_RATIO, this.#restRatio * 1.5);
      this.#chunkMs = Math.max(MIN_CHUNK_MS, this.#chunkMs / 1.5);
    } else {
      this.#restRatio = Math.max(MIN_REST_RATIO, this.#restRatio * 0.9);
      this.#chunkMs = Math.min(MAX_CHUNK_MS, this.#chunkMs * 1.1);
    }
    this.#beside.times = [];
    this.#between.times = [];
  }
}

/** Of one kind, since they were last compared. */
class Probes {
  /** Ms. */
  times: number[] = [];
  startedAtMs = Number.NEGATIVE_INFINITY;
}

/** How long bulk work rests after a chunk, ms. None on an idle database. */
export function restAfter(chunkMs: number, load: Load, restRatio: number): number {
  if (load.replicaLagBytes > MAX_REPLICA_LAG_BYTES) return MAX_REST_MS;
  const locksMs = load.lockWaits > 0 ? LOCK_WAIT_REST_MS : 0;
  const busyMs = load.activeSessions > 0 ? chunkMs * restRatio : 0;
  return Math.min(MAX_REST_MS, Math.max(locksMs, busyMs));
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** A commit that has to be flushed, and leaves nothing behind in any table. */
const PROBE: Statement = {
  name: 'microdollar_probe',
  plannedOnce: true,
  text: `/* microdollar.probe */
select pg_logical_emit_message(true, 'microdollar.probe'::text, ''::text)`,
  values: [],
};

async function readLoad(query: Query): Promise<Load> {
  const [row] = await query<{ active: string; lock_waits: string; replica_lag: string }>({
    name: 'microdollar_read_load',
    plannedOnce: true,
    text: `/* microdollar.readLoad */
select (
    select count(*) from pg_stat_activity
    where datname = current_database()
      and backend_type = 'client backend'
      and application_name <> 'microdollar rollup'
      and (state = 'active' or state_change > now() - interval '200 milliseconds')
  ) as active,
  (
    select count(*) from pg_locks as l
    join pg_database as d on d.oid = l.database
    where not l.granted
      and d.datname = current_database()
  ) as lock_waits,
  (
    select case when pg_is_in_recovery() then 0
      else coalesce(max(pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)), 0) end
    from pg_stat_replication
  ) as replica_lag`,
    values: [],
  });
  return {
    activeSessions: Number(row?.active ?? 0),
    lockWaits: Number(row?.lock_waits ?? 0),
    replicaLagBytes: Number(row?.replica_lag ?? 0),
  };
}
