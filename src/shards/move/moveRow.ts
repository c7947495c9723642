import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { queryOn } from '../../db/query.js';
import type { Statement } from '../../db/statement.js';
import { inTransaction } from '../../db/transaction.js';
import { LedgerError } from '../../errors.js';
import type { MoveStep } from '../../schema/shards.js';
import { changed } from './fence.js';
import {
  lockMoveStatement,
  noteStepStatement,
  type StoredMove,
  switchStatement,
} from './moves.sql.js';
import type { MovedPayer } from './types.js';

/**
 * What becomes of fences goes with the move's row in the directory, under its lock. A mover whose connection
 * with the lock of movers is ended while it is idle does not hear of it: the next one may have gone on with
 * the move, and the first changes nothing more.
 */
interface MoveRowContext {
  payer: MovedPayer;
  home: pg.Pool;
  /** After which servers take the mover for dead. */
  silentMs: number;
}

/**
 * Notes a step with what is done for it. A switch of which nobody heard the end is seen, or waits and finds
 * another step.
 * @throws LedgerError `unavailable` where the move is in another step
 */
export function noteWith(
  { payer, home }: MoveRowContext,
  move: StoredMove,
  step: MoveStep,
  work: () => Promise<void>,
): Promise<StoredMove> {
  return inTransaction(home, async (client) => {
    const statement = noteStepStatement(move, stepOf(move), step);
    const [noted] = await queryOn(client, true)<StoredMove>(statement);
    if (!noted) throw changed(payer, move);
    await work();
    return noted;
  });
}

/** Of a mover that was stopped the locks are free after so long, and others lift its fence (M10). */
export const SILENT_MS = 30_000;
const BEATS = 6;

export const mayIdle = (silentMs: number): string =>
  `set local idle_in_transaction_session_timeout = ${silentMs}`;

/**
 * Keeps sessions that have nothing to do from being taken for a dead mover's while `work` goes on: that of a
 * large payer takes minutes. One that is lost is told by the next statement that needs it.
 */
export async function whileAlive<T>(
  silentMs: number,
  beats: readonly (() => Promise<unknown>)[],
  work: () => Promise<T>,
): Promise<T> {
  const over = new AbortController();
  void Promise.allSettled(
    beats.map(async (beat) => {
      for (;;) {
        await sleep(silentMs / BEATS, undefined, { signal: over.signal });
        await beat();
      }
    }),
  );
  try {
    return await work();
  } finally {
    // One that is under way is not waited for: to a source that says nothing it ends long after the target.
    over.abort();
  }
}

export const ALIVE: Statement = {
  name: 'shards_alive',
  text: '/* shards.alive */ select',
  values: [],
};

/**
 * Notes the switch after `write`, if nobody has noted anything since the fence of this mover. `write` asks
 * by `stays`, once it has the payer at the target, whether that is so still: with home's transaction the
 * lock may have ended.
 * @throws LedgerError `unavailable` where somebody has
 */
export function switchAfter(
  { payer, home, silentMs }: MoveRowContext,
  move: StoredMove,
  write: (stays: () => Promise<void>) => Promise<void>,
): Promise<StoredMove> {
  const work = async (client: pg.PoolClient) => {
    const directory = queryOn(client, true);
    const stays = async () => {
      const [locked] = await directory(lockMoveStatement(move));
      if (!locked) throw changed(payer, move);
    };
    await stays();
    await write(stays);
    const [switched] = await directory<StoredMove>(switchStatement(move.id));
    if (!switched) throw changed(payer, move);
    return switched;
  };
  const begin = `begin isolation level read committed; ${mayIdle(silentMs)}`;
  return inTransaction(home, work, { begin });
}

export function stepOf({ id, step }: StoredMove): MoveStep {
  if (step === null) throw new LedgerError('internal', `the move ${id} is over`);
  return step;
}
