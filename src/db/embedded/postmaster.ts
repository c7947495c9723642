import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, readFileSync, rmSync, statSync } from 'node:fs';
import { type AddressInfo, connect, createServer } from 'node:net';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { type Account, launchOn } from './account.js';
import type { Binaries } from './binaries.js';
import { type Places, serverEnvironment } from './cluster.js';
import { failedProgram, noLoopback } from './failures.js';
import { commandLineOf, isRunning } from './processes.js';
import { openLog, tailOfLog } from './serverLog.js';

const FAST_STOP_MS = 30_000;
const IMMEDIATE_STOP_MS = 10_000;
const LOOPBACK_MS = 10_000;
/** Names the cluster, also where the server knows it only as its own directory. */
const CLUSTER_SETTING = 'microdollar.cluster';

/** What postmaster.pid says of the cluster's server. */
export interface Postmaster {
  pid: number;
  port: number;
  /** `starting`, `ready`, `stopping`; empty while it is written. */
  status: string;
}

/**
 * The running server of this cluster; null when there is none. A postmaster.pid whose pid now
 * belongs to another program (after a reboot, or a new container) is removed: PostgreSQL would
 * refuse to start because of it. Call under the start lock.
 */
export function findPostmaster(places: Places): Postmaster | null {
  const file = path.join(places.cluster, 'postmaster.pid');
  let lines: string[];
  try {
    lines = readFileSync(file, 'utf8').split('\n');
  } catch {
    return null;
  }
  const pid = Number(lines[0]);
  if (!Number.isSafeInteger(pid) || pid <= 0) return null;
  if (!isPostmasterOf(pid, places)) {
    rmSync(file, { force: true });
    return null;
  }
  return { pid, port: Number(lines[3] ?? 0), status: (lines[7] ?? '').trim() };
}

/** Whether the process is a PostgreSQL server that was started on this very directory. */
function isPostmasterOf(pid: number, places: Places): boolean {
  const commandLine = commandLineOf(pid);
  if (commandLine === null) return false;
  // Elsewhere a thread of the kernel, say, that got the pid after a reboot: it would never end.
  if (commandLine === '') return process.platform === 'win32';
  return commandLine.includes(` ${CLUSTER_SETTING}=${places.cluster} `);
}

/** The server's `name=value` settings as its own command line has them. */
export function settingsOf(pid: number): string[] {
  const parts = (commandLineOf(pid) ?? '').split(' -c ').slice(1);
  return parts
    .filter((part) => !/^(port|microdollar\.cluster)=/.test(part))
    .map((part) => part.trim());
}

/**
 * The server is asked on 127.0.0.1: where that is down (a network namespace of its own) or a firewall is
 * before it, it would be taken for one that is slow to start.
 */
export async function requireLoopback(places: Places): Promise<void> {
  const server = createServer((socket) => socket.destroy()).listen(0, '127.0.0.1');
  try {
    await once(server, 'listening');
    const socket = connect((server.address() as AddressInfo).port, '127.0.0.1');
    try {
      await once(socket, 'connect', { signal: AbortSignal.timeout(LOOPBACK_MS) });
    } finally {
      socket.on('error', () => {}).destroy();
    }
  } catch (cause) {
    throw noLoopback(places, cause as NodeJS.ErrnoException);
  } finally {
    server.close();
  }
}

export async function pickFreePort(): Promise<number> {
  const server = createServer();
  return new Promise((resolve, reject) => {
    server.on('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      server.close(() => resolve(typeof address === 'object' && address ? address.port : 0));
    });
  });
}

