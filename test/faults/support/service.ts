import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';

const COMMAND = path.join(import.meta.dirname, '../../../src/cli/main.ts');

/** `microdollar start`, as a process of its own, to be killed. */
export interface Service {
  url: string;
  child: ChildProcess;
  /** @returns the exit status, or the signal */
  end(signal: 'SIGKILL' | 'SIGTERM'): Promise<number | string>;
}

export interface ServiceOptions {
  databaseUrl: string;
  dataDir: string;
  adminKey: string;
  /** 0: a free one. */
  port: number;
}

/** Returns when it has said that it is ready. @throws with what it printed when it ended first */
export async function startService(options: ServiceOptions): Promise<Service> {
  const child = spawn(process.execPath, ['--import', 'tsx', COMMAND, 'start', '--json'], {
    env: {
      PATH: process.env.PATH,
      HOME: process.env.HOME,
      DATABASE_URL: options.databaseUrl,
      MICRODOLLAR_DATA_DIR: options.dataDir,
      MICRODOLLAR_ADMIN_KEY: options.adminKey,
      PORT: String(options.port),
      LOG_LEVEL: 'error',
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const ended = once(child, 'close').then(([status, signal]) => status ?? signal);
  let errors = '';
  child.stderr.on('data', (data) => {
    errors += data;
  });
  let output = '';
  const url = await new Promise<string>((resolve, reject) => {
    child.stdout.on('data', (data) => {
      output += data;
      const ready = /"url":\s*"([^"]+)"/.exec(output)?.[1];
      if (ready !== undefined) resolve(ready);
    });
    ended.then((status) => reject(new Error(`start ended (${status}): ${output}${errors}`)));
  });
  return {
    url,
    child,
    end(signal) {
      child.kill(signal);
      return ended;
    },
  };
}
