import { existsSync, realpathSync } from 'node:fs';
import { makeDirectories, removeEmptyDirs } from '../directories.js';
import { discard, type Places, placesOf } from './embedded/cluster.js';
import { failedFiles, heldBy } from './embedded/failures.js';
import { Members, StartLock } from './embedded/membership.js';
import type { EmbeddedPostgres, EmbeddedPostgresOptions } from './embedded/options.js';
import { findPostmaster, stopPostmaster } from './embedded/postmaster.js';
import { requireUsableCluster } from './embedded/preflight.js';
import { createDatabase, ensureRunning, START_TIMEOUT_MS } from './embedded/running.js';
import { EmbeddedServer } from './embedded/server.js';

export type { EmbeddedPostgres, EmbeddedPostgresOptions } from './embedded/options.js';

/**
 * Whether `startEmbeddedPostgres` would find a cluster in this directory; also where another process
 * is making it just now.
 * @throws LedgerError `unavailable` for a cluster that this version cannot run
 */
export function hasCluster(dataDir: string): boolean {
  const places = placesOf(dataDir);
  requireUsableCluster(dataDir, places);
  return existsSync(places.cluster) || existsSync(places.lock);
}

/**
 * A real PostgreSQL server of this process's own, on 127.0.0.1. Processes with the same data
 * directory share one server; the last one out stops it. What a killed process left running is
 * adopted; what it left half done is replaced. A first start that fails leaves nothing behind.
 *
 * @throws LedgerError `unavailable`, on one line: the directory, the reason, and the remedy
 */
export async function startEmbeddedPostgres(
  options: EmbeddedPostgresOptions,
): Promise<EmbeddedPostgres> {
  const asked = placesOf(options.dataDir);
  let made: string | undefined;
  try {
    requireUsableCluster(options.dataDir, asked);
    made = makeDirectories(asked.root, 0o755);
    // One name for one directory: processes are recognized by it.
    return await join(placesOf(realpathSync(options.dataDir)), options);
  } catch (error) {
    if (made !== undefined) removeEmptyDirs(asked.root, made);
    throw failedFiles(asked, error);
  }
}

async function join(places: Places, options: EmbeddedPostgresOptions): Promise<EmbeddedPostgres> {
  const deadline = performance.now() + (options.startTimeoutMs ?? START_TIMEOUT_MS);
  const members = new Members(places.members);
  const lock = new StartLock(places.lock);
  const release = await lock.acquire(deadline);
  if (!release) throw heldBy(places, lock.holder()?.pid, 'is starting or stopping its server');
  const isNew = !existsSync(places.cluster);
  try {
    const running = await ensureRunning(places, members, options);
    const member = members.join();
    try {
      const database = options.database ?? 'microdollar';
      const url = await createDatabase(places, running.port, database);
      return new EmbeddedServer(places, members, lock, member, options, { ...running, url });
    } catch (error) {
      member.leave();
      if (members.list().length === 0) await stopPostmaster(running.pid, places);
      throw error;
    }
  } catch (error) {
    // A cluster that never answered holds nothing of anybody's.
    if (isNew && members.list().length === 0 && !findPostmaster(places)) discard(places);
    throw error;
  } finally {
    release();
  }
}
