import { execFileSync } from 'node:child_process';
import { readFileSync, readlinkSync } from 'node:fs';

/**
 * A process, such that a later process with the same pid is not mistaken for it: the kernel's
 * start time, and the boot and pid namespace that the pid belongs to.
 */
export interface ProcessIdentity {
  pid: number;
  startedAt: string;
  /** Boot and pid namespace; pids of another namespace say nothing here. */
  namespace: string;
}

/** State and start time of a process, or null when there is none. A zombie counts as none. */
function startOf(pid: number): string | null {
  if (process.platform === 'linux') {
    try {
      // The command name, in parentheses, may hold anything: fields are counted after it.
      const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
      const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      return fields[0] === 'Z' || fields[0] === 'X' ? null : (fields[19] ?? null);
    } catch {
      return null;
    }
  }
  if (process.platform === 'win32') return signalReaches(pid) ? 'unknown' : null;
  return ps(pid, 'lstart');
}

/** Whether the pid belongs to a live process, whichever it is. */
export function isRunning(pid: number): boolean {
  return startOf(pid) !== null;
}

/**
 * Arguments of a running process joined by spaces; null when there is no such process. Empty where the
 * system does not tell them, and of threads of Linux' kernel.
 */
export function commandLineOf(pid: number): string | null {
  if (!isRunning(pid)) return null;
  if (process.platform === 'linux') {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim();
    } catch {
      return null;
    }
  }
  if (process.platform === 'win32') return '';
  return ps(pid, 'command');
}

export function currentIdentity(): ProcessIdentity {
  return {
    pid: process.pid,
    startedAt: startOf(process.pid) ?? 'unknown',
    namespace: currentNamespace(),
  };
}

/** Whether the pid of this identity can be looked up from here. */
export function isLocal(identity: ProcessIdentity): boolean {
  return identity.namespace === currentNamespace();
}

/** Whether it ran, or runs, since this machine was started: in another container, then. */
export function isOfThisBoot(identity: ProcessIdentity): boolean {
  return identity.namespace.split(' ')[0] === currentNamespace().split(' ')[0];
}

/** Whether that very process still runs. Only for local identities. */
export function isAlive(identity: ProcessIdentity): boolean {
  return startOf(identity.pid) === identity.startedAt;
}

function currentNamespace(): string {
  if (process.platform !== 'linux') return process.platform;
  try {
    const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
    return `${boot} ${readlinkSync('/proc/self/ns/pid')}`;
  } catch {
    return process.platform;
  }
}

function ps(pid: number, column: 'lstart' | 'command'): string | null {
  try {
    const output = execFileSync('ps', ['-o', `${column}=`, '-p', String(pid)], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
      env: { ...process.env, LC_ALL: 'C', TZ: 'UTC' },
    });
    return output.trim() || null;
  } catch {
    return null;
  }
}

function signalReaches(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
