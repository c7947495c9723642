import { setTimeout as sleep } from 'node:timers/promises';
import { OlderTransactions, type OpenTransactionRow } from '../../db/openTransactions.js';
import type { Query } from '../../db/query.js';
import { withRetry } from '../../db/retry.js';
import type { Statement } from '../../db/statement.js';
import { LedgerError } from '../../errors.js';
import type { StoredMove } from './moves.sql.js';
import type { MovedPayer } from './types.js';
import { keyOf } from './types.js';

const POLL_MS = 5;

/**
 * Written though it may be so already: a hand-over that has the payer locked is waited for, so that what it
 * makes of the fence is not missed.
 */
function fenceStatement({ scope, id }: MovedPayer, isElsewhere: boolean): Statement {
  return {
    name: `shards_fence_${scope.name}`,
    text: `/* shards.fence */
update ${scope.payers} as u
set is_elsewhere = $2::boolean
where u.id = $1::${scope.idType}`,
    values: [id, isElsewhere],
  };
}

/** From its commit on every statement that sees it refuses the payer. Idempotent. */
export async function raiseFence(query: Query, payer: MovedPayer): Promise<void> {
  await withRetry(() => query(fenceStatement(payer, true)));
}

/** The payer takes writes again. Idempotent. */
export async function liftFence(query: Query, payer: MovedPayer): Promise<void> {
  await withRetry(() => query(fenceStatement(payer, false)));
}

/**
 * Waits for the transactions that are open now: each may have a snapshot from before, and write by it.
 * @returns those that are still open after `waitMs`; empty: none
 */
export async function waitForOpen(query: Query, waitMs: number): Promise<OpenTransactionRow[]> {
  const older = new OlderTransactions(query, { ignoresBlank: true });
  for (const deadlineMs = performance.now() + waitMs; ; ) {
    const open = await older.remaining();
    if (open.length === 0 || performance.now() > deadlineMs) return open;
    await sleep(POLL_MS);
  }
}

export function describeOpen(open: readonly OpenTransactionRow[]): string {
  return open
    .slice(0, 3)
    .map(({ pid, transaction, application, state, began_at: beganAt }) => {
      const traits = [application, state, beganAt && `since ${beganAt}`].filter(Boolean).join(', ');
      return `${pid === null ? transaction : `pid ${pid}`} (${traits || 'unknown'})`;
    })
    .join(', ');
}

export function changed(payer: MovedPayer, { step }: StoredMove): LedgerError {
  return new LedgerError(
    'unavailable',
    `somebody else changed the move of ${keyOf(payer)}, which was ${step}`,
    { details: { is_changed: true } },
  );
}

export const isChanged = (error: unknown): boolean =>
  error instanceof LedgerError && error.details.is_changed === true;

export function stillOpen(shard: string, open: string): LedgerError {
  return new LedgerError(
    'unavailable',
    `transactions stay open on shard ${shard}, and could still write by what they saw before: ${open}. ` +
      'The payer is used where it is; end them, or wait for them, and move again',
    { details: { shard } },
  );
}
