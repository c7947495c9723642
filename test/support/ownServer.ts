import { startThrowaway } from '../../src/testing/throwaway.js';
import { copyMadeCluster } from './copyMadeCluster.js';
import type { TestDatabase } from './database.js';
import { openPool } from './openPool.js';
import { SOCKET_SETTINGS, socketUrl } from './socketUrl.js';
import { inTestSchema } from './testSchema.js';

/**
 * A migrated database on a server of the test's own. Which rows a settle may move depends on
 * every transaction of the cluster: here are only those of the test, and what it expects of base
 * rows follows from its own steps. Transactions can be prepared.
 */
export async function createDatabaseOnOwnServer(): Promise<TestDatabase> {
  const settings = {
    ...SOCKET_SETTINGS,
    autovacuum: 'off',
    max_prepared_transactions: '10',
    max_connections: '60',
  };
  // No initdb, no migrations.
  const server = await startThrowaway({ settings }, copyMadeCluster);
  const url = inTestSchema(socketUrl(server));
  const pool = openPool({ connectionString: url, max: 10 });
  return {
    name: new URL(url).pathname.slice(1),
    url,
    pool,
    drop: async () => {
      await pool.end();
      await server.stop();
    },
  };
}
