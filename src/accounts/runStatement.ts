import type pg from 'pg';
import { isUniqueViolation, toLedgerError } from '../db/sqlstate.js';
import { LedgerError } from '../errors.js';

/**
 * One statement in a transaction of its own. `duplicate` is the message of `already_exists`.
 * @throws LedgerError `already_exists`, `unavailable`, `internal`
 */
export async function runStatement<Row extends pg.QueryResultRow>(
  pool: pg.Pool,
  text: string,
  values: unknown[],
  duplicate?: string,
): Promise<Row[]> {
  try {
    const result = await pool.query<Row>(text, values);
    return result.rows;
  } catch (error) {
    if (duplicate !== undefined && isUniqueViolation(error)) {
      throw new LedgerError('already_exists', duplicate, {
        details: { field: 'id' },
        cause: error,
      });
    }
    throw toLedgerError(error);
  }
}
