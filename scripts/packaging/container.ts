import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Image, imagePath } from './buildImage.js';
import { mountScript } from './mounts.js';

const HEALTHY_WITHIN_MS = 120_000;
const CHECK_TIMEOUT_MS = 5_000;

export interface ContainerOptions {
  image: Image;
  scratch: string;
  env: Record<string, string>;
  /** Directories of this machine in the place of volumes. */
  volumes: { target: string; source: string }[];
}

/**
 * The image's process, as number one of its own processes, in its own root. Nothing but its volumes and /tmp
 * can be written.
 */
export class Container {
  readonly output = { stdout: '', stderr: '' };
  readonly ended: Promise<number | string>;
  readonly #child: ChildProcess;
  readonly #image: Image;
  readonly #env: Record<string, string>;

  constructor({ image, scratch, env, volumes }: ContainerOptions) {
    this.#image = image;
    this.#env = { PATH: imagePath(), ...image.env, ...env };
    const root = mkdtempSync(path.join(scratch, 'root-'));
    const work = mkdtempSync(path.join(scratch, 'work-'));
    const binds = [...image.binds, ...volumes];
    const script = mountScript({ root, work, upper: image.layer, binds, readOnly: true });
    const variables = Object.entries(this.#env).map(([name, value]) => `${name}=${value}`);
    const [command = '', ...args] = [
      ...['unshare', '--mount', '--pid', '--fork', 'sh', '-c', script],
      ...['chroot', `--userspec=${image.user}`, '--groups=', root],
      ...['env', '-i', '-C', image.workdir, ...variables],
      ...image.entrypoint,
      ...image.command,
    ];
    this.#child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    for (const stream of ['stdout', 'stderr'] as const) {
      this.#child[stream]?.on('data', (chunk) => {
        this.output[stream] += String(chunk);
      });
    }
    this.ended = new Promise((resolve) => {
      this.#child.on('error', (error) => resolve(error.message));
      this.#child.on('close', (status, signal) => resolve(status ?? signal ?? ''));
    });
  }

  /** Resolves once the image's own health check passes. @throws what it printed when it ended */
  async healthy(): Promise<void> {
    let end: number | string | null = null;
    this.ended.then((status) => {
      end = status;
    });
    const deadline = Date.now() + HEALTHY_WITHIN_MS;
    while (Date.now() < deadline) {
      if (end !== null) throw new Error(`it ended (${end}): ${this.output.stderr}`);
      if (this.#isHealthy()) return;
      await sleep(200);
    }
    throw new Error(`it is not healthy after two minutes: ${this.output.stderr}`);
  }

  /** By the image's command, with its environment. */
  #isHealthy(): boolean {
    const [command = '', ...args] = this.#image.healthcheck;
    return spawnSync(command, args, { env: this.#env, timeout: CHECK_TIMEOUT_MS }).status === 0;
  }

  /** Who the process is, as the system knows it. */
  user(): string {
    const status = readFileSync(`/proc/${this.#pid()}/status`, 'utf8');
    const idOf = (name: string) => new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(status)?.[1];
    return `${idOf('Uid')}:${idOf('Gid')}`;
  }

  /** As `docker stop` does it, and what came of it. */
  async stop(): Promise<number | string> {
    process.kill(this.#pid(), this.#image.stopSignal as NodeJS.Signals);
    return this.ended;
  }

  /**
   * Ends it in any case, with all of its processes. By the image's own process, whose end is that of all others:
   * the kernel forgets to end it with `unshare` once it has become another user.
   */
  async destroy(): Promise<void> {
    const pid = this.#pid();
    if (pid > 0) process.kill(pid, 'SIGKILL');
    this.#child.kill('SIGKILL');
    await this.ended;
  }

  /** Of the process that `unshare` started; 0 when it has ended. */
  #pid(): number {
    const own = this.#child.pid;
    const file = `/proc/${own}/task/${own}/children`;
    return existsSync(file) ? Number(readFileSync(file, 'utf8').trim().split(' ')[0]) : 0;
  }
}
