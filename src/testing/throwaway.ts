import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import type { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import {
  type EmbeddedPostgres,
  type EmbeddedPostgresOptions,
  startEmbeddedPostgres,
} from '../db/embedded.js';

/** Not durable: faster, and lost with the machine. For throwaway servers only. */
export const THROWAWAY_SETTINGS = {
  fsync: 'off',
  full_page_writes: 'off',
} as const satisfies Record<string, string>;

/**
 * A server in a directory of its own that goes with it: when it is stopped, and when this process
 * ends, however it does.
 *
 * @param prepare fills the directory before the start; default: an empty one
 */
export async function startThrowaway(
  options: Omit<EmbeddedPostgresOptions, 'dataDir'>,
  prepare: (dataDir: string) => void = () => {},
): Promise<EmbeddedPostgres> {
  const dataDir = mkdtempSync(path.join(tmpdir(), 'microdollar-'));
  const remove = () => rmSync(dataDir, { recursive: true, force: true, maxRetries: 3 });
  try {
    prepare(dataDir);
    const settings = { ...THROWAWAY_SETTINGS, ...options.settings };
    const server = await startEmbeddedPostgres({
      persistent: false,
      ...options,
      settings,
      dataDir,
    });
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
