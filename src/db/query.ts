import type pg from 'pg';
import type { Statement } from './statement.js';

/** Runs one statement and returns its rows. */
export type Query = <Row>(statement: Statement) => Promise<Row[]>;

/** Statements on one connection, or on any of a pool. Named = prepared once a connection. */
export function queryOn(connection: Pick<pg.ClientBase, 'query'>, named: boolean): Query {
  return async <Row>(statement: Statement) => {
    const { text, values } = statement;
    const { rows } = await connection.query(named ? statement : { text, values });
    return rows as Row[];
  };
}

/** The same on a pool, each a transaction of its own; tells when one has to wait for a connection. */
export function queryOnPool(pool: pg.Pool, named: boolean, onWait?: () => void): Query {
  const query = queryOn(pool as Pick<pg.ClientBase, 'query'>, named);
  if (!onWait) return query;
  return async <Row>(statement: Statement) => {
    if (pool.idleCount === 0 && pool.totalCount >= pool.options.max) onWait();
    return await query<Row>(statement);
  };
}
