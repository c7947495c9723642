import {
  type EmbeddedPostgres,
  type EmbeddedPostgresOptions,
  startEmbeddedPostgres as startServer,
} from './db/embedded.js';
import { migrate } from './db/migrate.js';
import { startThrowaway } from './testing/throwaway.js';

export interface TestPostgresOptions extends Partial<EmbeddedPostgresOptions> {
  /** Apply the ledger's migrations to the database. Default true. */
  migrated?: boolean;
}

/**
 * A real PostgreSQL server with the ledger's tables, for the tests of a host application. Without
 * a `dataDir` it is a throwaway one, removed by `stop()`. Ends with the process in any case.
 */
export async function startEmbeddedPostgres(
  options: TestPostgresOptions = {},
): Promise<EmbeddedPostgres> {
  const { migrated = true, dataDir, ...rest } = options;
  const server = dataDir ? await startServer({ ...rest, dataDir }) : await startThrowaway(rest);
  if (!migrated) return server;
  try {
    await migrate(server.url);
    return server;
  } catch (error) {
    await server.stop();
    throw error;
  }
}

// The rest of `microdollar/testing`.

export { insertMicrodollarUsageWithDailyRollup } from './testing/insertUsage.js';
export { THROWAWAY_SETTINGS } from './testing/throwaway.js';
