import type pg from 'pg';
import { LedgerError } from '../../../errors.js';
import { plainArray } from '../../statement.js';
import { BY_INDEX, MOVE, PREPARE, READ_BATCH } from './drainPending.sql.js';

/** Rows locked by one transaction: a write that meets one appends, and waits for none (I4). */
export const ROWS_PER_BATCH = 2_000;

/**
 * Moves the oldest pending rows into their counter rows, in the caller's transaction (READ
 * COMMITTED). Beside old writers and their folds; no reported amount changes.
 * @returns rows seen; fewer than a batch: there were no more
 */
export async function drainPending(client: pg.Client): Promise<number> {
  const read = await client.query<{ xid: string; id: string }>(READ_BATCH(ROWS_PER_BATCH));
  if (read.rows.length === 0) return 0;
  const batch = [
    plainArray(read.rows.map((row) => row.xid)),
    plainArray(read.rows.map((row) => row.id)),
  ];
  await client.query(BY_INDEX);
  for (const statement of PREPARE) await client.query(statement, batch);
  const result = await client.query<{ keys: string; moved: string }>(MOVE, batch);
  const { keys, moved } = result.rows[0] ?? {};
  if (keys !== moved) {
    throw new LedgerError(
      'internal',
      `pending rows of ${keys} counter rows found ${moved} of them; nothing was changed. Counter ` +
        'rows are missing or double: look at the unique indexes of microdollar_usage_daily and ' +
        'exa_monthly_usage, then run `microdollar migrate` again',
    );
  }
  return read.rows.length;
}
