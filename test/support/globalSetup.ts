import { renameSync } from 'node:fs';
import path from 'node:path';
import pg from 'pg';
import type { TestProject } from 'vitest/node';
import { startThrowaway } from '../../src/testing/throwaway.js';
import { compileProject } from './compileProject.js';
import { databaseUrl } from './database.js';
import { copyCluster, makeCluster } from './madeCluster.js';
import { SOCKET_SETTINGS, socketUrl } from './socketUrl.js';

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
  const server = await startMain(made);
  project.provide('postgresUrl', databaseUrl(server.url, 'postgres'));
  project.provide('templateDatabase', new URL(server.url).pathname.slice(1));
  project.provide('madeCluster', server.made);
  project.provide('compiledProject', compiled.dir);
  return async () => {
    await server.stop();
    compiled.remove();
  };
}

/** On a copy of the made cluster, which goes with its directory: also when the run is killed. */
async function startMain(made: string) {
  const settings = {
    ...SOCKET_SETTINGS,
    // Some files hold a hundred by themselves, and five run at once.
    max_connections: '600',
    max_prepared_transactions: '20',
    // Databases that are gone in a minute: to look after each costs more than it gives.
    autovacuum_naptime: '15min',
  };
  const server = await startThrowaway({ settings }, (dataDir) => {
    copyCluster(made, dataDir);
    renameSync(made, path.join(dataDir, 'made'));
  });
  const url = socketUrl(server);
  await cacheCatalog(url);
  const stop = () => server.stop();
  return { url, made: path.join(server.dataDir, 'made'), stop };
}

/**
 * The first connection after a start leaves in the database's directory what it has read of the catalog, for
 * those that follow. Copies of the directory have it too: else the first of each of them reads it anew, 4 ms.
 */
async function cacheCatalog(url: string): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  await client.end();
}
