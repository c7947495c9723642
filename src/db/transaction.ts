import type pg from 'pg';
import { isOfName } from './sqlstate.js';

export interface InTransactionOptions<T> {
  /** Default READ COMMITTED: each statement has a snapshot of its own. */
  begin?: string;
  /** `false` rolls back without an error. */
  keep?: (result: T) => boolean;
}

/** Runs work in one transaction on a connection of the pool. What it throws rolls back. */
export async function inTransaction<T>(
  pool: pg.Pool,
  work: (client: pg.PoolClient) => Promise<T>,
  {
    begin = 'begin isolation level read committed',
    keep = () => true,
  }: InTransactionOptions<T> = {},
): Promise<T> {
  const client = await pool.connect();
  let broken: Error | undefined;
  // Lost between two statements: the next one fails.
  const noteLoss = (error: Error) => {
    broken = error;
  };
  client.on('error', noteLoss);
  try {
    await client.query(begin);
    const result = await work(client);
    await client.query(keep(result) ? 'commit' : 'rollback');
    return result;
  } catch (error) {
    await client.query('rollback').catch(noteLoss);
    // It would be met again for as long as the connection lasts.
    if (isOfName(error)) broken = error as Error;
    throw error;
  } finally {
    client.off('error', noteLoss);
    client.release(broken);
  }
}

/**
 * For the begin of a transaction that may take as long as it does, whatever the role or the database sets:
 * servers from before 17 have no such limit, nor a setting of that name. As text, for in the transaction to
 * look for it would take the snapshot.
 */
export async function withoutTimeLimit(client: Pick<pg.ClientBase, 'query'>): Promise<string> {
  const { rows } = await client.query<{ is_limited: boolean }>(
    `select coalesce(current_setting('transaction_timeout', true), '0') <> '0' as is_limited`,
  );
  return rows[0]?.is_limited ? 'set local transaction_timeout = 0' : '';
}

/** The same for a session, which is not a pooler's: that is others' as well. */
export async function setUnlimited(client: Pick<pg.ClientBase, 'query'>): Promise<void> {
  await client.query(
    `select set_config('transaction_timeout', '0', false)
     where current_setting('transaction_timeout', true) <> '0'`,
  );
}
