import type pg from 'pg';
import type { Query } from '../../db/query.js';
import { toLedgerError } from '../../db/sqlstate.js';
import type { Statement } from '../../db/statement.js';

/** Rows of a report. @throws LedgerError `unavailable`, `internal` */
export async function readRows<Row extends pg.QueryResultRow>(
  pool: pg.Pool,
  statement: Statement,
): Promise<Row[]> {
  try {
    // Unnamed: planned for these values, and fit for poolers in transaction mode.
    const result = await pool.query<Row>(statement.text, statement.values);
    return result.rows;
  } catch (error) {
    throw toLedgerError(error);
  }
}

/** The same as the `Query` that `src/rollup` takes. */
export function queryRows(pool: pg.Pool): Query {
  return <Row>(statement: Statement) => readRows(pool, statement) as Promise<Row[]>;
}
