import { OlderTransactions, type OpenTransactionRow } from '../../db/openTransactions.js';
import type { Query } from '../../db/query.js';
import { LedgerError } from '../../errors.js';
import { pause } from '../database.js';
import { raiseHorizonStatement, readHorizonStatement } from './horizon.sql.js';

const POLL_MS = 100;
const TELL_AFTER_MS = 1_000;

/** Raises the horizon, committed. Idempotent. @throws LedgerError `internal` */
export async function raiseHorizon(query: Query, horizon: string): Promise<void> {
  await query(raiseHorizonStatement(horizon));
  const current = await readHorizon(query);
  if (current === null || current < horizon) {
    throw new LedgerError(
      'internal',
      'the archive horizon cannot be raised: ledger_settings has no row; run `microdollar migrate`',
    );
  }
}

/** ISO 8601 in UTC; null when nothing was archived. */
export async function readHorizon(query: Query): Promise<string | null> {
  const [row] = await query<{ horizon: string | null }>(readHorizonStatement());
  return row?.horizon ?? null;
}

/**
 * Waits until nobody can insert an event below the horizon any more (docs/adr/0006). Call it after
 * the horizon's commit.
 *
 * A writer decides by the horizon that its snapshot shows. Whoever has a snapshot from before the
 * commit began before it, and so holds one of the virtual transaction ids listed here, or was
 * prepared meanwhile. Whoever begins later sees the horizon, and its `now()` lies above it.
 * @throws LedgerError `unavailable` naming who is still being waited for
 */
export async function waitForOlderTransactions(
  query: Query,
  options: { waitMs: number; onNotice: (message: string) => void; signal?: AbortSignal },
): Promise<void> {
  const older = new OlderTransactions(query, { ignoresBlank: false });
  const startedMs = performance.now();
  for (let told = false; ; ) {
    const open = await older.remaining();
    if (open.length === 0) return;
    const waitedMs = performance.now() - startedMs;
    if (waitedMs > options.waitMs || options.signal?.aborted) throw stillOpen(open);
    if (!told && waitedMs > TELL_AFTER_MS) {
      options.onNotice(`waiting for transactions that began before the horizon: ${list(open)}`);
      told = true;
    }
    await pause(POLL_MS, options.signal);
  }
}

function stillOpen(older: readonly OpenTransactionRow[]): LedgerError {
  return new LedgerError(
    'unavailable',
    `transactions that began before the archive horizon are still open: ${list(older)}. They could ` +
      'still insert events below it, so nothing was deleted. End them, or wait for them, and run ' +
      'the archive again; events below the horizon are refused from now on',
    { details: { transactions: older } },
  );
}

function list(older: readonly OpenTransactionRow[]): string {
  const shown = older.slice(0, 5).map((row) => {
    const what = row.pid === null ? row.transaction : `pid ${row.pid}`;
    const traits = [row.application, row.state, row.began_at && `since ${row.began_at}`];
    return `${what} (${traits.filter((trait) => trait).join(', ') || 'unknown'})`;
  });
  if (older.length > shown.length) shown.push(`and ${older.length - shown.length} more`);
  return shown.join(', ');
}
