import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Readable } from 'node:stream';
import { SEED } from '../../faults/support/scale.js';
import { programPath } from '../../support/programs.js';

const SCRIPT = 'test/chaos/support/worker.ts';

/** Role and whether it goes through the proxy that cuts. */
export const ROLES = {
  'group commit': false,
  'one a statement': true,
  'append always': false,
  host: false,
  operator: false,
} as const;
export type Role = keyof typeof ROLES;

export interface RoleProcess {
  /** The first incarnation is up. */
  ready: Promise<unknown>;
  /** Ends by itself, having answered what it accepted. @returns what is wrong with its end */
  stop(): Promise<string[]>;
  /** SIGKILL; a new incarnation begins. */
  replace(): Promise<void>;
}

export function startRole(role: Role, url: string, dir: string, startMs: number): RoleProcess {
  let incarnation = 0;
  let child!: ChildProcess;
  let ended!: Promise<number | string>;
  let errors = '';
  const start = () => {
    const args = [role, url, dir, String(startMs), String(++incarnation)];
    child = spawn(process.execPath, [programPath(SCRIPT), ...args], {
      stdio: ['pipe', 'pipe', 'pipe'],
      env: { ...process.env, FAULT_SEED: String(SEED), TZ: 'America/St_Johns' },
    });
    child.stderr?.on('data', (data) => {
      errors += data;
    });
    child.stdout?.resume();
    ended = once(child, 'close').then(([status, signal]) => status ?? signal);
  };
  start();
  return {
    // It prints a line; one that ends before has nothing to wait for.
    ready: Promise.race([once(child.stdout as Readable, 'data'), ended]),
    async stop() {
      child.stdin?.end();
      const status = await ended;
      return status === 0 ? [] : [`${role} ended with ${status}: ${errors.slice(-800)}`];
    },
    async replace() {
      child.kill('SIGKILL');
      const status = await ended;
      if (status !== 'SIGKILL') errors += `ended by itself before (${status})`;
      start();
    },
  };
}
