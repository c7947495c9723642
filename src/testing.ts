import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import type { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import {
  type EmbeddedPostgres,
  type EmbeddedPostgresOptions,
  startEmbeddedPostgres as startServer,
} from './db/embedded.js';
import { migrate } from './db/migrate.js';

/** Not durable: faster, and lost with the machine. For throwaway servers only. */
export const THROWAWAY_SETTINGS = {
  fsync: 'off',
  full_page_writes: 'off',
} as const satisfies Record<string, string>;

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
  const server = dataDir
    ? await startServer({ ...rest, dataDir })
    : await startThrowaway({ ...rest, settings: { ...THROWAWAY_SETTINGS, ...rest.settings } });
  if (!migrated) return server;
  try {
    await migrate(server.url);
    return server;
  } catch (error) {
    await server.stop();
    throw error;
  }
}

async function startThrowaway(
  options: Omit<EmbeddedPostgresOptions, 'dataDir'>,
): Promise<EmbeddedPostgres> {
  const dataDir = mkdtempSync(path.join(tmpdir(), 'microdollar-'));
  const remove = () => rmSync(dataDir, { recursive: true, force: true, maxRetries: 3 });
  try {
    const server = await startServer({ persistent: false, ...options, dataDir });
    process.once('exit', remove);
    const watcher = removeWithUs(server.pid, dataDir);
    const stop = server.stop.bind(server);
    server.stop = async () => {
      await stop();
      watcher?.kill('SIGKILL');
      remove();
      process.removeListener('exit', remove);
    };
    return server;
  } catch (error) {
    remove();
    throw error;
  }
}

/**
 * A test run that is killed cannot clean up. A shell that reads from a pipe of ours does: the
 * kernel closes the pipe, however we end.
 */
function removeWithUs(pid: number, dataDir: string): ChildProcess | null {
  if (process.platform === 'win32') return null;
  const script = 'read -r _; kill -QUIT "$1" && sleep 1; rm -rf "$2"';
  const watcher = spawn('/bin/sh', ['-c', script, 'sh', String(pid), dataDir], {
    stdio: ['pipe', 'ignore', 'ignore'],
    detached: true,
  });
  watcher.on('error', () => {});
  watcher.unref();
  (watcher.stdin as Socket | null)?.unref();
  return watcher;
}

// The rest of `microdollar/testing`.

export { insertMicrodollarUsageWithDailyRollup } from './testing/insertUsage.js';
