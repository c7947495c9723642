import { inject } from 'vitest';
import { startThrowaway } from '../../src/testing/throwaway.js';
import type { TestDatabase } from './database.js';
import { copyCluster } from './madeCluster.js';
import { openPool } from './openPool.js';
import { SOCKET_SETTINGS, socketUrl } from './socketUrl.js';

/** A throwaway server on a copy of the run's made cluster: no initdb, no migrations. */
export async function startCopy(settings: Record<string, string>, made = inject('madeCluster')) {
  const server = await startThrowaway(
    { settings: { ...SOCKET_SETTINGS, ...settings } },
    (dataDir) => copyCluster(made, dataDir),
  );
  return { url: socketUrl(server), stop: () => server.stop() };
}

/**
 * A migrated database on a server of the test's own. Which rows a settle may move depends on
 * every transaction of the cluster: here are only those of the test, and what it expects of base
 * rows follows from its own steps. Transactions can be prepared.
 */
export async function createDatabaseOnOwnServer(): Promise<TestDatabase> {
  const server = await startCopy({
    autovacuum: 'off',
    max_prepared_transactions: '10',
    max_connections: '60',
  });
  const pool = openPool({ connectionString: server.url, max: 10 });
  return {
    name: new URL(server.url).pathname.slice(1),
    url: server.url,
    pool,
    drop: async () => {
      await pool.end();
      await server.stop();
    },
  };
}
