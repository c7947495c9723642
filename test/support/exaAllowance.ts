import type pg from 'pg';

/** Exa's free allowance of months to come, microdollars: a fact of the database, not of a process. */
export async function setExaAllowance(pool: pg.Pool, microdollars: number): Promise<void> {
  await pool.query('update ledger_settings set exa_free_allowance_microdollars = $1', [
    microdollars,
  ]);
}
