import pg from 'pg';
import type { TestProject } from 'vitest/node';
import { startEmbeddedPostgres } from '../../src/testing.js';
import { compileProject } from './compileProject.js';
import { databaseUrl } from './database.js';

const TEMPLATE = 'microdollar_template';

declare module 'vitest' {
  interface ProvidedContext {
    /** URL of the maintenance database of the run's server. */
    postgresUrl: string;
    /** Migrated and empty; test databases are copies of it. */
    templateDatabase: string;
    /** Directory of the project as plain JavaScript. */
    compiledProject: string;
  }
}

/** One throwaway server per run, fsync off. No server: the run fails, nothing is skipped. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const compiled = await compileProject();
  const server = await startEmbeddedPostgres({
    database: TEMPLATE,
    settings: {
      fsync: 'off',
      full_page_writes: 'off',
      max_connections: '300',
      max_prepared_transactions: '20',
      // Thousands of connections, and a password that nobody could guess.
      scram_iterations: '1',
    },
  });
  await restatePassword(server.url);
  project.provide('postgresUrl', databaseUrl(server.url, 'postgres'));
  project.provide('templateDatabase', TEMPLATE);
  project.provide('compiledProject', compiled.dir);
  return async () => {
    await server.stop();
    compiled.remove();
  };
}

/** Stored anew, under the server's settings. */
async function restatePassword(url: string): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    await client.query(
      `alter role current_user password ${pg.escapeLiteral(new URL(url).password)}`,
    );
  } finally {
    await client.end();
  }
}
