import { type ChildProcess, spawn } from 'node:child_process';
import { expect } from 'vitest';
import { compiledProject } from './programs.js';

/** `microdollar ...` as a process of its own. */
export interface ServiceProcess {
  child: ChildProcess;
  output: { stdout: string; stderr: string };
  /** Resolves with the exit status, or the signal. */
  ended: Promise<number | string>;
}

export interface LaunchOptions {
  env?: NodeJS.ProcessEnv;
  /** Holds the project compiled. Default: the run's own. */
  cwd?: string;
  uid?: number;
  gid?: number;
  /** Leads a group of processes, as what is started at a terminal does. */
  detached?: boolean;
  /** A command that ends by executing its arguments: a shell, `unshare`. */
  under?: readonly string[];
}

const running: ServiceProcess[] = [];

/** PORT is 0 unless given. End them with `endServices`. */
export function launchService(argv: readonly string[], options: LaunchOptions = {}) {
  const { env = {}, under = [], ...spawnOptions } = options;
  const node = [process.execPath, 'src/cli/main.js', ...argv];
  const [command = '', ...args] = [...under, ...node];
  const child = spawn(command, args, {
    cwd: compiledProject(),
    ...spawnOptions,
    env: { PATH: process.env.PATH, HOME: process.env.HOME, PORT: '0', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const output = { stdout: '', stderr: '' };
  child.stdout.on('data', (chunk) => {
    output.stdout += String(chunk);
  });
  child.stderr.on('data', (chunk) => {
    output.stderr += String(chunk);
  });
  const ended = new Promise<number | string>((resolve) => {
    child.on('error', (error) => resolve(error.message));
    child.on('close', (status, signal) => resolve(status ?? signal ?? ''));
  });
  const started: ServiceProcess = { child, output, ended };
  running.push(started);
  return started;
}

/** For `afterEach`: whatever still runs is asked to stop. */
export async function endServices(): Promise<void> {
  for (const { child, ended } of running.splice(0)) {
    if (child.exitCode === null && child.signalCode === null) child.kill('SIGTERM');
    await ended;
  }
}

/** The URL once it is ready; fails with what it printed when it ends before. */
export async function readyUrl({ child, output }: ServiceProcess): Promise<string> {
  for (;;) {
    const url = /microdollar is ready: (\S+)[\s\S]*in a browser\n/.exec(output.stdout)?.[1];
    if (url !== undefined) return url;
    if (child.exitCode !== null || child.signalCode !== null) {
      throw new Error(`start ended (${child.exitCode}): ${output.stderr}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** Starts, is asked for health, and for whatever `look` does at its URL, and stops with status 0. */
export async function expectToServe(
  service: ReturnType<typeof launchService>,
  look: (url: string) => Promise<void> = async () => {},
): Promise<void> {
  const url = await readyUrl(service);
  expect((await fetch(`${url}/readyz`)).status).toBe(200);
  await look(url);
  service.child.kill('SIGTERM');
  expect(await service.ended).toBe(0);
}
