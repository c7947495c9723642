import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import { isStarting } from '../db/embedded/failures.js';
import { type EmbeddedPostgres, startEmbeddedPostgres } from '../db/embedded.js';
import { inSchema } from '../db/ledgerSchema.js';
import type { Environment } from './environment.js';

/** What has been opened so far, to be closed in reverse, however far it went. */
export type Closer = () => Promise<unknown>;

interface Opening {
  closers: Closer[];
  log: Logger;
  /** Ends `start`, as a signal does. */
  fail: (error: Error) => void;
}

/** Between two looks whether a command has ended that has the server at another port. */
const AGAIN_MS = 500;

/** DATABASE_URL, or the embedded server, started again whenever it ends; where that fails, `start` does. */
export async function openServedDatabase(
  { databaseUrl, dataDir, schema }: Environment,
  { closers, log, fail }: Opening,
): Promise<string> {
  if (databaseUrl !== null) return databaseUrl;
  let server = await startEmbeddedPostgres({ dataDir });
  const closing = new AbortController();
  const restart = async (gone: EmbeddedPostgres): Promise<void> => {
    const { expected, reason } = await gone.exited;
    if (expected || closing.signal.aborted) return;
    log.error({ reason }, 'the embedded PostgreSQL ended; starting it again');
    await gone.stop().catch(() => {});
    const again = await startAgain(gone.port, dataDir, log, closing.signal);
    if (again === null) return;
    server = again;
    log.info('the embedded PostgreSQL is back');
    return restart(server);
  };
  const watching = restart(server).catch((error: Error) => {
    log.fatal({ reason: error.message }, 'the embedded PostgreSQL cannot be started again');
    fail(error);
  });
  closers.push(async () => {
    closing.abort();
    await server.stop();
    // One that is just being started is stopped when it is there, or when the time to stop is up.
    await watching;
  });
  return inSchema(server.url, schema);
}

/**
 * However long it replays what it wrote: the service stores and forwards meanwhile. At the same port: pools
 * find it again by themselves. A command that was quicker has it at another, until it ends.
 * @returns null: the service stops
 */
async function startAgain(
  port: number,
  dataDir: string,
  log: Logger,
  signal: AbortSignal,
): Promise<EmbeddedPostgres | null> {
  for (let isTold = false; !signal.aborted; ) {
    try {
      const server = await startEmbeddedPostgres({ dataDir, port });
      if (server.port === port && !signal.aborted) return server;
      await server.stop();
      if (signal.aborted) break;
      if (!isTold) {
        log.warn({ port: server.port }, 'the embedded PostgreSQL is at another port; waiting');
      }
      isTold = true;
      await sleep(AGAIN_MS, undefined, { signal }).catch(() => {});
    } catch (error) {
      if (!isStarting(error)) throw error;
      log.warn('the embedded PostgreSQL is still recovering; waiting for it');
    }
  }
  return null;
}
