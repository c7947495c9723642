import type { TestProject } from 'vitest/node';
import { compileProject } from './compileProject.js';
import { databaseUrl } from './database.js';
import { makeCluster } from './madeCluster.js';
import { startCopy } from './ownServer.js';

declare module 'vitest' {
  interface ProvidedContext {
    /** URL of the maintenance database of the run's server. */
    postgresUrl: string;
    /** Migrated and empty; test databases are copies of it. */
    templateDatabase: string;
    /** Data directory of a cluster to copy (madeCluster.ts). */
    madeCluster: string;
    /** Directory of the project as plain JavaScript. */
    compiledProject: string;
  }
}

/** One throwaway server per run, fsync off. No server: the run fails, nothing is skipped. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const [compiled, made] = await Promise.all([compileProject(), makeCluster()]);
  const server = await startCopy(
    { max_connections: '300', max_prepared_transactions: '20', autovacuum_naptime: '15min' },
    made.dataDir,
  );
  project.provide('postgresUrl', databaseUrl(server.url, 'postgres'));
  project.provide('templateDatabase', new URL(server.url).pathname.slice(1));
  project.provide('madeCluster', made.dataDir);
  project.provide('compiledProject', compiled.dir);
  return async () => {
    await server.stop();
    made.remove();
    compiled.remove();
  };
}
