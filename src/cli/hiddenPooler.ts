import type pg from 'pg';
import { LedgerError } from '../errors.js';

/**
 * A pooler that drops what connections ask for at their start says nothing of it; it would hand their
 * prepared statements to one another, too, and lose every write after the next restart.
 * @throws LedgerError `invalid_request` naming the remedy
 */
export async function refuseHiddenPooler(pool: pg.Pool): Promise<void> {
  // Every connection asks for it when it opens (src/db/pool.ts); a role may have the same value.
  const { rows } = await pool.query<{ source: string }>(
    `/* start.startupOptions */
     select source
     from pg_settings
     where name = 'idle_in_transaction_session_timeout'`,
  );
  if (rows[0]?.source === 'client') return;
  throw new LedgerError(
    'invalid_request',
    'DATABASE_URL leads through a pooler that drops the settings of a connection; if it pools ' +
      'transactions, set MICRODOLLAR_POOLER=transaction (docs/operations.md)',
    { details: { field: 'MICRODOLLAR_POOLER' } },
  );
}
