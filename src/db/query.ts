import type pg from 'pg';
import type { Statement } from './statement.js';

/** Runs one statement and returns its rows. */
export type Query = <Row>(statement: Statement) => Promise<Row[]>;

/** Statements on a pool, each a transaction of its own. Named = prepared once a connection. */
export function queryOnPool(pool: pg.Pool, named: boolean, onWait?: () => void): Query {
  return async <Row>(statement: Statement) => {
    if (onWait && pool.idleCount === 0 && pool.totalCount >= pool.options.max) onWait();
    const result = await pool.query(
      named ? statement : { text: statement.text, values: statement.values },
    );
    return result.rows as Row[];
  };
}