/** Starts a server; it is not yet ready. */
export function launchPostmaster(
  places: Places,
  binaries: Binaries,
  account: Account | null,
  port: number,
  settings: readonly string[],
): ChildProcess {
  const launch = launchOn(account, places.cluster);
  const args = ['-D', launch.cluster];
  const own = [`${CLUSTER_SETTING}=${places.cluster}`, `port=${port}`];
  for (const setting of [...own, ...settings]) args.push('-c', setting);
  const log = openLog(places);
  const child = spawn(binaries.postgres, args, {
    ...launch.spawn,
    env: serverEnvironment(),
    stdio: ['ignore', log, log],
    // A session of its own: ^C at a terminal is for us; we stop the server when we are done.
    detached: true,
  });
  closeSync(log);
  child.on('error', () => {});
  child.unref();
  return child;
}

/**
 * Whether the server on the port is this cluster's and takes our password; `busy` while it
 * starts, stops or is at its connection limit.
 */
export async function probe(
  places: Places,
  port: number,
  password: string,
): Promise<'ours' | 'busy' | 'foreign'> {
  const client = new pg.Client({
    ...{ host: '127.0.0.1', port, user: 'postgres', password, database: 'postgres', ssl: false },
    connectionTimeoutMillis: 2_000,
    query_timeout: 2_000,
    application_name: 'microdollar embedded',
  });
  client.on('error', () => {});
  try {
    await client.connect();
    const result = await client.query('select current_setting($1, true) as dir', [CLUSTER_SETTING]);
    return result.rows[0].dir === places.cluster ? 'ours' : 'foreign';
  } catch (error) {
    const state = (error as { code?: string }).code ?? '';
    return state.startsWith('28') ? 'foreign' : 'busy';
  } finally {
    await client.end().catch(() => {});
  }
}

/** Waits until the process is gone; false when it still runs at the end. */
export async function waitUntilGone(pid: number, timeoutMs: number): Promise<boolean> {
  const deadline = performance.now() + timeoutMs;
  while (isRunning(pid)) {
    if (performance.now() > deadline) return false;
    await sleep(20);
  }
  return true;
}

/** The same without an event loop, for exit handlers. */
export function waitUntilGoneSync(pid: number, timeoutMs: number): void {
  const deadline = performance.now() + timeoutMs;
  const never = new Int32Array(new SharedArrayBuffer(4));
  while (isRunning(pid) && performance.now() < deadline) Atomics.wait(never, 0, 0, 20);
}

/**
 * Signal only. Fast: sessions are ended, a checkpoint is written. Immediate: like a crash, the
 * next start recovers.
 */
export function signalStop(pid: number, places: Places, how: 'fast' | 'immediate'): void {
  if (!isPostmasterOf(pid, places)) return;
  const name = how === 'fast' ? 'INT' : 'QUIT';
  try {
    process.kill(pid, `SIG${name}`);
    // A server that was stopped (SIGSTOP) sees the signal only when it runs again.
    process.kill(pid, 'SIGCONT');
  } catch (error) {
    // Else gone meanwhile.
    if ((error as NodeJS.ErrnoException).code === 'EPERM') signalAsOwner(pid, places, name);
  }
}

/** As root without CAP_KILL, which containers are run without: its own account may. */
function signalAsOwner(pid: number, places: Places, name: string): void {
  const owner = statSync(places.cluster, { throwIfNoEntry: false });
  if (!owner) return;
  const script = `kill -${name} "$1"; kill -CONT "$1"`;
  const { uid, gid } = owner;
  spawnSync('/bin/sh', ['-c', script, 'sh', String(pid)], { cwd: '/', uid, gid, stdio: 'ignore' });
}

/**
 * Fast shutdown; if that does not end, immediate shutdown: the next start recovers from the
 * write-ahead log. Never SIGKILL, which would leave backends behind.
 */
export async function stopPostmaster(pid: number, places: Places): Promise<void> {
  signalStop(pid, places, 'fast');
  if (await waitUntilGone(pid, FAST_STOP_MS)) return;
  await quitPostmaster(pid, places);
}

export async function quitPostmaster(pid: number, places: Places): Promise<void> {
  signalStop(pid, places, 'immediate');
  if (await waitUntilGone(pid, IMMEDIATE_STOP_MS)) return;
  throw failedProgram(places, `process ${pid} does not stop`, tailOfLog(places));
}
