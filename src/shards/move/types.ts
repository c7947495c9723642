import type pg from 'pg';
import type { MoveStep } from '../../schema/shards.js';
import type { PayerScope } from '../../schema/unsettled.js';
import type { PayerKey } from '../placement.js';

/** A shard as a move uses it: a database, connected to directly. */
export interface MoveShard {
  name: string;
  pool: pg.Pool;
}

export interface MovesOptions {
  /** The first is home, which has the directory. */
  shards: readonly [MoveShard, ...MoveShard[]];
  /** Whether they are one installation, asked before anything is changed. Default: the caller knows. */
  check?: () => Promise<void>;
  /** A mover that says nothing for so long loses its locks, ms. Default 30,000. */
  silentMs?: number;
}

export interface MovedPayer {
  scope: PayerScope;
  id: string;
}

export type PayerName = { kilo_user_id: string } | { organization_id: string };

/** What a test may stop a move at. */
export type MovePoint =
  | 'noted'
  | 'prepared'
  | 'page'
  | 'copied'
  | 'fence_noted'
  | 'fenced'
  | 'waited'
  | 'caught_up'
  | 'read'
  | 'written'
  | 'switched'
  | 'handed_over'
  | 'cleaning'
  | 'cleaned_page'
  | 'cleaned';

export interface MoveProgress {
  step: MoveStep;
  /** Rows of the logs that were copied, or cleaned away, by this call. */
  rows: number;
}

export interface MoveOptions {
  /**
   * For so long the payer's writers may have to wait at most for transactions that began before the fence,
   * ms; then it is lifted again. Default 1,000.
   */
  fenceMs?: number | undefined;
  /** For so long a move tries to find a moment without such transactions, ms. Default 60,000. */
  waitMs?: number | undefined;
  /** Rows of a page. Default 1,000. */
  pageRows?: number | undefined;
  /** Rest after each page, as a part of the work before it. Default 0; of a bucket 1. */
  restRatio?: number | undefined;
  /** Ends the move after its step; it goes on when it is called again. */
  signal?: AbortSignal | undefined;
  onProgress?: ((progress: MoveProgress) => void) | undefined;
  onNotice?: ((message: string) => void) | undefined;
  /** Throws to end there as a kill would, with nothing done after it: for tests. */
  onPoint?: ((point: MovePoint) => Promise<void> | void) | undefined;
}

export interface MoveReport {
  payer: string;
  from: string;
  to: string;
  /** False: it was stopped by its signal. */
  finished: boolean;
  rowsCopied: number;
  rowsCleaned: number;
  /** How long writers of the payer were sent to wait by this call, ms; of all tries together. */
  fencedMs: number;
  /** Fences that were lifted again, since older transactions did not end. */
  liftedFences: number;
}

export const keyOf = ({ scope, id }: MovedPayer): PayerKey =>
  scope.name === 'user' ? `user:${id}` : `organization:${id}`;
