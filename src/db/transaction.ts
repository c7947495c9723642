import type pg from 'pg';

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
    throw error;
  } finally {
    client.off('error', noteLoss);
    client.release(broken);
  }
}
