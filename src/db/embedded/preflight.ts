import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { findPackage } from './binaries.js';
import type { Places } from './cluster.js';
import { foreignCluster, noProcesses } from './failures.js';

/**
 * What can be told before anything is written: the directory holds no cluster that our programs
 * could not run, and processes can be looked up.
 */
export function requireUsableCluster(dataDir: string, places: Places): void {
  if (process.platform === 'linux' && !existsSync('/proc/self/stat')) throw noProcesses(places);
  if (existsSync(path.join(dataDir, 'PG_VERSION'))) {
    const what = `${path.resolve(dataDir)} is a PostgreSQL cluster itself, not a data directory`;
    throw foreignCluster(places, what, 'start its own server and set DATABASE_URL to that');
  }
  if (!existsSync(places.cluster)) return;
  const theirs = readVersion(places.cluster);
  if (theirs === null) {
    const what = `${places.cluster} is no whole cluster: it has no PG_VERSION`;
    throw foreignCluster(places, what, 'restore it from a backup');
  }
  const ours = findPackage().version.split('.')[0];
  if (theirs === ours) return;
  throw foreignCluster(
    places,
    `${places.cluster} was made by PostgreSQL ${theirs}, this is PostgreSQL ${ours}`,
    `dump it with PostgreSQL ${theirs} and restore it into a new one`,
  );
}

function readVersion(cluster: string): string | null {
  try {
    return readFileSync(path.join(cluster, 'PG_VERSION'), 'utf8').trim();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
}
