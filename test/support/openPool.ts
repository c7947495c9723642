import pg from 'pg';

/**
 * A pool of a test's own. It says nothing of connections that end while nobody uses them: `end()` is
 * back before the last has closed, and `drop database ... with (force)` ends the rest.
 */
export function openPool(options: pg.PoolConfig): pg.Pool {
  const pool = new pg.Pool(options);
  pool.on('error', () => {});
  return pool;
}
