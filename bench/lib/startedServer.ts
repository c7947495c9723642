import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const LIMIT_MS = 180_000;

/** A `start` of ours in a process of its own, as a user starts it. */
export interface StartedServer {
  url: string;
  /** Of the Node process that serves. */
  pid: number;
  /** From the command to an answer of /healthz. */
  seconds: number;
  stop(): Promise<void>;
}

/** `npm start` builds first; `node` runs what is built. */
export type StartCommand = 'npm start' | 'node dist/cli/main.js start';

export async function startServer(command: StartCommand, dataDir: string): Promise<StartedServer> {
  const [program, ...args] = command.split(' ') as [string, ...string[]];
  const { DATABASE_URL: _, DATABASE_REPLICA_URL: __, ...environment } = process.env;
  const startedAt = performance.now();
  const child = spawn(program, args, {
    cwd: ROOT,
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...environment, MICRODOLLAR_DATA_DIR: dataDir, PORT: '0', LOG_LEVEL: 'info' },
  });
  try {
    const { url, pid } = await awaitReady(child);
    const response = await fetch(`${url}/healthz`);
    if (!response.ok) throw new Error(`/healthz answered ${response.status}`);
    const seconds = (performance.now() - startedAt) / 1_000;
    return { url, pid, seconds, stop: () => stop(child, pid) };
  } catch (error) {
    if (child.pid && child.exitCode === null) process.kill(-child.pid, 'SIGKILL');
    throw error;
  }
}

/** The log line `ready` names the URL and the process. */
function awaitReady(child: ChildProcess): Promise<{ url: string; pid: number }> {
  return new Promise((resolve, reject) => {
    let log = '';
    const timer = setTimeout(() => reject(new Error(`not ready: ${log}`)), LIMIT_MS);
    child.on('exit', (code) => reject(new Error(`start ended with ${code}: ${log.slice(-2_000)}`)));
    child.on('error', reject);
    // A build that fails tells so on stdout.
    child.stdout?.on('data', (data: Buffer) => {
      log += data.toString();
    });
    child.stderr?.on('data', (data: Buffer) => {
      log += data.toString();
      const line = log.split('\n').find((each) => each.includes('"msg":"ready"'));
      if (!line) return;
      clearTimeout(timer);
      resolve(JSON.parse(line));
    });
  });
}

async function stop(child: ChildProcess, pid: number): Promise<void> {
  const ended = new Promise((resolve) => child.once('exit', resolve));
  process.kill(pid, 'SIGTERM');
  await ended;
}

/** Resident memory of a process, MB. */
export function residentMegabytes(pid: number): number {
  const rss = execFileSync('ps', ['-o', 'rss=', '-p', String(pid)], { encoding: 'utf8' });
  return Math.round(Number(rss) / 1_024);
}

/** CPU time that a process has used, user and system, s; NaN where the system does not tell (Linux does). */
export function cpuSeconds(pid: number): number {
  const fields = existsSync('/proc/self/stat') ? readFileSync(`/proc/${pid}/stat`, 'utf8') : '';
  // Its name, in brackets, may hold anything. Ticks are of 10 ms, whatever the kernel's own are.
  const [user, system] = fields
    .slice(fields.lastIndexOf(')') + 2)
    .split(' ')
    .slice(11, 13);
  return (Number(user) + Number(system)) / 100;
}

/**
 * Memory of a PostgreSQL server and its backends, MB, shared pages counted once; null where the
 * system does not tell (Linux does).
 */
export function postgresMegabytes(dataDir: string): number | null {
  const pidFile = `${dataDir}/postgres/cluster/postmaster.pid`;
  if (!existsSync('/proc/self/smaps_rollup') || !existsSync(pidFile)) return null;
  const postmaster = Number(readFileSync(pidFile, 'utf8').split('\n')[0]);
  const isOurs = (pid: number) => pid === postmaster || parentOf(pid) === postmaster;
  const kilobytes = readdirSync('/proc')
    .map(Number)
    .filter((pid) => Number.isInteger(pid) && isOurs(pid))
    .map(proportionalKilobytes);
  return Math.round(kilobytes.reduce((sum, each) => sum + each, 0) / 1_024);
}

function parentOf(pid: number): number | null {
  return readNumber(`/proc/${pid}/status`, /^PPid:\s+(\d+)/m);
}

function proportionalKilobytes(pid: number): number {
  return readNumber(`/proc/${pid}/smaps_rollup`, /^Pss:\s+(\d+)/m) ?? 0;
}

/** A process may end while it is looked at. */
function readNumber(file: string, pattern: RegExp): number | null {
  try {
    const found = pattern.exec(readFileSync(file, 'utf8'))?.[1];
    return found === undefined ? null : Number(found);
  } catch {
    return null;
  }
}
