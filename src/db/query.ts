import type pg from 'pg';
import { isMoved, leavesSession } from './sqlstate.js';
import type { Statement } from './statement.js';
import { inTransaction } from './transaction.js';

/** Of a statement that met a schema which Citus has moved meanwhile: it did nothing. */
const MAX_ATTEMPTS = 3;

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

/**
 * The same on a pool, each a transaction of its own; tells when one has to wait for a connection. A
 * connection whose statement was refused stays, with its plans: pg's own `pool.query` would close it,
 * and who meets a lock would wait for another to be opened.
 */
export function queryOnPool(pool: pg.Pool, named: boolean, onWait?: () => void): Query {
  return <Row>(statement: Statement) => unlessMoved(() => once<Row>(statement));

  async function once<Row>(statement: Statement): Promise<Row[]> {
    if (onWait && pool.idleCount === 0 && pool.totalCount >= pool.options.max) onWait();
    const client = await pool.connect();
    let failure: Error | undefined;
    try {
      return await queryOn(client, named)<Row>(statement);
    } catch (error) {
      if (!leavesSession(error)) failure = error as Error;
      throw error;
    } finally {
      client.release(failure);
    }
  }
}

async function unlessMoved<T>(run: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await run();
    } catch (error) {
      if (!isMoved(error) || attempt >= MAX_ATTEMPTS) throw error;
    }
  }
}

/** Runs work on one connection; what it reads is of one snapshot. */
export type InSnapshot = <T>(work: (query: Query) => Promise<T>) => Promise<T>;

/** The same for statements that must see one snapshot: they only read. */
export function snapshotOnPool(pool: pg.Pool, named: boolean): InSnapshot {
  const begin = 'begin isolation level repeatable read read only';
  return (work) =>
    unlessMoved(() => inTransaction(pool, (client) => work(queryOn(client, named)), { begin }));
}
