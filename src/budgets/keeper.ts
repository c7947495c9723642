import { randomUUID } from 'node:crypto';
import { hostname } from 'node:os';
import { type Payer, payerId, payerKey, scopeOf } from '../counter/payer.js';
import { beatStatement } from '../db/beat.sql.js';
import type { Query } from '../db/query.js';
import { DeadOwners, type OwnerRow } from '../deadOwners.js';
import { PAYER_SCOPES, type PayerScope, scopeNamed } from '../schema/unsettled.js';
import type { BudgetFolder } from './folder.js';
import {
  FORGET_RELEASED_STATEMENT,
  forgetInstancesStatement,
  HOLD_OWNERS_STATEMENT,
  type ReleasedPayerRow,
  releaseExpiredStatement,
  type SweptBudgetsRow,
  sweepBudgetsStatement,
} from './keep.sql.js';

/**
 * A payer is folded when so many of its holds were closed, or the first so long ago: whoever needs what they
 * gave back folds at once, so this only keeps tails short.
 */
const DEEP_HOLDS = 32;
const CLOSED_AGE_MS = 3_000;
/** And when usage of it was recorded so long ago, which somebody waits to be told of. */
const USED_AGE_MS = 1_000;
const MAX_PAYERS = 100_000;
/** As of gateways (gateway/durable): a process is dead when its heart stood still for so long. */
const LEASE_MS = 10 * 60_000;
const RELEASED_AT_ONCE = 500;
const PAYERS_PER_PAGE = 1_000;

export interface BudgetKeeperOptions {
  query: Query;
  folder: BudgetFolder;
  onError: (error: unknown, payer: string) => void;
  leaseMs?: number;
  /**
   * Over shards the same on each of them: a hold that moves with its payer stays its process's own.
   * Default: one of its own, which beats once it has holds.
   */
  owner?: string | undefined;
}

interface Due {
  payer: Payer;
  closed: number;
  /** Of `performance.now()`, which no step of the system's time moves. */
  atMs: number;
}

/**
 * What is done for budgets in the background: folds payers whose holds were closed, shows that this
 * process lives, releases what dead ones left. Being late makes refusals conservative, nothing else.
 */
export class BudgetKeeper {
  /** Names the holds of this process, once it has any. */
  readonly owner: string;
  readonly #options: BudgetKeeperOptions;
  readonly #due = new Map<string, Due>();
  readonly #deadOwners: DeadOwners;
  #beating: Promise<void> | null = null;
  #hasBeaten = false;

  constructor(options: BudgetKeeperOptions) {
    this.#options = options;
    this.owner = options.owner ?? randomUUID();
    this.#deadOwners = new DeadOwners(options.leaseMs ?? LEASE_MS);
  }

  /** This process has holds from here on: its heartbeat is there before the first. */
  async own(): Promise<string> {
    this.#beating ??= this.beat().catch((error) => {
      this.#beating = null;
      throw error;
    });
    await this.#beating;
    this.#hasBeaten = true;
    return this.owner;
  }

  /** What `own` answers, once it has: nobody who holds waits for it again. */
  get beatingOwner(): string | null {
    return this.#hasBeaten ? this.owner : null;
  }

  get hasHolds(): boolean {
    return this.#beating !== null;
  }

  /** Shows that this process lives, where it has, or may come to have, holds. */
  async beatIfNeeded(): Promise<void> {
    if (this.#options.owner !== undefined) await this.own();
    if (this.hasHolds) await this.beat();
  }

  async beat(): Promise<void> {
    await this.#options.query(beatStatement(this.owner, hostname(), process.pid));
  }

  /** Money of the payer may have come back. A hint. */
  closed(payer: Payer): void {
    const due = this.#dueWithin(payer, CLOSED_AGE_MS);
    if (due !== null) due.closed++;
  }

  /** Usage of the payer is to be folded within `USED_AGE_MS`, whether it was held or not. A hint. */
  used(payer: Payer): void {
    this.#dueWithin(payer, USED_AGE_MS);
  }

  #dueWithin(payer: Payer, ageMs: number): Due | null {
    const key = payerKey(payer);
    const atMs = performance.now() + ageMs;
    const due = this.#due.get(key);
    if (due !== undefined) {
      due.atMs = Math.min(due.atMs, atMs);
      return due;
    }
    if (this.#due.size >= MAX_PAYERS) return null;
    const added = { payer, closed: 0, atMs };
    this.#due.set(key, added);
    return added;
  }

  /** Folds what is worth it by now; with `all` whatever is known. */
  async foldDue(signal?: AbortSignal, all = false): Promise<void> {
    const nowMs = performance.now();
    for (const [key, due] of [...this.#due]) {
      if (signal?.aborted) return;
      if (!all && due.closed < DEEP_HOLDS && due.atMs > nowMs) continue;
      this.#due.delete(key);
      await this.#fold(scopeOf(due.payer), payerId(due.payer));
    }
  }

  /** One look at everybody: holds without a living owner, then payers that a fold would change. */
  async sweep(signal?: AbortSignal): Promise<void> {
    await this.beatIfNeeded();
    await this.releaseDead();
    await this.#options.query(FORGET_RELEASED_STATEMENT);
    for (const scope of PAYER_SCOPES) {
      for (let afterId: string | null = null; !signal?.aborted; ) {
        const [page]: SweptBudgetsRow[] = await this.#options.query<SweptBudgetsRow>(
          sweepBudgetsStatement(scope, afterId, PAYERS_PER_PAGE),
        );
        for (const id of page?.ids ?? []) {
          if (signal?.aborted) return;
          await this.#fold(scope, id);
        }
        if (!page || page.payers < PAYERS_PER_PAGE) break;
        afterId = page.last_id;
      }
    }
  }

  /** @returns holds that were released: of dead owners, and those whose time is over */
  async releaseDead(): Promise<number> {
    const { query } = this.#options;
    const owners = await query<OwnerRow>(HOLD_OWNERS_STATEMENT);
    const dead = this.#deadOwners.look(owners.filter(({ owner }) => owner !== this.owner));
    let released = 0;
    for await (const payers of this.#released(dead)) {
      for (const { payer_scope, payer_id, holds } of payers) {
        released += Number(holds);
        await this.#fold(scopeNamed(payer_scope), payer_id);
      }
    }
    if (dead.length > 0) await query(forgetInstancesStatement(dead));
    return released;
  }

  /** At the end of the process: what it still holds is nobody's any more. */
  async end(): Promise<void> {
    if (!this.hasHolds) return;
    for await (const _payers of this.#released([this.owner]));
    await this.#options.query(forgetInstancesStatement([this.owner]));
  }

  /** Releases what owners left and what has expired, some of it at a time: payers whose holds it was. */
  async *#released(owners: readonly string[]): AsyncGenerator<readonly ReleasedPayerRow[]> {
    for (let holds = RELEASED_AT_ONCE; holds >= RELEASED_AT_ONCE; ) {
      const statement = releaseExpiredStatement(owners, RELEASED_AT_ONCE);
      const payers = await this.#options.query<ReleasedPayerRow>(statement);
      holds = payers.reduce((sum, row) => sum + Number(row.holds), 0);
      yield payers;
    }
  }

  async #fold(scope: PayerScope, id: string): Promise<void> {
    try {
      await this.#options.folder.foldSome(scope, id);
    } catch (error) {
      this.#options.onError(error, `${scope.name}:${id}`);
    }
  }
}
