import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { isStarting } from '../../../src/db/embedded/failures.js';
import { isRunning } from '../../../src/db/embedded/processes.js';
import { type EmbeddedPostgres, startEmbeddedPostgres } from '../../../src/db/embedded.js';
import { copyMadeCluster } from '../../support/copyMadeCluster.js';
import { openPool } from '../../support/openPool.js';
import { IS_LONG } from './scale.js';

/** A PostgreSQL server of the test's own, to be killed. */
export interface Cluster {
  url: string;
  dataDir: string;
  pool: pg.Pool;
  /** SIGKILL of the postmaster and all its children at one moment: nothing is flushed. */
  kill(): Promise<void>;
  /**
   * SIGKILL of one backend at random: the postmaster ends all others and recovers. Returns when
   * recovery is over.
   */
  killBackend(choose: (pids: readonly number[]) => number): Promise<void>;
  /** On the same port; returns when recovery is over. */
  restart(): Promise<void>;
  stop(): Promise<void>;
}

export interface ClusterOptions {
  /** PostgreSQL settings. */
  settings?: Record<string, string>;
}

export function makeClusterDir(): string {
  return mkdtempSync(path.join(tmpdir(), 'microdollar-faults-'));
}

/** With the migrated database. */
export function startCluster(options: ClusterOptions = {}): Promise<Cluster> {
  const dataDir = makeClusterDir();
  copyMadeCluster(dataDir);
  return openCluster(dataDir, options.settings);
}

/** The server of a directory, which `stop` removes. */
export async function openCluster(
  dataDir: string,
  ownSettings: Record<string, string> = {},
): Promise<Cluster> {
  const remove = () => rmSync(dataDir, { recursive: true, force: true, maxRetries: 3 });
  // A kill leaves the kernel's pages alone: fsync makes it slower, not harder.
  const settings = { shared_buffers: '32MB', ...(IS_LONG ? {} : { fsync: 'off' }), ...ownSettings };
  let server: EmbeddedPostgres;
  try {
    server = await startEmbeddedPostgres({ dataDir, settings });
  } catch (error) {
    remove();
    throw error;
  }
  const pool = openPool({ connectionString: server.url, max: 4 });
  return {
    url: server.url,
    dataDir,
    pool,
    async kill() {
      // Stopped, it can start no more children while they are counted.
      process.kill(server.pid, 'SIGSTOP');
      const pids = [server.pid, ...childrenOf(server.pid)];
      for (const pid of pids) signal(pid, 'SIGKILL');
      while (pids.some(isRunning)) await sleep(5);
    },
    async killBackend(choose) {
      const backends = childrenOf(server.pid).filter(isClientBackend);
      if (backends.length === 0) return;
      signal(choose(backends), 'SIGKILL');
      while (backends.some(isRunning)) await sleep(5);
      const isBack = () =>
        pool.query('select 1').then(
          () => true,
          () => false,
        );
      while (!(await isBack())) await sleep(20);
    },
    async restart() {
      const gone = server;
      await gone.stop();
      for (;;) {
        try {
          server = await startEmbeddedPostgres({ dataDir, settings, port: gone.port });
          return;
        } catch (error) {
          // A busy machine: it goes on.
          if (!isStarting(error)) throw error;
        }
      }
    },
    async stop() {
      await pool.end();
      await server.stop();
      remove();
    },
  };
}

function signal(pid: number, name: 'SIGKILL'): void {
  try {
    process.kill(pid, name);
  } catch {
    // Gone meanwhile.
  }
}

function childrenOf(parent: number): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => {
      try {
        const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
        return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]) === parent;
      } catch {
        return false;
      }
    });
}

/** By its title: `postgres: user database host(port) activity`. */
function isClientBackend(pid: number): boolean {
  try {
    return /^postgres: \S+ \S+ \S+\(\d+\)/.test(readFileSync(`/proc/${pid}/cmdline`, 'utf8'));
  } catch {
    return false;
  }
}
