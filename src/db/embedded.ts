import { accessSync, constants, realpathSync } from 'node:fs';
import { createRoot, ownedByAnother, type Places, placesOf } from './embedded/cluster.js';
import { heldBy } from './embedded/failures.js';
import { Members, StartLock } from './embedded/membership.js';
import type { EmbeddedPostgres, EmbeddedPostgresOptions } from './embedded/options.js';
import { stopPostmaster } from './embedded/postmaster.js';
import { createDatabase, ensureRunning, START_TIMEOUT_MS } from './embedded/running.js';
import { EmbeddedServer } from './embedded/server.js';

export type { EmbeddedPostgres, EmbeddedPostgresOptions } from './embedded/options.js';

/**
 * A real PostgreSQL server of this process's own, on 127.0.0.1. Processes with the same data
 * directory share one server; the last one out stops it. What a killed process left running is
 * adopted; what it left half done is replaced.
 *
 * @throws LedgerError `unavailable`, naming the directory, who holds it, and the remedy
 */
export async function startEmbeddedPostgres(
  options: EmbeddedPostgresOptions,
): Promise<EmbeddedPostgres> {
  const asked = placesOf(options.dataDir);
  createRoot(asked);
  // One name for one directory: processes are recognized by it.
  const places = placesOf(realpathSync(options.dataDir));
  const deadline = Date.now() + (options.startTimeoutMs ?? START_TIMEOUT_MS);
  const { members, lock } = openMembership(places);
  const release = await lock.acquire(deadline);
  if (!release) throw heldBy(places, lock.holder()?.pid, 'is starting or stopping its server');
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
  } finally {
    release();
  }
}

function openMembership(places: Places): { members: Members; lock: StartLock } {
  try {
    const opened = { members: new Members(places.members), lock: new StartLock(places.lock) };
    accessSync(places.members, constants.W_OK);
    accessSync(places.lock, constants.W_OK);
    return opened;
  } catch (cause) {
    throw ownedByAnother(places, cause);
  }
}
