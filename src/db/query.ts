import type pg from 'pg';
import { runPrepared } from './preparedQuery.js';
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
    const client = await connect(pool, onWait);
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

/**
 * The same on a pool that nobody else uses, where one statement often follows another: a connection stays for
 * what is sent before the loop turns. To give it back and take it again, with three timers, costs the client
 * a third of what the statement does.
 */
export function queryInTurns(pool: pg.Pool, named: boolean, onWait?: () => void): Query {
  let spare: pg.PoolClient | null = null;
  return <Row>(statement: Statement) => unlessMoved(() => once<Row>(statement));

  function giveBack(): void {
    spare?.release();
    spare = null;
  }

  async function once<Row>(statement: Statement): Promise<Row[]> {
    const kept = spare;
    spare = null;
    const client = kept ?? (await connect(pool, onWait));
    let failure: Error | undefined;
    try {
      if (named) return await runPrepared<Row>(client, statement);
      return await queryOn(client, false)<Row>(statement);
    } catch (error) {
      if (!leavesSession(error)) failure = error as Error;
      throw error;
    } finally {
      if (failure !== undefined || spare !== null || pool.waitingCount > 0) client.release(failure);
      else {
        spare = client;
        setImmediate(giveBack);
      }
    }
  }
}

function connect(pool: pg.Pool, onWait?: () => void): Promise<pg.PoolClient> {
  if (onWait && pool.idleCount === 0 && pool.totalCount >= pool.options.max) onWait();
  return pool.connect();
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
